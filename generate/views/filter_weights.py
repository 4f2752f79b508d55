"""The file of a learned filter: safetensors with keys ``convs.{l}.weight``, ``convs.{l}.bias``, ``out.weight``, ``out.bias``.

All float32. Metadata, all of them strings: ``genrep`` = ``filter/1``; ``height`` and ``width`` of the images that it scores;
and how it came to be: ``gen``, ``data``, ``images`` (real ones shown).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from genrep.errors import WeightsError
from genrep.files import sha256_file, write_atomic
from genrep.tensor_files import safetensors_bytes

from ..generators.checkpoint import Checkpoint, read_safetensors
from .filter_network import MIN_SIDE, Scorer, map_size

FORMAT = "filter/1"
FILTER_FILE = "filter.safetensors"
MAX_SIDE = 8192  # pixels


@dataclass(frozen=True, kw_only=True)
class FilterFacts:
    """What a file says of its discriminator besides the numbers."""

    gen: str = ""
    data: str = ""
    images: str = ""


@dataclass(frozen=True, kw_only=True)
class LoadedFilter:
    """A discriminator on the CPU, frozen, and where it came from."""

    scorer: Scorer
    facts: FilterFacts
    path: Path
    sha256: str  # of the file
    digest: str  # of the tensors, whatever contains them: the identity


def save_filter(path: Path, scorer: Scorer, facts: FilterFacts) -> None:
    """Write a discriminator, whole or not at all. The same one and the same facts give the same bytes."""
    shape = {"height": str(scorer.height), "width": str(scorer.width)}
    write_atomic(path, safetensors_bytes(scorer.state_dict(), {"genrep": FORMAT, **shape, **vars(facts)}))


def load_filter(path: Path) -> LoadedFilter:
    """Read a discriminator from its file, or from the run folder that holds it.

    Raises:
        WeightsError: there is none, or the file is not a complete filter.
    """
    if path.is_dir():
        path = path / FILTER_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: no such filter; a finished run of fit-filter writes {FILTER_FILE}")
    tensors, metadata = read_safetensors(path)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"{path}: its metadata say genrep = {metadata.get('genrep')!r}, wanted {FORMAT!r}")
    height, width = (_side(metadata, name, path) for name in ("height", "width"))
    scorer = Scorer(height, width, _channels(tensors, height, width, path))
    scorer.load_state_dict(tensors)
    return LoadedFilter(
        scorer=scorer.eval().requires_grad_(False),
        facts=FilterFacts(**{name: metadata.get(name, "") for name in ("gen", "data", "images")}),
        path=path,
        sha256=sha256_file(path),
        digest=Checkpoint(family=FORMAT, tensors=tensors).digest(),
    )


def _side(metadata: dict[str, str], name: str, path: Path) -> int:
    text = metadata.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and MIN_SIDE <= int(text) <= MAX_SIDE):
        raise WeightsError(f"{path}: {name} {text[:20]!r}, wanted {MIN_SIDE} to {MAX_SIDE} pixels")
    return int(text)


def _channels(tensors: dict[str, Tensor], height: int, width: int, path: Path) -> tuple[int, ...]:
    """Widths of the convolutions. Raises WeightsError unless the tensors are a whole network for images of this size."""
    count = sum(name.startswith("convs.") and name.endswith(".weight") for name in tensors)
    names = [f"convs.{i}" for i in range(count)] + ["out"]
    wanted = {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}
    if not count or tensors.keys() != wanted:
        odd = sorted(tensors.keys() ^ wanted) or ["convs.0.weight"]
        raise WeightsError(
            f"{path}: tensor {odd[0]} is missing or unknown, wanted convs.N and out, weight and bias each"
        )
    channels = tuple(len(tensors[f"convs.{i}.bias"].flatten()) for i in range(count))
    shapes = {"out.weight": (1, channels[-1] * map_size(height, width, count - 1)), "out.bias": (1,)}
    for i, (before, after) in enumerate(zip((3, *channels), channels)):
        shapes |= {f"convs.{i}.weight": (after, before, 3, 3), f"convs.{i}.bias": (after,)}
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name]:
            raise WeightsError(f"{path}: tensor {name} of shape {tuple(tensor.shape)}, wanted {shapes[name]}")
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{path}: tensor {name} holds values that are no finite numbers")
    return channels
