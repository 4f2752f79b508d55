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
from genrep.untrusted import read_bounded

from .cache import digest_file, publish

SUFFIX = ".facts.json"
TEXTS = ("file", "source", "licence", "sha256")
GAN_WEIGHTS, GAN_FACTS = "generator.safetensors", "generator.json"  # what fit-gan leaves
MAX_GAN_FACTS = 1 << 20  # bytes


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
    """The recorded facts of a weights file, if they are of this very content; else those of a local file.

    Of weights of fit-gan also ``name`` and ``data`` (what they were trained on), and ``classes`` of a conditional network.
    """
    digest = digest_file(path)
    record = None
    with contextlib.suppress(WeightsError):
        record = read_record(path)
    if record is not None and record["sha256"] == digest:
        return {**record, "file": path.name}
    if (own := _of_own_gan(path, digest)) is not None:
        return {"file": path.name, "sha256": digest, **own}
    return {"file": path.name, "source": "a local file", "licence": "unknown", "sha256": digest}


def _of_own_gan(path: Path, digest: str) -> dict[str, Any] | None:
    """What generator.json beside the weights of a fit-gan run says, if it is of this very content."""
    try:
        facts = json.loads(read_bounded(path.with_name(GAN_FACTS), MAX_GAN_FACTS, WeightsError, follow=True))
        if facts["sha256"] != digest:
            return None
        data, licence = str(facts["training"]["data"]), str(facts["training"].get("data_licence", "unknown"))
        name = str(facts.get("name") or f"{facts['family']}-{data}")
        classes = [str(one) for one in facts.get("classes", [])]
    except (WeightsError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    found = {"name": name, "source": f"genrep-generate fit-gan on {data}", "data": data, "licence": licence}
    return {**found, "classes": classes} if classes else found
