"""StyleGAN2's weights written to the files that others keep them in.

Their classes exist only while a pickle is written, under the names that its authors' code has.
"""

import copyreg
import pickle
import re
import sys
import types
from collections import OrderedDict

import numpy as np
import torch

USUAL = (1, 3, 3, 1)


def _in_modules(classes):
    """Put stand-ins for others' classes where pickle looks for them."""
    for path, members in classes.items():
        parts = path.split(".")
        for i in range(len(parts)):
            sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
        for member in members:
            member.__module__, member.__qualname__ = path, member.__name__
            setattr(sys.modules[path], member.__name__, member)


def _forget(classes):
    for path in classes:
        for i in range(len(path.split("."))):
            sys.modules.pop(".".join(path.split(".")[: i + 1]), None)


def _write(path, content, classes, protocol):
    _in_modules(classes)
    try:
        path.write_bytes(pickle.dumps(content, protocol=protocol))
    finally:
        _forget(classes)
    return path


def write_tf(path, state, *, lod=0.0, version=4, growing=False, protocol=4, synthesis_extra=(), **static_kwargs):
    """(G, D, Gs) as TensorFlow's StyleGAN2 pickles them: G's variables are zeros. ``growing``: with names of config-d."""

    class Network:
        def __init__(self, fields):
            self.fields = fields

        def __reduce_ex__(self, protocol):
            return copyreg.__newobj__, (Network,), self.fields

    def network(name, variables, components=None):
        fields = {
            "version": version,
            "name": name,
            "static_kwargs": dict(static_kwargs),
            "components": components or {},
            "build_module_src": "# source removed",
            "build_func_name": "G_main",
            "variables": variables,
        }
        if version == 5:
            fields.update(input_shapes=[[None, 7]], output_shapes=[[None]], input_names=["z"], output_names=["i"])
        return Network(fields)

    def generator(name, change):
        variables = tf_variables(state, growing)
        own = [("lod", np.float32(lod)), ("dlatent_avg", change(variables.pop("dlatent_avg")))]
        parts = {}
        for part in ("synthesis", "mapping"):
            inside = [(n.removeprefix(f"{part}/"), change(v)) for n, v in variables.items() if n.startswith(f"{part}/")]
            if part == "synthesis":
                inside += list(synthesis_extra)
            parts[part] = network(f"G_{part}", inside)
        return network(name, own, parts)

    content = (generator("G", np.zeros_like), network("D", []), generator("Gs", lambda value: value))
    return _write(path, content, {"dnnlib.tflib.network": [Network]}, protocol)


def tf_variables(state, growing=False):
    """ADA's tensors as TensorFlow's variables."""
    last = max(int(name.split(".")[1][1:]) for name in state if name.startswith("synthesis.b"))
    found = {}
    for name, tensor in state.items():
        value, parts = tensor.numpy(), name.split(".")
        if name == "mapping.w_avg":
            found["dlatent_avg"] = value
        elif parts[0] == "mapping":
            layer = {"embed": "LabelEmbed", "concat": "LabelConcat"}.get(parts[1], parts[1].replace("fc", "Dense"))
            found[f"mapping/{layer}/{parts[2]}"] = np.ascontiguousarray(value.T)
        else:
            resolution = int(parts[1][1:])
            scope = f"synthesis/{resolution}x{resolution}"
            number = 2 * (resolution.bit_length() - 1) - (5 if parts[2] == "conv0" else 4)
            layer = {"conv0": "Conv0_up", "torgb": "ToRGB", "skip": "Skip"}.get(parts[2], "Conv1")
            layer = "Conv" if (resolution, parts[2]) == (4, "conv1") else layer
            if growing and layer == "ToRGB":
                scope, layer = "synthesis", f"ToRGB_lod{(last // resolution).bit_length() - 1}"
            if parts[2] == "const":
                found[f"{scope}/Const/const"] = value[None]
            elif parts[-1] == "noise_const":
                found[f"synthesis/noise{number}"] = value[None, None]
            elif parts[-2] == "affine":
                found[f"{scope}/{layer}/mod_{parts[-1]}"] = value.T if parts[-1] == "weight" else value - 1
            elif parts[-1] == "weight":
                turned = value[:, :, ::-1, ::-1] if parts[2] == "conv0" else value
                found[f"{scope}/{layer}/weight"] = np.ascontiguousarray(turned.transpose(2, 3, 1, 0))
            else:
                found[f"{scope}/{layer}/{parts[-1]}"] = np.float32(value) if value.ndim == 0 else value
    return found


