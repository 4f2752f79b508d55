"""State dicts of the BigGAN-PyTorch graph: one set of names, and the sizes and options that follow from the tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from genrep.errors import WeightsError

from ..base import Checkpoint
from ..found_network import FoundNetwork, find_network

# Not part of the function in eval mode: logged singular values, further singular vectors, counters of PyTorch's own BN.
UNUSED = re.compile(r".*\.(sv\d+|u[1-9]\d*|num_batches_tracked)")
MARKS = ("linear.weight", "blocks.0.0.conv1.weight", "blocks.0.0.conv_sc.weight", "output_layer.2.weight")
DEEP_MARK = "blocks.0.0.conv4.weight"
OUTPUT_BN_EPS = 1e-5  # the output's BN is built without the option that sets the others'


class Misfit(Exception):
    """Tensors or settings do not belong to a generator; the message does not name the file."""


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Turn a Misfit into a WeightsError that begins with ``where``."""
    try:
        yield
    except Misfit as error:
        raise WeightsError(f"{where}: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the network that are not in its tensors; None = inferred from the tensors' shapes."""

    bn_eps: float = 1e-5
    sn_eps: float = 1e-6
    hierarchical: bool | None = None  # z enters in chunks, block by block
    class_conditional: bool | None = None
    instance_conditional: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """The settings in the form of a checkpoint's config."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> Settings:
        """Raises Misfit if a checkpoint's config holds anything else."""
        for name, value in config.items():
            if name not in cls.__dataclass_fields__:
                raise Misfit(f"config has {name!r}; known: {', '.join(cls.__dataclass_fields__)}")
            if name.endswith("_eps"):
                if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
                    raise Misfit(f"config {name} is {value!r}, wanted a number in [0, 1)")
            elif not isinstance(value, bool):
                raise Misfit(f"config {name} is {value!r}, wanted true or false")
        return cls(**config)


@dataclass(frozen=True, kw_only=True)
class NetworkSizes:
    """Sizes of a network."""

    bottom: int  # height and width of the first feature map
    channels: tuple[int, ...]  # in front of the first block and behind each
    attention: frozenset[int]  # blocks that an attention layer follows
    z_width: int  # of the (first) linear layer
    hierarchical: bool
    num_classes: int  # rows of the class embedding, 0 = not conditioned on classes
    class_width: int
    shared_classes: bool  # one embedding for all blocks; otherwise class_width = num_classes (one-hot)
    feature_dim: int  # of an instance's features, 0 = not conditioned on instances
    feature_width: int

    @property
    def blocks(self) -> int:
        """Number of blocks, each of which doubles the resolution."""
        return len(self.channels) - 1

    @property
    def resolution(self) -> int:
        """Height and width of the images."""
        return self.bottom << self.blocks

    @property
    def chunks(self) -> tuple[int, ...]:
        """Sizes of the parts of z in the order in which they enter; one that enters whole is one chunk."""
        return (self.z_width,) * (self.blocks + 1 if self.hierarchical else 1)

    @property
    def condition_width(self) -> int:
        """Width of a block's condition besides its chunk of z."""
        return self.class_width + self.feature_width


def looks_like_biggan(content: object, where: str, network: str | None = None) -> FoundNetwork | None:
    """The network in a file that has the marks of this graph's generator, below any prefix; else None. See ``find_network``."""
    return find_network(content, MARKS, where, every=True, network=network)


def canonical(names: Mapping[str, object]) -> dict[str, Tensor]:
    """One set of names for all variants of the graph: float32, statistics as ``stored_mean`` and ``stored_var``.

    ``mybn`` keeps sums of batch statistics and their count (standing statistics): divided here. Cross-replica BN keeps
    PyTorch's names, in IC-GAN's copy for the output's gain and bias too. It is read as what it was trained as,
    ``gain * normalised + bias``.
    """
    state: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for name, value in names.items():
        if UNUSED.fullmatch(name):
            continue
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise Misfit(f"{name} is not a tensor of floating-point numbers")
        tensor = value.detach().float()
        name = name.replace("output_layer.0.bn.weight", "output_layer.0.gain")
        name = name.replace("output_layer.0.bn.bias", "output_layer.0.bias")
        if name.endswith(".bn.accumulation_counter"):
            counts[name.removesuffix("bn.accumulation_counter")] = tensor
            continue
        name = re.sub(r"\.bn\.(?:stored|running)_(mean|var)$", r".stored_\1", name)
        if name in state:
            raise Misfit(f"{name} appears twice")
        state[name] = tensor
    for prefix, count in counts.items():
        for name in (f"{prefix}stored_mean", f"{prefix}stored_var"):
            if name in state and count.numel() == 1 and float(count) > 0:
                state[name] = state[name] / count.reshape(())
    return state


def normalised(state: Mapping[str, Tensor], name: str, sn_eps: float) -> Tensor:
    """A weight divided by its spectral norm: one power step from the stored u (Miyato et al. 2018, algorithm 1).

    In eval mode the original repeats this step from the same u at every call. Without a u the weight is as it stands.
    """
    weight, u = state[f"{name}.weight"], state.get(f"{name}.u0")
    if u is None:
        return weight
    matrix = weight.flatten(1)
    v = torch.nn.functional.normalize(u @ matrix, eps=sn_eps)
    u = torch.nn.functional.normalize(v @ matrix.t(), eps=sn_eps)
    norm = (v @ matrix.t() @ u.t()).reshape(())
    if not float(norm) > 0:
        raise Misfit(f"the spectral norm of {name}.weight is {float(norm)}")
    return weight / norm


def infer_layout(state: Mapping[str, Tensor], settings: Settings) -> tuple[NetworkSizes, Settings]:
    """Sizes of the network that a canonical state describes, and the settings without doubts.

    Raises:
        Misfit: tensors are missing, do not fit together, or do not fit the settings.
    """
    try:
        first = state["blocks.0.0.conv1.weight"]
        count = next(i for i in range(len(state)) if f"blocks.{i}.0.conv1.weight" not in state)
        channels = (first.shape[1], *(state[f"blocks.{i}.0.conv1.weight"].shape[0] for i in range(count)))
        rows, z_width = state["linear.weight"].shape
        gain = state["blocks.0.0.bn1.gain.weight"]
        settings = _conditioning(state, gain, z_width, settings)
        table = state.get("shared.weight") if settings.class_conditional else None
        feature = state["shared_feat.weight"] if settings.instance_conditional else None
    except (KeyError, ValueError, IndexError) as error:
        raise Misfit(f"not those of a BigGAN generator ({error})") from None
    bottom = math.isqrt(rows // max(channels[0], 1))
    if bottom == 0 or rows != channels[0] * bottom**2:
        raise Misfit(f"linear.weight has {rows} rows, wanted {channels[0]} times a square")
    num_classes = (gain if table is None else table).shape[0] if settings.class_conditional else 0
    layout = NetworkSizes(
        bottom=bottom,
        channels=channels,
        attention=frozenset(i for i in range(count) if f"blocks.{i}.1.theta.weight" in state),
        z_width=z_width,
        hierarchical=bool(settings.hierarchical),
        num_classes=num_classes,
        class_width=num_classes if table is None else table.shape[1],
        shared_classes=table is not None,
        feature_dim=0 if feature is None else feature.shape[1],
        feature_width=0 if feature is None else feature.shape[0],
    )
    return layout, settings


def _conditioning(state: Mapping[str, Tensor], gain: Tensor, z_width: int, settings: Settings) -> Settings:
    """Which of chunk, class embedding and instance features make up the width of a block's condition."""
    choices = (settings.hierarchical, settings.class_conditional, settings.instance_conditional)
    if "shared.weight" not in state and "shared_feat.weight" not in state:
        fits = [(False, True, False)]  # an embedding of gains and biases per class and layer
    else:
        classes = state["shared.weight"].shape[1] if "shared.weight" in state else 0
        features = state["shared_feat.weight"].shape[0] if "shared_feat.weight" in state else 0
        fits = [
            (hierarchical, by_class, by_instance)
            for hierarchical in (True, False)  # the published ones are hierarchical, which decides in doubt
            for by_class, by_instance in ((False, True), (True, True), (True, False))
            if (classes or not by_class) and (features or not by_instance)
            if gain.shape[1] == hierarchical * z_width + by_class * classes + by_instance * features
        ]
    agreed = [fit for fit in fits if all(want in (None, got) for want, got in zip(choices, fit, strict=True))]
    if not agreed:
        allowed = " that the settings allow" if fits else ""
        raise Misfit(
            f"blocks take conditions of width {gain.shape[1]}, not the width of a chunk plus embeddings{allowed}"
        )
    hierarchical, by_class, by_instance = agreed[0]
    return replace(settings, hierarchical=hierarchical, class_conditional=by_class, instance_conditional=by_instance)


def expected_shapes(layout: NetworkSizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a canonical state's tensors, without the vectors u0 of spectral norms."""
    condition = layout.condition_width + (layout.z_width if layout.hierarchical else 0)
    first = layout.channels[0] * layout.bottom**2
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (first, layout.z_width), "linear.bias": (first,)}
    if layout.shared_classes:
        shapes["shared.weight"] = (layout.num_classes, layout.class_width)
    if layout.feature_dim:
        shapes["shared_feat.weight"] = (layout.feature_width, layout.feature_dim)
        shapes["shared_feat.bias"] = (layout.feature_width,)
    for i, (c_in, c_out) in enumerate(zip(layout.channels, layout.channels[1:], strict=False)):
        block = f"blocks.{i}.0"
        for conv, c, size in (("conv1", c_in, 3), ("conv2", c_out, 3), ("conv_sc", c_in, 1)):
            shapes |= {f"{block}.{conv}.weight": (c_out, c, size, size), f"{block}.{conv}.bias": (c_out,)}
        for bn, c in (("bn1", c_in), ("bn2", c_out)):
            linear = (c, condition) if layout.shared_classes or layout.feature_dim else (condition, c)
            shapes |= {f"{block}.{bn}.gain.weight": linear, f"{block}.{bn}.bias.weight": linear}
            shapes |= {f"{block}.{bn}.stored_mean": (c,), f"{block}.{bn}.stored_var": (c,)}
        if i in layout.attention:
            keys, values = c_out // 8, c_out // 2
            for name, shape in (
                ("theta", (keys, c_out)),
                ("phi", (keys, c_out)),
                ("g", (values, c_out)),
                ("o", (c_out, values)),
            ):
                shapes[f"blocks.{i}.1.{name}.weight"] = (*shape, 1, 1)
            shapes[f"blocks.{i}.1.gamma"] = ()
    last = layout.channels[-1]
    shapes |= {f"output_layer.0.{name}": (last,) for name in ("gain", "bias", "stored_mean", "stored_var")}
    return shapes | {"output_layer.2.weight": (3, last, 3, 3), "output_layer.2.bias": (3,)}


def check_state(state: Mapping[str, Tensor], layout: NetworkSizes) -> None:
    """Raises Misfit, in one line, if a tensor is missing, unknown or of another shape than the layout's."""
    shapes = expected_shapes(layout)
    for name in sorted(shapes.keys() - state.keys()):
        raise Misfit(f"{name} is missing")
    for name, tensor in state.items():
        weight = shapes.get(name.removesuffix(".u0") + ".weight") if name.endswith(".u0") else None
        wanted = (1, weight[0]) if weight else shapes.get(name)
        if wanted is None:
            raise Misfit(f"{name} does not belong to the BigGAN generator that the other tensors describe")
        if tuple(tensor.shape) != wanted:
            raise Misfit(f"{name} has shape {tuple(tensor.shape)}, wanted {wanted}")


def convert(family: str, found: FoundNetwork, settings: Settings) -> Checkpoint:
    """The checkpoint of a file's network, without the tensors that its function does not use. Raises Misfit."""
    state = canonical(found.tensors)
    layout, settings = infer_layout(state, settings)
    unused = ("" if layout.shared_classes else "shared.", "" if layout.feature_dim else "shared_feat.")
    state = {name: tensor for name, tensor in state.items() if not name.startswith(tuple(filter(None, unused)))}
    check_state(state, layout)
    return Checkpoint(family=family, tensors=state, config=settings.to_json(), notes=found.notes(found.tensors))
