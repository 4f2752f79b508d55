"""The single place where weights of any format become a ``Checkpoint``. The result is kept in the cache.

A converted file is named by a digest of everything it depends on: the source's name and sha256, those of the settings beside
it, the family that was asked for, and CONVERSION. It is ``<key>.safetensors``, and ``<key>.json`` with the facts, written last.
A pair that is incomplete or damaged counts as absent, and so does all of it where the cache cannot be read or written.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from genrep.errors import WeightsError
from genrep.files import canonical_json, digest_json, sha256_file
from genrep.progress import note
from genrep.state_dicts import NoSuchNetwork
from genrep.untrusted import label, one_line, read_object

from ..generators import families
from ..generators.base import Checkpoint, checkpoint_from_safetensors, read_safetensors, save_checkpoint
from .archive import extract, is_archive
from .cache import converted_folder, describe, digest_file, publish, writable

CONVERSION = 1  # raise this whenever a family's ``recognise`` converts a known file differently than before
NEIGHBOURS = ("*config.json", "state_dict*.pth")  # what families read beside the weights
_FAULTS = (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError)

T = TypeVar("T")


def read_checkpoint(
    path: Path, family: str | None = None, network: str | None = None
) -> tuple[Checkpoint, dict[str, Any]]:
    """The checkpoint in a weights file of any known format, in a .tar.gz of one, or in a folder that holds one.

    Args:
        path: of the file or folder.
        family: which it is said to be; None = the first that knows it.
        network: which of several networks in the file is meant (``genrep.files.file_and_network``).

    Returns:
        The checkpoint, and the facts of the file: file, source, licence, sha256.

    Raises:
        RecipeError: an unknown family.
        WeightsError: one line, for a file that is missing, damaged, or of another family or none.
    """
    if family is not None:
        families.family(family)
    if os.path.isdir(path):
        return _first(path, family, partial(_read_file, network=network))
    if not os.path.isfile(path):
        raise WeightsError(f"weights {path}: no such file")
    return _read_file(path, family, network)


def _read_file(path: Path, family: str | None, network: str | None) -> tuple[Checkpoint, dict[str, Any]]:
    facts = describe(path) if network is None else {**describe(path), "network": network}
    checkpoint = _own(path, family, network)
    if checkpoint is not None:
        return checkpoint, facts
    inputs = {
        "name": path.name,
        "sha256": facts["sha256"],
        "neighbours": _neighbours(path),
        "family": family,
        "conversion": CONVERSION,
        **({} if network is None else {"network": network}),
    }
    key = digest_json(inputs)
    checkpoint = load_converted(key)
    if checkpoint is None:
        with workshop() as folder:
            checkpoint = load_converted(key)  # another process may have made it meanwhile
            if checkpoint is None:
                if is_archive(path):
                    checkpoint = _convert_archive(path, family, network, folder)
                else:
                    checkpoint = _convert(path, family, network)
                if folder is not None:
                    save_converted(folder, key, checkpoint, {**facts, "inputs": inputs})
    return checkpoint, facts


def _neighbours(path: Path) -> dict[str, str]:
    found = {}
    for pattern in NEIGHBOURS:
        for neighbour in path.parent.glob(pattern):
            if neighbour != path and os.path.isfile(neighbour):
                with suppress(WeightsError):  # one that nobody can read
                    found[neighbour.name] = digest_file(neighbour)
    return found


def _first(folder: Path, family: str | None, read: Callable[[Path, str | None], T]) -> T:
    """The result of ``read`` for the weights file of a folder; of several, the first that is one."""
    fault = None
    try:
        for file in _candidates(folder, family):
            try:
                return read(file, family)
            except WeightsError as error:
                fault = fault or error
    except OSError as error:
        raise WeightsError(f"weights {folder}: cannot be read ({error.strerror})") from None
    wanted = family or f"any family ({', '.join(families.families_of_files())})"
    raise fault or WeightsError(f"weights {folder}: the folder holds no weights file of {wanted}; name the file itself")


def _candidates(folder: Path, family: str | None) -> Iterator[Path]:
    """The file that ``family`` finds, otherwise the files that other families find, to use or to name."""
    found = None if family is None else families.family(family).find(folder)
    if found is not None:
        yield found
        return
    seen = set()
    for name in families.families_of_files():
        found = families.family(name).find(folder)
        if found is not None and found not in seen:
            seen.add(found)
            yield found


def _convert_archive(path: Path, family: str | None, network: str | None, folder: Path | None) -> Checkpoint:
    """The checkpoint in a .tar.gz, which is unpacked into ``folder`` (None: the system's) for that time only."""
    try:
        unpacked = tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder, ignore_cleanup_errors=True)
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be unpacked ({error.strerror})") from None
    with unpacked as root:
        extract(path, Path(root))
        inner = Path(root)
        while len(entries := list(inner.iterdir())) == 1 and entries[0].is_dir():
            inner = entries[0]
        try:
            return _first(inner, family, partial(_convert, network=network))
        except WeightsError as error:
            raise WeightsError(str(error).replace(root, str(path))) from None


