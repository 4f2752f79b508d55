"""Linear walks in the latent space (GenRep section 3.2, after Jahanian et al. 2020): their file, and how far to walk.

The file is safetensors with one tensor per walk, ``(d,)`` or ``color`` ``(d, 3)``, and metadata ``genrep`` = ``walks/1``,
``dim`` = d. It may hold some of the walks only. ``z' = z + α_shift_x shift_x + ... + color @ (α_red, α_green, α_blue)``, where
α = 1 is 100 pixels of 256, 30 degrees in the plane, 60 in depth; zoom's is the logarithm of the field of view (positive makes
things small); colours' are levels in [-1, 1]. ``fit-steer`` adds ``generator``, what --gen named, and ``weights``, the digest
of its tensors, empty if it has none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep import seeding
from genrep.errors import WeightsError
from genrep.files import sha256_file, write_atomic

from .base import ViewFile

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

FORMAT = "walks/1"
WALKS_FILE = "walks.safetensors"


def _steps(count: int) -> Callable[[Floats], Floats]:
    """Uniform among the ``2 * count + 1`` multiples of ``1 / count`` in [-1, 1]."""
    return lambda u: (np.floor(u * (2 * count + 1)) - count) / count


def _log_zoom(u: Floats) -> Floats:
    """ln of U(1/4, 1) or of U(1, 4), with a coin in the first column: in, or out."""
    return seeding.log(np.where(u[:, :1] < 0.5, 0.25 + 0.75 * u[:, 1:], 1.0 + 3.0 * u[:, 1:]))


@dataclass(frozen=True, kw_only=True)
class WalkKind:
    """One kind of walk: how its strength α follows from uniforms of (0, 1)."""

    first: int  # uniform of the pair's stream: the same whichever other walks a file has
    uniforms: int
    alphas: Callable[[Floats], Floats]  # (B, uniforms) -> (B, strengths)
    strengths: int = 1


# GenRep's distributions, in units of the graph; rotate_3d is not multiplied by 5, as only its script for generation
# does. Brightness and hue are torchvision's ColorJitter(.4, .4, .4, .1), to which the released walks were fitted.
WALKS: dict[str, WalkKind] = {
    "rotate_3d": WalkKind(first=0, uniforms=1, alphas=_steps(6)),  # 10 degrees a step / 60
    "rotate_2d": WalkKind(first=1, uniforms=1, alphas=_steps(6)),  # 5 degrees a step / 30
    "zoom": WalkKind(first=2, uniforms=2, alphas=_log_zoom),  # ln of the factor, > 0 zooms out
    "shift_x": WalkKind(first=4, uniforms=1, alphas=_steps(10)),  # 10 pixels of 256 a step / 100
    "shift_y": WalkKind(first=5, uniforms=1, alphas=_steps(10)),
    "color": WalkKind(first=6, uniforms=3, alphas=lambda u: u - 0.5, strengths=3),  # of each channel in [-1, 1]
    "brightness": WalkKind(first=9, uniforms=1, alphas=lambda u: seeding.log(0.6 + 0.8 * u)),  # ln of the factor
    "hue": WalkKind(first=10, uniforms=1, alphas=lambda u: (u - 0.5) * 0.2),  # in turns
}
UNIFORMS = 11


@dataclass(frozen=True, kw_only=True)
class LoadedWalks:
    """The walks of a file, each ``(d, strengths)`` float64, and where they came from."""

    walks: dict[str, Floats]
    dim: int
    file: ViewFile


def save_walks(path: Path, walks: Mapping[str, NDArray[np.float32]], facts: Mapping[str, str]) -> Path:
    """Write walks, whole or not at all; ``facts`` go to the metadata."""
    import torch

    from genrep.tensor_files import safetensors_bytes

    dim = len(next(iter(walks.values())))
    metadata = {**facts, "genrep": FORMAT, "dim": str(dim)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(walk, dtype=np.float32)) for name, walk in walks.items()}
    write_atomic(path, safetensors_bytes(tensors, metadata))
    return path


def load_walks(path: Path) -> LoadedWalks:
    """Read a file of walks, or the one in a folder.

    Raises:
        WeightsError: there is no file, or it is not a file of walks.
    """
    from ..generators.base import Checkpoint, read_safetensors

    if path.is_dir():
        path = path / WALKS_FILE
    if not path.is_file():
        raise WeightsError(f"walks {path}: no such file; a finished run of fit-steer writes {WALKS_FILE}")
    tensors, metadata = read_safetensors(path)
    if metadata.get("genrep") != FORMAT:
        raise WeightsError(f"walks {path}: its metadata say genrep = {metadata.get('genrep')!r}, wanted {FORMAT!r}")
    if not tensors or not tensors.keys() <= WALKS.keys():
        odd = sorted(tensors.keys() - WALKS.keys())[:1]
        raise WeightsError(f"walks {path}: holds {odd or 'no walk'}, wanted some of {', '.join(WALKS)}")
    dim = metadata.get("dim", "")
    walks: dict[str, Floats] = {}
    for name, tensor in tensors.items():
        shape, wide = [str(side) for side in tensor.shape], WALKS[name].strengths
        if shape != ([dim] if wide == 1 else [dim, str(wide)]) or not tensor.numel():
            raise WeightsError(f"walks {path}: {name} has shape {tuple(tensor.shape)}, its metadata say dim = {dim!r}")
        walks[name] = tensor.double().numpy().reshape(-1, wide)
        if not np.isfinite(walks[name]).all():
            raise WeightsError(f"walks {path}: {name} holds NaN or infinity")
    digest = Checkpoint(family=FORMAT, tensors=tensors).digest()
    return LoadedWalks(walks=walks, dim=int(dim), file=ViewFile(digest=digest, path=path, sha256=sha256_file(path)))
