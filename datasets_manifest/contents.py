"""A dataset's samples by random access, without ffcv, torch or a training loader.

>>> from genrep import datasets_manifest
>>> dataset = datasets_manifest.open("shards/")
>>> dataset[7]["anchor"].shape
(32, 32, 3)
"""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from genrep.images.jpeg import check_jpeg

from . import layout
from .beton import Beton
from .manifest import Manifest, dataset_folder, read_manifest
from .recomputed import Recomputed
from .tables import PROMPTS_NAME, SOURCES_NAME, Prompts, Sources, Table, open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_OPEN_SHARDS = 64
EXIF = re.compile(rb"\xff\xe1..Exif", re.DOTALL)  # in an image's coded data 0xff is never followed by 0xe1


def open_dataset(folder: Path | str) -> Dataset:
    """Open a finished dataset folder. Raises ManifestError; a damaged shard raises DatasetError when it is first read."""
    return Dataset(dataset_folder(folder))


class Dataset:
    """The pairs of a dataset folder as a sequence: ``dataset[i]`` is a dict with an entry per field.

    ``anchor``, ``positive``, … are uint8 arrays of shape ``(H, W, 3)``; ``z_anchor``, … float32 arrays of the field's
    shape, made again where they are not stored; ``strength``, ``weight``, … floats; ``label``, ``index``, ``prompt``,
    ``source``, … ints. ``dataset.prompts[pair["prompt"]]`` is the text, ``dataset.sources[pair["source"]]`` the name of the
    anchor's file; both are None where the set has none.

    JPEG images are decoded by Pillow, which differs from FFCV's faster decoder by a few levels. Each shard's tables are checked
    when it is first touched (not its sha256: see ``verify``). Safe to use from several threads, to fork and to pickle.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self._ends = np.cumsum([shard.count for shard in self.manifest.shards]).tolist()
        self._open: OrderedDict[int, Beton] = OrderedDict()
        self._lock = Lock()
        self._recomputed = Recomputed(self.manifest)

    @cached_property
    def prompts(self) -> Prompts | None:
        """The texts of the prompts by row, read when they are asked for. Raises DatasetError where the file is missing."""
        return cast("Prompts | None", self._table(PROMPTS_NAME))

    @cached_property
    def sources(self) -> Sources | None:
        """The names of the anchors' files by row. Raises DatasetError where the table is missing."""
        return cast("Sources | None", self._table(SOURCES_NAME))

    def _table(self, name: str) -> Table | None:
        facts = self.manifest.table(name)
        return None if facts is None else open_table(self.folder, facts)

    def __len__(self) -> int:
        return self.manifest.num_pairs

    def __getitem__(self, i: int) -> dict[str, Any]:
        length = len(self)
        if not -length <= i < length:
            raise IndexError(f"pair {i} of {length}")
        i %= length
        return self._pair(i, self._recomputed.one(i))

    def _pair(self, i: int, made: dict[str, Any]) -> dict[str, Any]:
        """Pair ``i`` with the latents that were made again, in order of the fields."""
        k = bisect_right(self._ends, i)
        found = {**read_sample(self._beton(k), i - self.manifest.shards[k].first_index), **made}
        return {field["name"]: found[field["name"]] for field in self.manifest.fields}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        recomputed, length = Recomputed(self.manifest), len(self)
        return (self._pair(i, recomputed.next(i, length)) for i in range(length))

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self.folder,)

    def _beton(self, k: int) -> Beton:
        """Shard ``k``, kept open; beyond MAX_OPEN_SHARDS the least recently used one is closed."""
        with self._lock:
            beton = self._open.pop(k, None)
            if beton is None:
                shard = self.manifest.shards[k]
                beton = Beton(self.folder / shard.name, self.manifest.fields, shard.count, shard.first_index)
                if beton.size != shard.bytes:
                    raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
            self._open[k] = beton
            if len(self._open) > MAX_OPEN_SHARDS:
                self._open.popitem(last=False)  # closed once no other thread reads from it
            return beton


def read_sample(beton: Beton, i: int) -> dict[str, Any]:
    """All stored fields of sample ``i`` (position in the file). Raises DatasetError for what cannot be decoded."""
    return {name: read_field(beton, i, name) for name in beton.fields}


def read_field(beton: Beton, i: int, name: str) -> Any:
    """One field of sample ``i``: an array, an int or a float. Raises DatasetError for what cannot be decoded."""
    field = beton.fields[name]
    if field["kind"] == "float":
        return float(beton.samples[name][i])
    if field["kind"] == "int":
        return int(beton.samples[name][i])
    data = beton.read(i, name)
    if field["kind"] == "float32":
        return data.view("<f4").astype(np.float32, copy=False).reshape(field["shape"])
    if not layout.is_jpeg(field):
        return data.reshape(beton.shape(i, name))
    try:
        return decode_jpeg(data, beton.shape(i, name))
    except ValueError as reason:
        raise beton.fault(f"sample {i}: {name} {reason}") from None


def decode_jpeg(data: NDArray[np.uint8], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Decode a colour JPEG of exactly this shape ``(H, W, 3)``. Raises ValueError with the reason."""
    from PIL.JpegImagePlugin import JpegImageFile

    content = data.tobytes()
    if EXIF.search(content):  # Pillow would parse it, and warn; no encoder of ours writes it
        raise ValueError("carries EXIF data, which a dataset must not hold")
    check_jpeg(content, shape[0], shape[1])
    try:
        # Not Image.open: it would also try what merely begins like a JPEG, and other formats.
        with JpegImageFile(io.BytesIO(content)) as image:
            found = (image.height, image.width, image.mode)
            if found == (shape[0], shape[1], "RGB"):  # known before the pixels are decoded
                return np.array(image)
    except Exception as fault:  # Pillow's parsers raise nearly anything on hostile bytes
        raise ValueError(
            f"is not a readable JPEG: {type(fault).__name__}: {' '.join(str(fault).split())[:100]}"
        ) from None
    raise ValueError(f"is a JPEG of {found[0]} x {found[1]} {found[2]}, wanted {shape[0]} x {shape[1]} RGB")