def _convert(path: Path, family: str | None, network: str | None) -> Checkpoint:
    """Read a file and offer it to the families."""
    own = _own(path, family, network)
    if own is not None:
        return own
    content, others = _content(path), None
    for name in (
        *([] if family is None else [family]),
        *(name for name in families.families_of_files() if name != family),
    ):
        try:
            checkpoint = _recognise(name, content, path, named=name == family, network=network)
        except NoSuchNetwork as error:  # the one that is meant may be of another family
            others = others or error
            continue
        if checkpoint is not None:
            return checkpoint if name == family else _wanted(checkpoint, path, family)
    if others is not None:
        raise others
    known = ", ".join(families.families_of_files())
    wanted = known if family is None else f"a {family} file; it belongs to no other family either ({known})"
    raise WeightsError(f"weights {path}: holds {_outline(content)}; wanted {wanted}")


def _own(path: Path, family: str | None, network: str | None) -> Checkpoint | None:
    """The checkpoint in a file that this project wrote; None if it is another's."""
    if path.suffix != ".safetensors":
        return None
    checkpoint = checkpoint_from_safetensors(path)
    if checkpoint is None:
        return None
    if network not in (None, "."):
        raise WeightsError(f"weights {path}#{label(network)}: a genrep file holds one network; give {path}")
    if checkpoint.family not in families.families_of_files():
        known = ", ".join(families.families_of_files())
        raise WeightsError(f"weights {path}: of the unknown family {one_line(checkpoint.family)!r}; known: {known}")
    return _wanted(checkpoint, path, family)


def _wanted(checkpoint: Checkpoint, path: Path, family: str | None) -> Checkpoint:
    if family not in (None, checkpoint.family):
        raise WeightsError(f"weights {path}: this is a {checkpoint.family} file, wanted {family}")
    return checkpoint


def _content(path: Path) -> object:
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    from genrep.unpickle import read_file

    return read_file(path)


def _recognise(name: str, content: object, path: Path, *, named: bool, network: str | None) -> Checkpoint | None:
    """The checkpoint that a family reads from a file, with its config as it will come from the cache."""
    try:
        found = families.family(name).recognise(content, path, named=named, network=network)
        if found is None:
            return None
        config = json.loads(canonical_json(found.config))
        for remark in found.notes:
            note(f"weights {path}: {remark}")
        return Checkpoint(family=found.family, tensors=found.tensors, config=config)
    except _FAULTS as error:  # of a file that looks like one of the family until something in it does not
        text = one_line(f"{type(error).__name__}: {error}")
        raise WeightsError(f"weights {path}: a damaged {name} file ({text})") from error


def _outline(content: object) -> str:
    """Describe the content of an unknown file in a few words."""
    if not isinstance(content, Mapping):
        return f"an object of type {one_line(str(getattr(content, 'name', type(content).__name__)))}"
    names = ", ".join(one_line(str(key))[:40] for key in list(content)[:4])
    return f"{len(content)} entries ({names}{', ...' if len(content) > 4 else ''})"


PATIENCE = 600.0  # seconds to wait for another process's conversion before doing the same


def load_converted(key: str) -> Checkpoint | None:
    """The checkpoint of ``key``; None if it is not there whole."""
    try:
        folder = converted_folder()
        facts = read_object(folder / f"{key}.json", WeightsError)
        path = folder / f"{key}.safetensors"
        if sha256_file(path) != facts.get("converted_sha256"):
            return None
        return checkpoint_from_safetensors(path)
    except (OSError, ValueError, RecursionError, WeightsError):
        return None


def save_converted(folder: Path, key: str, checkpoint: Checkpoint, facts: dict[str, Any]) -> None:
    """Keep a checkpoint in the folder that ``workshop`` gave, if there is room."""
    path, record = folder / f"{key}.safetensors", folder / f"{key}.json"
    staging = folder / f".{key}.{os.getpid()}.safetensors"
    try:
        save_checkpoint(checkpoint, staging)
        facts = {
            **facts,
            "family": checkpoint.family,
            "config": checkpoint.config,
            "converted_sha256": sha256_file(staging),
        }
        record.unlink(missing_ok=True)
        os.replace(staging, path)
        publish(record, json.dumps(facts, indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n")
    except OSError:  # it was only to save time
        with suppress(OSError):
            staging.unlink(missing_ok=True)


@contextmanager
def workshop() -> Iterator[Path | None]:
    """Lock the cache's folder and sweep it of leftovers of killed processes; yields None if it cannot be written.

    One process converts at a time: each may need several times the file's size in memory.
    """
    folder, descriptor = None, -1
    with suppress(OSError, WeightsError):
        folder = writable(converted_folder())
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    if folder is None or descriptor < 0:
        yield None
        return
    try:
        if _lock(descriptor):
            _sweep(folder)
        yield folder
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:  # a filesystem without locks
            break
    return False


def _sweep(folder: Path) -> None:
    """Remove unfinished files; no other process is working here."""
    for leftover in folder.glob(".*"):
        with suppress(OSError):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
