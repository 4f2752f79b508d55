"""The folders of the cache, and the json of facts beside a weights file that was downloaded.

    $GENREP_HOME, else $XDG_CACHE_HOME/genrep, else ~/.cache/genrep (genrep.files)
      weights/<recipe>/FILE              a download, with FILE.facts.json beside it
      converted/<key>.safetensors .json  a converted weights file (conversion.py)

Everything in it can be removed at any time, and an administrator may fill it and make it read-only. The facts state
where a file came from, its licence and its sha256. Where nobody publishes a sha256, later uses must match that of the first.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.resources
import json
import os
from pathlib import Path
from typing import Any

from genrep.errors import RecipeError, WeightsError
from genrep.files import HOME, home, sha256_file, write_atomic
from genrep.untrusted import read_bounded

PACKAGE = "package:"  # begins the address of what comes with the package


def cache_folder() -> Path:
    """The cache, which need not exist. Raises WeightsError if its place cannot be determined."""
    try:
        return home()
    except (RuntimeError, OSError) as error:  # a user without home, "~nobody", a current folder that is gone
        raise WeightsError(
            f"{HOME}={os.environ.get(HOME, '')}: cannot hold the cache ({error}); set {HOME} to a writable folder"
        ) from None


def weights_folder(recipe_name: str) -> Path:
    """The folder for the downloads of a recipe; need not exist."""
    inner = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in recipe_name).lstrip(".")
    return cache_folder() / "weights" / (inner or "_")


def shipped(address: str, recipe_name: str, kind: str) -> Path | None:
    """The path of ``package:NAME``, a file or folder (``kind``) that comes with the package; None for any other address.

    Raises RecipeError for what is no name.
    """
    if not address.startswith(PACKAGE):
        return None
    name = address.removeprefix(PACKAGE)
    if not name or Path(name).name != name:
        raise RecipeError(f"recipe {recipe_name}: [generator] weights = {address!r} names no {kind} of the package")
    return Path(str(importlib.resources.files("genrep.generate.weights").joinpath(name)))


def converted_folder() -> Path:
    """The folder for converted weights; need not exist."""
    return cache_folder() / "converted"


def make_folder(folder: Path) -> str | None:
    """Make a folder; returns why it cannot be written, or None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return None if os.access(folder, os.W_OK | os.X_OK) else "no permission to write"
    except (OSError, ValueError) as error:
        return getattr(error, "strerror", None) or str(error)


def writable(folder: Path) -> Path:
    """Make a folder of the cache. Raises WeightsError if that, or writing in it, is impossible."""
    reason = make_folder(folder)
    if reason is not None:
        raise WeightsError(f"cache {folder}: cannot be written ({reason}); set {HOME} to a writable folder")
    return folder


def digest_file(path: Path) -> str:
    """Hex sha256 of a weights file, computed once per process while the file stays as it is.

    Raises WeightsError if it cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path, status.st_ino, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be read ({error.strerror})") from None


@functools.lru_cache(maxsize=256)
def _digest(path: Path, inode: int, size: int, modified: int) -> str:
    return sha256_file(path)


def publish(path: Path, data: bytes) -> None:
    """``write_atomic``, also when several processes write the same file at once. Raises OSError."""
    staging = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write_atomic(staging, data)
        os.replace(staging, path)
    finally:
        staging.unlink(missing_ok=True)


SUFFIX = ".facts.json"
TEXTS = ("file", "source", "licence", "sha256")
GAN_WEIGHTS, GAN_FACTS = "generator.safetensors", "generator.json"  # what fit-gan leaves
FLOW_WEIGHTS = "unet/diffusion_pytorch_model.safetensors"  # and fit-diffusion, with GAN_FACTS
MAX_GAN_FACTS = 1 << 20  # bytes


def record_path(path: Path) -> Path:
    """The path of the facts of a weights file."""
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
        raise WeightsError(
            f"weights {path}: {record.name} beside it is not a readable record of it; remove that record"
        )
    return {name: facts[name] for name in TEXTS}


def write_record(path: Path, *, source: str, licence: str) -> dict[str, str]:
    """Record the facts of a weights file, where its folder can be written, and return them."""
    facts = {"file": path.name, "source": source, "licence": licence, "sha256": digest_file(path)}
    with contextlib.suppress(OSError):  # a cache that someone else filled
        publish(record_path(path), json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return facts


def describe(path: Path) -> dict[str, Any]:
    """The recorded facts of a weights file if they match its content, otherwise those of a local file.

    Weights of fit-gan also have ``name`` and ``data`` (what they were trained on), and ``classes`` of a conditional network.
    """
    digest = digest_file(path)
    record = None
    with contextlib.suppress(WeightsError):
        record = read_record(path)
    if record is not None and record["sha256"] == digest:
        return {**record, "file": path.name}
    if (own := _of_own_run(path.with_name(GAN_FACTS), digest, "fit-gan")) is not None:
        return {"file": path.name, "sha256": digest, **own}
    return {"file": path.name, "source": "a local file", "licence": "unknown", "sha256": digest}


def describe_folder(folder: Path) -> dict[str, Any]:
    """The facts of a model folder of fit-diffusion, as ``describe`` gives those of fit-gan; of another, that it is local."""
    with contextlib.suppress(WeightsError):
        if (own := _of_own_run(folder / GAN_FACTS, digest_file(folder / FLOW_WEIGHTS), "fit-diffusion")) is not None:
            return own
    return {"source": "a local folder", "licence": "unknown"}


def _of_own_run(path: Path, digest: str, command: str) -> dict[str, Any] | None:
    """The facts in a run's generator.json, if they match the content of its weights."""
    try:
        facts = json.loads(read_bounded(path, MAX_GAN_FACTS, WeightsError, follow=True))
        if facts["sha256"] != digest:
            return None
        data, licence = str(facts["training"]["data"]), str(facts["training"].get("data_licence", "unknown"))
        name = str(facts.get("name") or f"{facts['family']}-{data}")
        classes = [str(one) for one in facts.get("classes", [])]
    except (WeightsError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    found = {"name": name, "source": f"genrep-generate {command} on {data}", "data": data, "licence": licence}
    return {**found, "classes": classes} if classes else found
