"""Writers for each format. A dataset is cut into units, each of which is written whole, in any order.

A sample's images become files: PNG of raw pixels, the stored bytes of JPEGs.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genrep.files import faults_named, fsync_folder, hidden, whole_file
from genrep.images.jpeg import check_jpeg

from .. import layout
from ..beton import Beton
from ..contents import EXIF, read_field
from ..manifest import Manifest
from ..recomputed import Recomputed
from ..schema import PROMPT_FIELD, SOURCE_FIELD, TABLES
from ..tables import open_table

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One sample: images by field as the bytes of a file, latents as float32 of the field's shape, label, index and rows as
    integers, what a view drew as floats, and the texts that the rows mean (``text_names``)."""

    images: dict[str, bytes]
    latents: dict[str, NDArray[np.float32]]
    integers: dict[str, int]
    floats: dict[str, float]
    texts: dict[str, str | None]


def suffix(manifest: Manifest) -> str:
    """The suffix of image files: ``.png`` or ``.jpg``."""
    return ".jpg" if layout.is_jpeg(manifest.image_fields[0]) else ".png"


def text_names(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Names of the texts of a sample, each with the field whose row it stands in, and the key there.

    ``prompt_text`` and ``prompt_group``, ``prompt_1_text``, …, ``source_name`` and ``source_sha256``.
    """
    names = {}
    for field in manifest.fields:
        for key in ROW_KEYS.get(field["name"].partition("_")[0], ()) if field["kind"] == "int" else ():
            names[f"{field['name']}_{'text' if key == 'prompt' else key}"] = (field["name"], key)
    return names


ROW_KEYS = {PROMPT_FIELD: ("prompt", "group"), SOURCE_FIELD: ("name", "sha256")}


class Samples:
    """A dataset's samples as formats take them. Tables of rows are opened once."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        """Raises DatasetError where a table of rows is missing."""
        self.folder, self.manifest = folder, manifest
        self.names = text_names(manifest)
        fields = {name: field for name, (field, _) in TABLES.items()}
        self.tables = {fields[facts["name"]]: open_table(folder, facts) for facts in manifest.tables}

    def range(self, start: int, stop: int, *, images: bool = True) -> Iterator[Sample]:
        """Samples ``start`` to ``stop - 1``, in order. Raises DatasetError for a shard that is missing or damaged.

        Without ``images`` no images are read, and the samples hold none.
        """
        recomputed = Recomputed(self.manifest)
        for shard in self.manifest.shards:
            first, last = max(start, shard.first_index), min(stop, shard.first_index + shard.count)
            if first >= last:
                continue
            with Beton(self.folder / shard.name, self.manifest.fields, shard.count, shard.first_index) as beton:
                if beton.size != shard.bytes:
                    raise beton.fault(f"{beton.size} bytes, the manifest says {shard.bytes}")
                for index in range(first, last):
                    yield self._sample(beton, index - shard.first_index, images, recomputed.next(index, stop))

    def _sample(self, beton: Beton, i: int, with_images: bool, latents: dict[str, NDArray[np.float32]]) -> Sample:
        images: dict[str, bytes] = {}
        values: dict[str, dict[str, Any]] = {"float32": latents, "int": {}, "float": {}}
        for name, field in beton.fields.items():
            if field["kind"] == "image":
                if with_images:
                    images[name] = _jpeg(beton, i, name) if layout.is_jpeg(field) else png(read_field(beton, i, name))
            else:
                values[field["kind"]][name] = read_field(beton, i, name)
        integers = values["int"]
        return Sample(
            images=images,
            latents=latents,
            integers=integers,
            floats=values["float"],
            texts=self._texts(beton, integers),
        )

    def _texts(self, beton: Beton, integers: dict[str, int]) -> dict[str, str | None]:
        rows: dict[str, dict[str, Any]] = {}
        for field in dict.fromkeys(field for field, _ in self.names.values()):
            try:
                rows[field] = self.tables[field.partition("_")[0]].row(integers[field])
            except IndexError:
                raise beton.fault(f"pair {integers['index']} has {field} {integers[field]}, which is no row") from None
        return {name: rows[field].get(key) for name, (field, key) in self.names.items()}


def png(image: NDArray[np.uint8]) -> bytes:
    """An ``(H, W, 3)`` image as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _jpeg(beton: Beton, i: int, name: str) -> bytes:
    """The stored bytes, unchanged. Only the header is checked: the size must be the field's, without EXIF data."""
    from PIL.JpegImagePlugin import JpegImageFile

    data = beton.read(i, name).tobytes()
    height, width, _ = beton.shape(i, name)
    found: Any = None
    if EXIF.search(data) is None:
        try:
            check_jpeg(data, height, width)
            with JpegImageFile(io.BytesIO(data)) as image:
                found = (image.height, image.width, image.mode)
        except Exception:  # Pillow's parsers raise nearly anything on hostile bytes
            found = None
    if found != (height, width, "RGB"):
        raise beton.fault(f"sample {i}: {name} is not a plain JPEG of {height} x {width} RGB")
    return data


UNIT_BYTES = 256 << 20  # of a tar or parquet file, about


def pair_bytes(manifest: Manifest) -> int:
    """Of a pair, about: as it is stored, and its latents that are not."""
    again = sum(4 * math.prod(field["shape"]) for field in layout.not_stored(manifest.fields))
    return max(manifest.num_bytes // manifest.num_pairs, 1) + again


class Format(ABC):
    """A format's writer for one dataset. A unit is ``per_unit`` samples, the last may be fewer."""

    state_name = "export.json"  # in the folder: what it is of

    def __init__(self, manifest: Manifest, out: Path, per_unit: int | None) -> None:
        self.manifest, self.out = manifest, out
        self.per_unit = per_unit or self.default_per_unit()
        self.units = -(-manifest.num_pairs // self.per_unit)
        self.digits = max(len(str(manifest.num_pairs - 1)), 5)

    def default_per_unit(self) -> int:
        """As many samples as take about UNIT_BYTES in the shards."""
        return max(UNIT_BYTES // pair_bytes(self.manifest), 1)

    def range(self, unit: int) -> tuple[int, int]:
        """The samples of a unit: first, and one past the last."""
        return unit * self.per_unit, min((unit + 1) * self.per_unit, self.manifest.num_pairs)

    def key(self, index: int) -> str:
        """A sample's number with leading zeros, so that names sort."""
        return f"{index:0{self.digits}d}"

    @abstractmethod
    def is_done(self, unit: int) -> bool:
        """Whether the unit was written whole."""

    @abstractmethod
    def write(self, unit: int, samples: Iterator[Sample]) -> None:
        """Write the unit. Raises OSError that names a file, DatasetError of ``samples``."""

    def finish(self, samples: Iterator[Sample]) -> None:  # noqa: B027
        """Write the files beside the units, which cover all samples without their images."""

    def file_count(self) -> int:
        """Files that hold the samples."""
        return self.units


def facts(manifest: Manifest, sample: Sample) -> dict[str, Any]:
    """A sample's row of metadata: index, label, class, rows and their texts, what a view drew."""
    label = sample.integers["label"]
    named = {"class": manifest.classes[label]} if 0 <= label < len(manifest.classes) else {}
    return {"index": sample.integers["index"], **sample.integers, **named, **sample.floats, **sample.texts}


@contextmanager
def whole_folders(paths: list[Path]) -> Iterator[list[Path]]:
    """Fill folders that get their names, the last of ``paths`` last, when the block ends well; yields where to write."""
    temporary = [hidden(path) for path in paths]
    try:
        for path in temporary:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(parents=True)
        yield temporary
        for path, final in zip(temporary, paths, strict=True):
            shutil.rmtree(final, ignore_errors=True)  # of a run that was killed between two of them
            os.replace(path, final)
            fsync_folder(final.parent)
    finally:
        for path in temporary:
            shutil.rmtree(path, ignore_errors=True)


FILES_PER_FOLDER = 1000
METADATA_NAME = "metadata.jsonl"


class FolderFormat(Format):
    """A subfolder per image field and unit; beside them a line of JSON per sample, and ``z_anchor.npy``, … of all samples."""

    def default_per_unit(self) -> int:
        """Samples per folder: few enough for any file browser."""
        return FILES_PER_FOLDER

    def _names(self) -> list[str]:
        return [field["name"] for field in self.manifest.image_fields]

    def is_done(self, unit: int) -> bool:
        """The last field's folder got its name last."""
        return (self.out / self._names()[-1] / f"{unit:05d}").is_dir()

    def write(self, unit: int, samples: Iterator[Sample]) -> None:
        """Write a folder per field."""
        names, ending = self._names(), suffix(self.manifest)
        with whole_folders([self.out / name / f"{unit:05d}" for name in names]) as folders:
            for sample in samples:
                for name, folder in zip(names, folders, strict=True):
                    path = folder / (self.key(sample.integers["index"]) + ending)
                    with faults_named(path):
                        path.write_bytes(sample.images[name])

    def finish(self, samples: Iterator[Sample]) -> None:
        """Write metadata.jsonl, in which Hugging Face's imagefolder finds the images, and the latents' arrays."""
        count, latents = self.manifest.num_pairs, self.manifest.latent_fields
        with ExitStack() as stack:
            metadata = stack.enter_context(whole_file(self.out / METADATA_NAME))
            arrays = {}
            for field in latents:
                file = stack.enter_context(whole_file(self.out / f"{field['name']}.npy"))
                shape = (count, *field["shape"])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                arrays[field["name"]] = file
            for sample in samples:
                index = sample.integers["index"]
                metadata.write(json.dumps(facts(self.manifest, sample) | self._paths(index)).encode() + b"\n")
                for name, file in arrays.items():
                    file.write(sample.latents[name].astype("<f4", copy=False).tobytes())

    def _paths(self, index: int) -> dict[str, str]:
        place = f"{index // self.per_unit:05d}/{self.key(index)}{suffix(self.manifest)}"
        return {f"{name}_file_name": f"{name}/{place}" for name in self._names()}

    def file_count(self) -> int:
        """The images."""
        return self.manifest.num_pairs * len(self._names())


class WebdatasetFormat(Format):
    """A tar file per unit. Entries have no owner and no time, so that the bytes depend on the samples alone."""

    state_name = ".export.json"  # hidden: Hugging Face's datasets takes every visible file of the folder for data

    def _path(self, unit: int) -> Path:
        return self.out / f"pairs-{unit:06d}.tar"

    def is_done(self, unit: int) -> bool:
        """Its file has its name."""
        return self._path(unit).is_file()

    def write(self, unit: int, samples: Iterator[Sample]) -> None:
        """Write a tar file."""
        with (
            whole_file(self._path(unit)) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for sample in samples:
                for name, data in self._entries(sample).items():
                    entry = tarfile.TarInfo(f"{self.key(sample.integers['index'])}.{name}")
                    entry.size, entry.mode = len(data), 0o644
                    tar.addfile(entry, io.BytesIO(data))

    def _entries(self, sample: Sample) -> dict[str, bytes]:
        ending = suffix(self.manifest)
        entries = {f"{name}{ending}": data for name, data in sample.images.items()}
        entries |= {f"{name}.npy": npy(latent) for name, latent in sample.latents.items()}
        entries["json"] = json.dumps(facts(self.manifest, sample), sort_keys=True).encode()
        return entries


def npy(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    """An array as NumPy's file format."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
