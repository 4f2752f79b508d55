"""Where a manifest is read from: a dataset folder, a file of any name, or an address."""

from __future__ import annotations

import re
from pathlib import Path

from genrep.files import user_path

from .manifest import Manifest, read_manifest, read_manifest_file

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(source: str) -> bool:
    """Is this an address (``scheme://…``) and no path?"""
    return ADDRESS.match(source) is not None


def load_manifest(source: str | Path) -> Manifest:
    """Read and check a manifest. Raises ManifestError, or DatasetError for an address that gives none."""
    if is_address(str(source)):
        from .transport import read_remote_manifest

        return read_remote_manifest(str(source))
    path = user_path(source)
    return read_manifest_file(path) if path.is_file() else read_manifest(path)
