"""Tar files as the webdataset library reads them: ``00012345.anchor.png``, ``.z_anchor.npy``, ``.json``, …"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .files import whole_file
from .formats import Format, facts
from .samples import Sample, suffix


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
        entries["json"] = json.dumps(facts(self.manifest, sample.integers), sort_keys=True).encode()
        return entries


def npy(array: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> bytes:
    """An array as NumPy's file format."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()
