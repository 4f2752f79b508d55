"""The file of a learned T: safetensors with keys ``layers.{l}.weight`` (out, in) and ``layers.{l}.bias``.

Metadata, all of them strings: ``genrep`` = ``navigator/1``; ``activation`` = ``relu`` or ``none`` (between the layers);
``chunks`` and ``layers`` = ``1-5`` or empty; ``dim`` = F; ``max_distance`` = δ of the projection or empty; and where they
are known ``latent`` (the generator's law as JSON), ``gen``, ``samples``, ``loss_f``.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genrep.errors import RecipeError, WeightsError
from genrep.files import canonical_json, sha256_file, write_atomic
from genrep.tensor_files import safetensors_bytes

from ..generators.base import LatentSpec
from ..generators.checkpoint import read_safetensors
from .navigator_network import Walk
from .ranges import parse_range

FORMAT = "navigator/1"
NAVIGATOR_FILE = "navigator.safetensors"
ACTIVATIONS = ("relu", "none")


@dataclass(frozen=True, kw_only=True)
class WalkFacts:
    """What a file says of its T besides the numbers."""

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
        WeightsError: there is none, or the file is not a complete navigator.
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
            raise WeightsError(f"{path}: tensor {name} holds values that are no finite numbers")
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
            law = json.loads(metadata["latent"])
            latent = LatentSpec(
                dim=law["shape"][0],
                chunks=tuple(law["chunks"]),
                law=law["law"],
                truncation=law["truncation"],
                scale=law["scale"],
            )
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