def write_ada(path, states, *, taps=USUAL, attributes=None, protocol=4, wrap=True):
    """A snapshot of ADA in PyTorch: ``states`` by network name. ``attributes(module_name)`` adds to a module's own."""

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("never called")

    class Persistent:
        def __init__(self, name, fields):
            self.meta = {"type": "class", "version": 6, "module_src": "# source removed", "class_name": name}
            self.meta["state"] = fields

        def __reduce__(self):
            return _reconstruct_persistent_obj, (self.meta,)

    fir = torch.tensor(taps, dtype=torch.float32)
    fir = fir.outer(fir) if fir.dim() == 1 and len(fir) < 8 else fir
    fir = fir / fir.sum()

    def module(state, name):
        fields = {"training": False, "_parameters": OrderedDict(), "_buffers": OrderedDict(), "_modules": OrderedDict()}
        for key, tensor in state.items():
            head, _, rest = key.partition(".")
            if not rest:
                buffer = head in ("w_avg", "noise_const")
                fields["_buffers" if buffer else "_parameters"][head] = tensor if buffer else torch.nn.Parameter(tensor)
        for head in dict.fromkeys(key.split(".")[0] for key in state if "." in key):
            inside = {key.partition(".")[2]: tensor for key, tensor in state.items() if key.startswith(f"{head}.")}
            fields["_modules"][head] = module(inside, f"{name}.{head}".lstrip("."))
        if re.fullmatch(r"synthesis\.b\d+(\.conv[01]|\.skip)?", name):
            fields["_buffers"]["resample_filter"] = fir.clone()
        fields.update(attributes(name) if attributes else {})
        return Persistent("Anything", fields)

    networks = {name: None if state is None else module(state, "") for name, state in states.items()}
    content = {"training_set_kwargs": {}, **networks, "augment_pipe": None} if wrap else networks["G_ema"]
    return _write(path, content, {"torch_utils.persistence": [_reconstruct_persistent_obj]}, protocol)


def rosinality_state(state, *, taps=USUAL):
    """ADA's tensors under rosinality's names, without the mean of W."""
    fir = torch.tensor(taps, dtype=torch.float32)
    kernel = fir.outer(fir) / fir.sum() ** 2 * 4
    found = {}
    parts_of = {
        "weight": ("conv.weight", lambda value: value[None]),
        "affine.weight": ("conv.modulation.weight", lambda value: value),
        "affine.bias": ("conv.modulation.bias", lambda value: value),
        "noise_strength": ("noise.weight", lambda value: value.reshape(1)),
        "bias": ("activate.bias", lambda value: value),
    }
    for name, value in state.items():
        _, block, *rest = name.split(".")
        if name == "mapping.w_avg":
            continue
        if name.startswith("mapping.fc"):
            found[f"style.{int(block[2:]) + 1}.{rest[0]}"] = value
            continue
        level = int(block[1:]).bit_length() - 3
        if rest == ["const"]:
            found["input.input"] = value[None]
            continue
        number = 2 * level - (rest[0] == "conv0")
        if rest[1] == "noise_const":
            found[f"noises.noise_{number}"] = value[None, None]
            continue
        target, change = parts_of[".".join(rest[1:])]
        if rest[0] == "torgb":
            prefix = "to_rgb1" if level == 0 else f"to_rgbs.{level - 1}"
            if rest[1] == "bias":
                target, change = "bias", lambda value: value.reshape(1, -1, 1, 1)
            if level:
                found[f"{prefix}.upsample.kernel"] = kernel
        else:
            prefix = "conv1" if number == 0 else f"convs.{number - 1}"
            if rest[0] == "conv0":
                found[f"{prefix}.conv.blur.kernel"] = kernel
        found[f"{prefix}.{target}"] = change(value)
    return found
