"""The file of learned walks: safetensors with keys shift_x, shift_y, zoom, rotate_2d, rotate_3d ``(d,)`` and color ``(d, 3)``.

``z' = z + α_shift_x shift_x + ... + color @ (α_red, α_green, α_blue)``, with the α of alphas.py: 1 is 100 pixels of 256, 30
degrees in the plane, 60 in depth; zoom's is the logarithm of the field of view (positive makes things small); colours' are
levels in [-1, 1]. Metadata, all of them strings: ``genrep`` = ``walks/1``, ``dim`` = d, ``generator`` = what --gen named,
``weights`` = the digest of its tensors, empty if it has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from genrep.errors import WeightsError
from genrep.files import sha256_file, write_atomic
from genrep.tensor_files import safetensors_bytes

from ..generators.checkpoint import read_safetensors
from .steering_targets import COLOR, ROWS

FORMAT = "walks/1"
WALKS_FILE = "walks.safetensors"
KEYS = (*ROWS[: COLOR.start], "color")


@dataclass(frozen=True, kw_only=True)
class LoadedWalks:
    """Walks on the CPU, and where they came from."""

    walks: Tensor  # (8, d) float32, a row for each of alphas.ROWS
    generator: str
    weights: str | None  # digest of the generator's tensors
    path: Path
    sha256: str  # of the file


def save_walks(path: Path, walks: Tensor, *, generator: str, weights: str | None) -> None:
    """Write walks ``(8, d)``, whole or not at all. The same walks give the same bytes."""
    rows = walks.detach().float().cpu()
    tensors = {name: rows[i] for i, name in enumerate(ROWS[: COLOR.start])}
    metadata = {"format": "pt", "genrep": FORMAT, "dim": str(rows.shape[1]), "generator": generator}
    write_atomic(path, safetensors_bytes({**tensors, "color": rows[COLOR].T}, {**metadata, "weights": weights or ""}))


def load_walks(path: Path) -> LoadedWalks:
    """Read walks from their file, or from the run folder that holds it.

    Raises:
        WeightsError: there is none, or the file does not hold all six walks of one size.
    """
    if path.is_dir():
        path = path / WALKS_FILE
    if not path.is_file():
        raise WeightsError(f"{path}: no such walks; a finished run of fit-steer writes {WALKS_FILE}")
    tensors, metadata = read_safetensors(path)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"{path}: its metadata say genrep = {metadata.get('genrep')!r}, wanted {FORMAT!r}")
    if tensors.keys() != set(KEYS):
        odd = sorted(tensors.keys() ^ set(KEYS))[0]
        raise WeightsError(f"{path}: tensor {odd} is missing or unknown, wanted {', '.join(KEYS)}")
    dim = tensors["shift_x"].numel()
    if metadata.get("dim") != str(dim):
        raise WeightsError(f"{path}: dim {metadata.get('dim')!r}, but its walks have {dim} components")
    for name, tensor in tensors.items():
        wanted = (dim, 3) if name == "color" else (dim,)
        if tuple(tensor.shape) != wanted:
            raise WeightsError(f"{path}: tensor {name} of shape {tuple(tensor.shape)}, wanted {wanted}")
        if not tensor.is_floating_point() or not bool(tensor.isfinite().all()):
            raise WeightsError(f"{path}: tensor {name} holds values that are no finite numbers")
    rows = [tensors[name] for name in KEYS[:-1]]
    return LoadedWalks(
        walks=torch.cat([torch.stack(rows), tensors["color"].T]),
        generator=metadata.get("generator", ""),
        weights=metadata.get("weights") or None,
        path=path,
        sha256=sha256_file(path),
    )
