"""The json of facts beside a weights file that was downloaded: whence it came, under which licence, and its sha256.

Where nobody publishes a sha256, the one of the first use is what later uses are held to.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from genrep.errors import WeightsError

from .cache import digest_file, publish

SUFFIX = ".facts.json"
TEXTS = ("file", "source", "licence", "sha256")


def record_path(path: Path) -> Path:
    """Of the facts of a weights file."""
    return path.with_name(path.name + SUFFIX)


def read_record(path: Path) -> dict[str, str] | None:
    """The facts recorded for a weights file: file, source, licence, sha256; None if there are none.

    Raises WeightsError if they are not what ``write_record`` writes.
    """
    record = record_path(path)
    if not os.path.isfile(record):
        return None
    try:
        facts = json.loads(record.read_bytes())
    except (OSError, ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or not all(isinstance(facts.get(name), str) for name in TEXTS):
        raise WeightsError(f"weights {path}: {record.name} beside it cannot be read as a record of it; remove that")
    return {name: facts[name] for name in TEXTS}


def write_record(path: Path, *, source: str, licence: str) -> dict[str, str]:
    """Record the facts of a weights file, where its folder can be written, and return them."""
    facts = {"file": path.name, "source": source, "licence": licence, "sha256": digest_file(path)}
    with contextlib.suppress(OSError):  # a cache that someone else filled
        publish(record_path(path), json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return facts


def describe(path: Path) -> dict[str, Any]:
    """The recorded facts of a weights file, if they are of this very content; else those of a local file."""
    digest = digest_file(path)
    record = None
    with contextlib.suppress(WeightsError):
        record = read_record(path)
    if record is not None and record["sha256"] == digest:
        return {**record, "file": path.name}
    return {"file": path.name, "source": "a local file", "licence": "unknown", "sha256": digest}
