"""BigGAN-PyTorch's generator written out slowly in float64, under the names of its state dicts, and random states for it."""

from itertools import pairwise

import recipe
import torch
import torch.nn.functional as F


def random_state(
    channels=(16, 16, 8, 8),
    chunk=3,
    classes=5,
    class_width=4,
    hierarchical=True,
    shared=True,
    feature_dim=0,
    feature_width=0,
    use_classes=True,
    attention=(1,),
    norm="bn",  # "mybn", "sync" (BatchNorm2d without weights), "sync-affine" (IC-GAN's for the output)
    singular_values=1,
    seed=7,
):
    """A state dict as the original would save it. ``chunk`` is all of z if it is not hierarchical."""
    condition = (use_classes * class_width if shared else classes) + feature_width + hierarchical * chunk
    shapes = {}

    def layer(name, *shape, bias=True, normalised=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]
        for i in range(singular_values if normalised else 0):
            shapes.update({f"{name}.u{i}": (1, shape[0]), f"{name}.sv{i}": (1,)})

    def statistics(name, width):
        inner = {"bn": name, "mybn": f"{name}.bn", "sync": f"{name}.bn", "sync-affine": f"{name}.bn"}[norm]
        kind = "running" if norm.startswith("sync") else "stored"
        shapes.update({f"{inner}.{kind}_mean": (width,), f"{inner}.{kind}_var": (width,)})
        if norm == "mybn":
            shapes[f"{inner}.accumulation_counter"] = (1,)

    if shared:
        shapes["shared.weight"] = (classes, class_width)
    if feature_dim:
        layer("shared_feat", feature_width or 6, feature_dim)
    layer("linear", channels[0] * 16, chunk)
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        name = f"blocks.{i}.0"
        layer(f"{name}.conv1", c_out, c_in, 3, 3)
        layer(f"{name}.conv2", c_out, c_out, 3, 3)
        layer(f"{name}.conv_sc", c_out, c_in, 1, 1)
        for bn, width in (("bn1", c_in), ("bn2", c_out)):
            for part in ("gain", "bias"):
                shape = (width, condition) if shared else (classes, width)
                layer(f"{name}.{bn}.{part}", *shape, bias=False, normalised=shared)
            statistics(f"{name}.{bn}", width)
        if i in attention:
            widths = {"theta": (c_out // 8, c_out), "phi": (c_out // 8, c_out), "g": (c_out // 2, c_out)}
            for part, shape in (widths | {"o": (c_out, c_out // 2)}).items():
                layer(f"blocks.{i}.1.{part}", *shape, 1, 1, bias=False)
            shapes[f"blocks.{i}.1.gamma"] = ()
    affine = ("output_layer.0.bn.weight", "output_layer.0.bn.bias")
    plain = ("output_layer.0.gain", "output_layer.0.bias")
    shapes |= dict.fromkeys(affine if norm == "sync-affine" else plain, (channels[-1],))
    statistics("output_layer.0", channels[-1])
    layer("output_layer.2", 3, channels[-1], 3, 3)
    rules = [(r".*running_mean", "n", 0.3, 0.0), (r".*running_var", "p", 0.4, 1.0), *recipe.BIGGAN_AJ]
    state = {key: torch.from_numpy(value.copy()) for key, value in recipe.fill(shapes, seed, rules).items()}
    return {key: value * 16 if norm == "mybn" and ".stored_" in key else value for key, value in state.items()}


def plain_images(state, z, condition=None, labels=None, *, bn_eps=1e-5, sn_eps=1e-6):
    """The images. condition ``(B, width)``: what the blocks get besides z; without shared embeddings, labels ``(B,)``."""
    state, z = {key: value.double() for key, value in state.items()}, z.double()
    chunk = state["linear.weight"].shape[1]
    blocks = len({key.split(".")[1] for key in state if key.startswith("blocks.")})
    conditions = [condition if condition is None else condition.double()] * blocks
    if condition is not None and state["blocks.0.0.bn1.gain.weight"].shape[1] == condition.shape[1] + chunk:
        pieces = z.split(chunk, 1)
        conditions = [torch.cat([conditions[0], piece], 1) for piece in pieces[1 : blocks + 1]]
        z = pieces[0]

    def weight(name):
        w = state[f"{name}.weight"]
        if f"{name}.u0" not in state:
            return w
        matrix = w.reshape(len(w), -1)
        v = F.normalize(state[f"{name}.u0"] @ matrix, eps=sn_eps)
        u = F.normalize(v @ matrix.T, eps=sn_eps)
        return w / (v @ matrix.T @ u.T).squeeze()

    def normalise(x, name, eps):
        inner = f"{name}.bn" if f"{name}.bn.stored_mean" in state or f"{name}.bn.running_mean" in state else name
        kind = "running" if f"{inner}.running_mean" in state else "stored"
        count = state.get(f"{inner}.accumulation_counter", torch.ones(1).double())
        mean, var = (state[f"{inner}.{kind}_{part}"] / count for part in ("mean", "var"))
        return (x - mean[:, None, None]) / (var[:, None, None] + eps).sqrt()

    def conditional(x, name, c):
        def of(part):
            key = f"{name}.{part}"
            found = state[f"{key}.weight"][labels] if c is None else c @ weight(key).T
            return found[:, :, None, None]

        return normalise(x, name, bn_eps) * (1 + of("gain")) + of("bias")

    def twice(x):
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def conv(x, name):
        return F.conv2d(x, weight(name), state.get(f"{name}.bias"), padding=state[f"{name}.weight"].shape[-1] // 2)

    h = (z @ weight("linear").T + state["linear.bias"]).reshape(len(z), -1, 4, 4)
    for i in range(blocks):
        name, c = f"blocks.{i}.0", conditions[i]
        inner = conv(twice(conditional(h, f"{name}.bn1", c).relu()), f"{name}.conv1")
        h = conv(conditional(inner, f"{name}.bn2", c).relu(), f"{name}.conv2") + conv(twice(h), f"{name}.conv_sc")
        name = f"blocks.{i}.1"
        if f"{name}.gamma" in state:
            query = conv(h, f"{name}.theta").flatten(2)
            key, value = (F.max_pool2d(conv(h, f"{name}.{part}"), 2).flatten(2) for part in ("phi", "g"))
            seen = (query.transpose(1, 2) @ key).softmax(2) @ value.transpose(1, 2)
            seen = seen.transpose(1, 2).reshape(len(h), -1, *h.shape[2:])
            h = h + state[f"{name}.gamma"] * conv(seen, f"{name}.o")
    own = "output_layer.0.bn" if "output_layer.0.bn.weight" in state else "output_layer.0"
    gain = state[f"{own}.weight" if own.endswith("bn") else f"{own}.gain"]
    h = normalise(h, "output_layer.0", 1e-5) * gain[:, None, None] + state[f"{own}.bias"][:, None, None]
    return conv(h.relu(), "output_layer.2").tanh().float()


def embedded_features(state, features, sn_eps=1e-6):
    """IC-GAN's ``shared_feat`` of features ``(B, d)``."""
    matrix, u = state["shared_feat.weight"].double(), state["shared_feat.u0"].double()
    v = F.normalize(u @ matrix, eps=sn_eps)
    u = F.normalize(v @ matrix.T, eps=sn_eps)
    return features.double() @ (matrix / (v @ matrix.T @ u.T)).T + state["shared_feat.bias"]
