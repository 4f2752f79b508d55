"""The dataset contract: what a folder of shards holds, how it is read, and how it is checked (docs/format.md).

Importing this package imports neither torch nor ffcv, and nothing heavy before it is needed.

Examples:
    >>> from genrep import datasets_manifest
    >>> datasets_manifest.open("shards/")[0]["anchor"].shape
    (32, 32, 3)
    >>> from genrep.datasets_manifest.verify import verify
    >>> verify("shards/", "full")
    []
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .beton import Beton, check_beton
    from .browsing import BrowseConfig, browse
    from .contents import Dataset, open_dataset
    from .manifest import (
        MANIFEST_NAME,
        SCHEMA_VERSION,
        Manifest,
        Shard,
        build_manifest,
        dataset_folder,
        read_manifest,
        read_shard_record,
        shard_name,
        shard_record_name,
        write_manifest,
        write_shard_record,
    )
    from .schema import field_table
    from .verify import Problem, require_valid

    open = open_dataset

__all__ = [  # and ``open``, which a star import must not put over Python's own
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Beton",
    "BrowseConfig",
    "Dataset",
    "Manifest",
    "Problem",
    "Shard",
    "browse",
    "build_manifest",
    "check_beton",
    "dataset_folder",
    "field_table",
    "open_dataset",
    "read_manifest",
    "read_shard_record",
    "require_valid",
    "shard_name",
    "shard_record_name",
    "write_manifest",
    "write_shard_record",
]

_HOMES = {  # the other names live in manifest.py
    "Beton": "beton",
    "BrowseConfig": "browsing",
    "Dataset": "contents",
    "Problem": "verify",
    "browse": "browsing",
    "check_beton": "beton",
    "field_table": "schema",
    "open_dataset": "contents",
    "require_valid": "verify",
}


def __getattr__(name: str) -> Any:
    if name not in __all__ and name != "open":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    original = "open_dataset" if name == "open" else name
    value = getattr(import_module(f"{__name__}.{_HOMES.get(original, 'manifest')}"), original)
    globals()[name] = value
    return value
