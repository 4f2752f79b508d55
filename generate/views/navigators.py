"""T, the network of a navigator (COP-Gen's NonlinearWalk and LinearWalk, HL's NonlinearWalker), and its file.

The file is safetensors with keys ``layers.{l}.weight`` (out, in) and ``layers.{l}.bias``. Metadata, all of them strings:
``genrep`` = ``navigator/1``; ``activation`` = ``relu`` or ``none`` (between the layers); ``chunks`` and ``layers`` = ``1-5``
or empty; ``dim`` = F; ``max_distance`` = δ of the projection or empty; and where they are known ``latent`` (the generator's
law as JSON), ``gen``, ``samples``, ``loss_f``.
"""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from genrep.errors import RecipeError, WeightsError
from genrep.files import canonical_json, sha256_file, write_atomic
from genrep.seeding import derive
from genrep.tensor_files import safetensors_bytes

from ..generators.base import LatentSpec, read_safetensors
from .base import parse_range

FORMAT = "navigator/1"
NAVIGATOR_FILE = "navigator.safetensors"
ACTIVATIONS = ("relu", "none")
ROUNDING = 1e-6  # fraction of δ kept free, so that float32 cannot round T(z) out of the ball
SMALL_WEIGHT_STD, SMALL_BIAS = 0.01, 0.001  # HL: T(z) starts near 0


class Walk(nn.Module):
    """``z -> T(z)``: linear layers with ReLU between them or nothing, projected on a ball if there is a constraint.

    With ``max_distance`` δ the result is ``T(z) · min(1, δ / ‖T(z)‖₂)``: the constraint d(z, z') <= δ of COP-Gen's eq. 4
    holds for every z, at every moment of training, and the gradient goes through the projection.

    Shape: ``(B, F) -> (B, F)``.
    """

    def __init__(self, widths: tuple[int, ...], *, activation: str = "relu", max_distance: float | None = None) -> None:
        super().__init__()
        self.activation = activation  # "relu" or "none"
        self.max_distance = max_distance
        self.dim = widths[0]  # F: how many components of the latent go in, and out
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in itertools.pairwise(widths))

    def forward(self, z: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            if i and self.activation == "relu":
                z = z.relu()
            z = layer(z)
        if self.max_distance is None:
            return z
        limit = self.max_distance * (1 - ROUNDING)
        # The divisor is at least the limit, so that T(z) = 0 has a gradient too.
        return z * (limit / torch.linalg.vector_norm(z, dim=1, keepdim=True).clamp(min=limit))


def new_walk(
    dim: int, *, walk: str, reduction: int = 1, init: str = "torch", max_distance: float | None = None, seed: int
) -> Walk:
    """A fresh T with ``dim // reduction`` hidden units (at least one).

    ``init``: ``torch`` is the default of ``nn.Linear``, U(±1/√fan_in), which alone gives COP-Gen's T(z) a standard
    deviation of .21; ``small`` is HL's, N(0, .01) for weights and U(±.001) for biases, whose T(z) is nearly 0.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive("navigator-init", seed))
        network = Walk(
            (dim, max(dim // reduction, 1), dim),
            activation="relu" if walk == "mlp" else "none",
            max_distance=max_distance,
        )
        if init == "small":
            for layer in network.layers:
                assert isinstance(layer, nn.Linear)
                nn.init.normal_(layer.weight, std=SMALL_WEIGHT_STD)
                nn.init.uniform_(layer.bias, -SMALL_BIAS, SMALL_BIAS)
    return network


@dataclass(frozen=True, kw_only=True)
class WalkFacts:
    """Metadata of T's file."""

    chunks: str = ""
    layers: str = ""
    latent: LatentSpec | None = None
    gen: str = ""
    samples: int | None = None  # anchors seen in training
    loss_f: float | None = None  # mean over the last window of training


@dataclass(frozen=True, kw_only=True)
class LoadedWalk:
    """T on the CPU, its facts, and where it came from."""

    walk: Walk
    facts: WalkFacts
    path: Path
    sha256: str  # of the file


def save_walk(path: Path, walk: Walk, facts: WalkFacts) -> None:
    """Write T, whole or not at all. The same T and facts give the same bytes."""
    metadata = {
        "format": "pt",
        "genrep": FORMAT,
        "activation": walk.activation,
        "chunks": facts.chunks,
        "layers": facts.layers,
        "dim": str(walk.dim),
        "max_distance": "" if walk.max_distance is None else repr(float(walk.max_distance)),
        "latent": "" if facts.latent is None else canonical_json(facts.latent.to_json()).decode(),
        "gen": facts.gen,
        "samples": "" if facts.samples is None else str(facts.samples),
        "loss_f": "" if facts.loss_f is None else repr(facts.loss_f),
    }
    write_atomic(path, safetensors_bytes(walk.state_dict(), metadata))


def load_walk(path: Path) -> LoadedWalk:
    """Read T from its file, or from the run folder that holds it.

    Raises:
        WeightsError: there is no file, or it is not a complete navigator.
    """
    if path.is_dir():
        path = path / NAVIGATOR_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: no such navigator; a finished run of fit-navigator writes {NAVIGATOR_FILE}")
    tensors, metadata = read_safetensors(path)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"{path}: its metadata say genrep = {metadata.get('genrep')!r}, wanted {FORMAT!r}")
    activation = metadata.get("activation")
    if activation not in ACTIVATIONS:
        raise WeightsError(f"{path}: activation {activation!r}, wanted one of {', '.join(ACTIVATIONS)}")
    with torch.device("meta"):  # values come from the file; torch's own random ones would be drawn in vain
        walk = Walk(_widths(tensors, path), activation=activation, max_distance=_number(metadata, "max_distance", path))
    if metadata.get("dim") != str(walk.dim):
        raise WeightsError(f"{path}: dim {metadata.get('dim')!r}, but its layers take {walk.dim} values")
    walk.load_state_dict(tensors, assign=True)
    return LoadedWalk(
        walk=walk.eval().requires_grad_(False), facts=_facts(metadata, path), path=path, sha256=sha256_file(path)
    )


