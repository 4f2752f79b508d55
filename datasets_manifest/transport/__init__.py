"""Datasets on their way: from and to folders, web servers, object stores and the Hugging Face Hub.

    source (genrep.net, stores.py) ──► fetch.py: a shard at a time, resumed, checked, renamed ──► pull.py: the whole folder
    folder ──► push.py ──► a folder (as pull), a store (upload.py) or the Hub (hub.py)

Nothing that comes is believed before its sha256 is the manifest's, and the manifest is read under a bound first.
"""

from __future__ import annotations

from genrep.net import Limits

from .fetch import fetch_shards
from .pull import PullConfig, PullReport, pull, read_remote_manifest, remote_file
from .push import PushConfig, PushReport, push

__all__ = [
    "Limits",
    "PullConfig",
    "PullReport",
    "PushConfig",
    "PushReport",
    "fetch_shards",
    "pull",
    "push",
    "read_remote_manifest",
    "remote_file",
]
