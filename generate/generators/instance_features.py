"""Instance features: the rows that an IC-GAN is conditioned on, from memory or from a file, L2-normalised."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import DataError, GenRepError
from genrep.files import user_path
from genrep.untrusted import CONTENT_FAULTS, one_line

FEATURES = ("features", "instance_features", "feats")
LABELS = "labels"


@dataclass(frozen=True, kw_only=True)
class InstanceFeatures:
    """One row per instance."""

    features: Tensor  # (N, d) float32, rows of L2 norm 1
    labels: Tensor | None = None  # (N,) int64, the classes of the instances

    def digest(self) -> str:
        """Hex sha256 over the normalised rows and the labels: part of the dataset's identity."""
        digest = hashlib.sha256(f"{tuple(self.features.shape)}".encode())
        digest.update(self.features.detach().cpu().numpy().astype("<f4").tobytes())
        if self.labels is not None:
            digest.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        return digest.hexdigest()


Source = InstanceFeatures | Tensor | NDArray[Any] | Mapping[str, Any] | str | os.PathLike[str]


def load_features(source: Source) -> InstanceFeatures:
    """Rows from an array ``(N, d)``, a mapping with ``features`` (and ``labels``), or a file that holds either.

    Files: ``.npy`` (an array, or the mapping with ``instance_features`` that IC-GAN publishes), ``.npz``, ``.safetensors``,
    ``.pt``. No code in a file is run. Rows are divided by their L2 norm.

    Raises:
        DataError: there is no such file, it holds no features, or a row cannot be normalised (zero, NaN, infinite).
    """
    if isinstance(source, InstanceFeatures):
        return source
    where = "features"
    if isinstance(source, (str, os.PathLike)):
        where = f"features {source}"
        source = _read(user_path(source), where)
    labels: Any = None
    if isinstance(source, Mapping):
        known = [name for name in FEATURES if name in source]
        if not known:
            raise DataError(f"{where}: holds {_names(source)}, wanted features (and labels)")
        labels, source = source.get(LABELS), source[known[0]]
    rows = _rows(source, where)
    return InstanceFeatures(features=rows, labels=None if labels is None else _labels(labels, len(rows), where))


def _rows(array: object, where: str) -> Tensor:
    tensor = _tensor(array, where, "features")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise DataError(f"{where}: have shape {tuple(tensor.shape)}, wanted (rows, dimensions)")
    tensor = tensor.float()
    norms = torch.linalg.vector_norm(tensor, dim=1, keepdim=True, dtype=torch.float64)
    bad = torch.nonzero(~(torch.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if len(bad):
        raise DataError(
            f"{where}: row {int(bad[0])} has norm {float(norms[bad[0, 0], 0])}, wanted a finite one above 0"
        )
    return tensor / norms.float()


def _labels(array: object, count: int, where: str) -> Tensor:
    tensor = _tensor(array, where, LABELS)
    if tuple(tensor.shape) == (count, 1):
        tensor = tensor[:, 0]
    if tuple(tensor.shape) != (count,):
        raise DataError(f"{where}: labels have shape {tuple(tensor.shape)}, wanted ({count},), one per row")
    whole = tensor.long()
    if not bool((whole == tensor).all()) or int(whole.min()) < 0:
        raise DataError(f"{where}: labels are not class indices (integers from 0)")
    return whole


def _tensor(array: object, where: str, what: str) -> Tensor:
    if isinstance(array, (list, tuple)):
        try:
            array = np.asarray(array)
        except ValueError:
            array = None
    if isinstance(array, np.ndarray) and array.dtype.kind in "fiu":
        return torch.from_numpy(array.astype(np.float32 if array.dtype.kind == "f" else np.int64))
    if isinstance(array, Tensor) and not array.is_complex() and array.dtype != torch.bool:
        return array.detach()
    raise DataError(f"{where}: {what} are not an array of numbers")


def _names(mapping: Mapping[str, Any]) -> str:
    return ", ".join(str(name) for name in list(mapping)[:5]) or "nothing"


def _read(path: Path, where: str) -> Any:
    if path.suffix not in READERS:
        raise DataError(f"{where}: wanted a file that ends in {', '.join(READERS)}")
    if not path.is_file():
        raise DataError(f"{where}: no such file")
    try:
        return READERS[path.suffix](path)
    except (OSError, *CONTENT_FAULTS, BadZipFile, GenRepError) as error:
        raise DataError(f"{where}: cannot be read ({one_line(str(error))})") from None


def _read_npy(path: Path) -> Any:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        if not header(file)[2].hasobject:
            file.seek(0)
            return np.load(file, allow_pickle=False)
        rest = file.read()  # a pickle, of which np.load would run what it names
    with tempfile.TemporaryDirectory() as folder:
        pickled = Path(folder) / path.with_suffix(".pkl").name
        pickled.write_bytes(rest)
        found = _read_pickle(pickled)
    return found.item() if isinstance(found, np.ndarray) and found.size == 1 else found


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as arrays:
        wanted = [name for name in (*FEATURES, LABELS) if name in arrays]
        return {name: arrays[name] for name in wanted} if wanted else dict.fromkeys(arrays)


def _read_safetensors(path: Path) -> Any:
    from .base import read_safetensors

    return read_safetensors(path)[0]


def _read_pickle(path: Path) -> Any:
    from genrep.unpickle import read_file

    return read_file(path)


READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".safetensors": _read_safetensors,
    ".pt": _read_pickle,
    ".pth": _read_pickle,
}