def _widths(tensors: dict[str, Tensor], path: Path) -> tuple[int, ...]:
    """F, the hidden widths, F. Raises WeightsError unless the tensors are layers that fit each other."""
    count = sum(name.endswith(".weight") for name in tensors)
    wanted = {f"layers.{i}.{kind}" for i in range(count) for kind in ("weight", "bias")}
    if not count or tensors.keys() != wanted:
        odd = sorted(tensors.keys() ^ wanted) or ["layers.0.weight"]
        raise WeightsError(f"{path}: tensor {odd[0]} is missing or unknown, wanted layers.N.weight and layers.N.bias")
    weights = [tensors[f"layers.{i}.weight"] for i in range(count)]
    shapes = [tuple(weight.shape) for weight in weights]
    if any(len(shape) != 2 for shape in shapes):
        raise WeightsError(f"{path}: weights of shapes {shapes}, wanted (out, in)")
    widths = (shapes[0][1], *(shape[0] for shape in shapes))
    fits = all(shape[1] == before for shape, before in zip(shapes, widths)) and widths[0] == widths[-1]
    biases = all(tuple(tensors[f"layers.{i}.bias"].shape) == (widths[i + 1],) for i in range(count))
    if not fits or not biases:
        raise WeightsError(f"{path}: layers of shapes {shapes} do not lead from F values to F values")
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{path}: tensor {name} holds NaN or infinity")
    return widths


def _number(metadata: dict[str, str], name: str, path: Path) -> float | None:
    text = metadata.get(name, "")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise WeightsError(f"{path}: {name} {text!r}, wanted a positive number")
    return value


def _facts(metadata: dict[str, str], path: Path) -> WalkFacts:
    latent: LatentSpec | None = None
    try:
        for name in ("chunks", "layers"):
            if metadata.get(name):
                parse_range(metadata[name], name)
        if metadata.get("latent"):
            latent = LatentSpec.from_json(json.loads(metadata["latent"]))
        samples = int(metadata["samples"]) if metadata.get("samples") else None
    except (RecipeError, ValueError, KeyError, TypeError, IndexError) as error:
        raise WeightsError(f"{path}: its metadata cannot be read ({error})") from None
    return WalkFacts(
        chunks=metadata.get("chunks", ""),
        layers=metadata.get("layers", ""),
        latent=latent,
        gen=metadata.get("gen", ""),
        samples=samples,
        loss_f=_number(metadata, "loss_f", path),
    )
