"""Write a dataset's card: README.md as Hugging Face reads it, and croissant.json.

>>> from genrep.datasets_manifest.cards import CardConfig, write_card
>>> write_card(CardConfig(folder=Path("shards"))).written
('README.md', 'croissant.json')
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import DatasetError
from genrep.files import write_atomic
from genrep.settings import config, setting
from genrep.untrusted import open_regular, read_at

from ..manifest import MANIFEST_NAME, Manifest, dataset_folder, read_manifest
from .croissant import croissant
from .readme import readme_text

__all__ = ["CARD_NAME", "CROISSANT_NAME", "CardConfig", "CardReport", "write_card"]


CARD_NAME = "README.md"
CROISSANT_NAME = "croissant.json"
MAX_BYTES = 64 << 20  # of a file that is read whole
MARK = "<!-- genrep-manifest card: sha256 {} above, {} croissant.json -->\n"
MARKED = re.compile(
    rb"(.*\n)<!-- genrep-manifest card: sha256 ([0-9a-f]{64}) above, ([0-9a-f]{64}) croissant\.json -->\s*", re.DOTALL
)


@config
class CardConfig:
    """Settings of ``genrep-manifest card``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    force: bool = setting(default=False, help="Also replace files that somebody edited.")


@dataclass(frozen=True, kw_only=True)
class CardReport:
    """What was done with README.md and croissant.json."""

    written: tuple[str, ...]
    kept: tuple[str, ...]  # edited by somebody, and left alone


def write_card(config: CardConfig, manifest: Manifest | None = None) -> CardReport:
    """Write README.md and croissant.json. They depend on the manifest alone, so their bytes are always the same.

    A file that is there and that this function did not write, or that was edited since, is left alone unless ``force``.
    ``manifest``: that of a build that has not written it yet; None = the folder's.

    Raises:
        DatasetError: no finished dataset there, or a link or folder by the name of one of the files.
    """
    folder = config.folder
    if manifest is None:
        manifest = read_manifest(folder)
        data = card_files(manifest, _read(folder / MANIFEST_NAME) or _manifest_bytes(manifest))
    else:  # what lies in the folder, if anything does, is about to be replaced
        data = card_files(manifest, _manifest_bytes(manifest))
    there = {name: _read(folder / name) for name in data}
    ours = _written_here(there)
    written, kept = [], []
    for name in (CROISSANT_NAME, CARD_NAME):  # the card last: it holds the digests of both
        if name not in ours and there[name] not in (None, data[name]) and not config.force:
            kept.append(name)
            continue
        if there[name] != data[name]:
            write_atomic(folder / name, data[name])
        written.append(name)
    return CardReport(written=tuple(written), kept=tuple(kept))


def card_files(manifest: Manifest, manifest_bytes: bytes) -> dict[str, bytes]:
    """The bytes of both files by name. ``manifest_bytes``: of manifest.json, whose sha256 Croissant states."""
    metadata = json.dumps(croissant(manifest, manifest_bytes), ensure_ascii=False, indent=1).encode() + b"\n"
    text = readme_text(manifest).encode()
    digests = [hashlib.sha256(part).hexdigest() for part in (text, metadata)]
    return {CROISSANT_NAME: metadata, CARD_NAME: text + MARK.format(*digests).encode()}


def _written_here(there: dict[str, bytes | None]) -> set[str]:
    """The files that are unchanged since this module wrote them, according to the card's last line."""
    found = MARKED.fullmatch(there[CARD_NAME] or b"")
    if found is None:
        return set()
    parts = {CARD_NAME: (found[1], found[2]), CROISSANT_NAME: (there[CROISSANT_NAME] or b"", found[3])}
    return {name for name, (data, digest) in parts.items() if hashlib.sha256(data).hexdigest() == digest.decode()}


def _manifest_bytes(manifest: Manifest) -> bytes:
    """The bytes that ``write_manifest`` will write."""
    text = json.dumps(manifest.to_json(), sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def _read(path: Path) -> bytes | None:
    """A regular file's bytes, None if there is none. Raises DatasetError for links, folders and enormous files."""
    if not os.path.lexists(path):
        return None
    descriptor = open_regular(path)
    try:
        if (size := os.fstat(descriptor).st_size) > MAX_BYTES:
            raise DatasetError(f"{path}: {size} bytes, wanted at most {MAX_BYTES}")
        data = read_at(descriptor, size, 0)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None
    finally:
        os.close(descriptor)
    return bytes(data)
