"""Transfer datasets from and to folders, web servers, object stores and the Hugging Face Hub.

    source (genrep.net, stores.py) ──► fetch.py: a shard at a time, resumed, checked, renamed ──► pull.py: the whole folder
    folder ──► push.py ──► a folder (as pull), a store (upload.py) or the Hub (hub.py)

No data is trusted before its sha256 matches the manifest, which is read first and under a size limit.
"""

from __future__ import annotations

import re
from pathlib import Path

from genrep.errors import ManifestError
from genrep.files import user_path
from genrep.net import Limits
from genrep.untrusted import printable

from ..manifest import Manifest, read_manifest, read_manifest_file
from .fetch import fetch_shards, fetch_tables
from .pull import PullConfig, PullReport, pull, read_remote_manifest, remote_file
from .push import PushConfig, PushReport, push

__all__ = [
    "Limits",
    "PullConfig",
    "PullReport",
    "PushConfig",
    "PushReport",
    "fetch_shards",
    "fetch_tables",
    "is_address",
    "load_manifest",
    "pull",
    "push",
    "read_remote_manifest",
    "remote_file",
]

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(source: str) -> bool:
    """Whether a text is an address (``scheme://…``) and not a path."""
    return ADDRESS.match(source) is not None


def load_manifest(source: str | Path) -> Manifest:
    """Read and check the manifest of a dataset folder, a file of any name, or an address.

    Raises ManifestError, or DatasetError for an address that gives none.
    """
    if is_address(str(source)):
        return read_remote_manifest(str(source))
    path = user_path(source)
    if path.suffix == ".beton" and path.is_file():
        shard, folder = printable(str(path)), printable(str(path.parent))
        raise ManifestError(f"{shard}: a shard; wanted the dataset's folder, {folder}")
    return read_manifest_file(path) if path.is_file() else read_manifest(path)
