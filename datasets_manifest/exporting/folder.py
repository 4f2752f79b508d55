"""Image files in folders: ``anchor/00012/00012345.png``, ``positive/…``, metadata.jsonl, and an array per latent field."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np

from genrep.files import faults_named

from .files import whole_file, whole_folders
from .formats import Format, facts
from .samples import Sample, suffix

FILES_PER_FOLDER = 1000
METADATA_NAME = "metadata.jsonl"


class FolderFormat(Format):
    """A subfolder per image field and unit; beside them a line of JSON per sample, and ``z_anchor.npy``, … of all samples."""

    def default_per_unit(self) -> int:
        """Few enough for any file browser."""
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
                metadata.write(json.dumps(facts(self.manifest, sample.integers) | self._paths(index)).encode() + b"\n")
                for name, file in arrays.items():
                    file.write(sample.latents[name].astype("<f4", copy=False).tobytes())

    def _paths(self, index: int) -> dict[str, str]:
        place = f"{index // self.per_unit:05d}/{self.key(index)}{suffix(self.manifest)}"
        return {f"{name}_file_name": f"{name}/{place}" for name in self._names()}

    def file_count(self) -> int:
        """The images."""
        return self.manifest.num_pairs * len(self._names())
