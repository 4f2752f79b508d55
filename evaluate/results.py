"""``linear.json``: a list of results keyed by (dataset, protocol, seed), appended and never overwritten silently."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import DataError, ResumeError
from genrep.files import write_json
from genrep.images.inventory import Inventory, remember
from genrep.progress import note
from genrep.untrusted import content_faults, one_line, printable, read_bounded, shown

if TYPE_CHECKING:
    from genrep.encoders import LoadedEncoder

Entry = dict[str, Any]
KEY = ("dataset", "protocol", "seed")
DATA = (
    "train_sha256",
    "test_sha256",
)  # in a protocol: digests of the images and their labels (genrep.images.inventory)
MOST_BYTES = 1 << 30  # of a file of results, or of a run's records
# Of an entry, which others read: KEY, value, and what entries of one version have. An entry without it is of version 1.
RESULT_VERSION = 1


def read_json(path: Path) -> Any:
    """A JSON file's value. Raises DataError: it is missing, no regular file or too large, or its content is not JSON."""
    content = read_bounded(path, MOST_BYTES, DataError, follow=True)
    with content_faults(path, DataError):
        try:
            return json.loads(content)
        except RecursionError:
            raise DataError(f"{printable(str(path))}: not a file of results (its JSON is nested too deeply)") from None
        except ValueError as error:
            reason = error.reason if isinstance(error, UnicodeDecodeError) else one_line(str(error))
            raise DataError(f"{printable(str(path))}: not JSON ({reason})") from error


def read_results(path: Path) -> list[Entry]:
    """The entries of a result file; none if there is no file. Raises DataError if it is something else."""
    if not path.exists():
        return []
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(e, dict) and e.keys() >= {*KEY, "value"} for e in entries):
        raise DataError(f"{path}: wanted a list of results with {', '.join(KEY)} and value")
    for number, entry in enumerate(entries):
        if entry.get("version", RESULT_VERSION) != RESULT_VERSION:
            found = shown(entry["version"])
            raise DataError(
                f"{path}: entry {number}: version {found}, wanted {RESULT_VERSION}; a newer genrep wrote it: upgrade to read it"
            )
    return entries


def find(entries: list[Entry], key: Entry) -> Entry | None:
    """The entry with the key's dataset, protocol and seed."""
    return next((entry for entry in entries if all(entry[name] == key[name] for name in KEY)), None)


def find_or_tell(path: Path, key: Entry) -> Entry | None:
    """``find`` in a result file. If only a result of other images is there, stderr says so."""
    entries = read_results(path)
    found = find(entries, key)
    like = [] if found else [entry for entry in entries if _without_data(entry) == _without_data(key)]
    if like:
        theirs, ours = like[-1]["protocol"], key["protocol"]
        if missing := [name for name in DATA if name not in theirs]:
            why = f"without {' and '.join(missing)}: an earlier version did not write which images it is of"
        else:
            others = " and ".join(name for name in DATA if theirs[name] != ours.get(name))
            why = f"of other images or labels (another {others})"
        note(f"{path}: holds this result {why}; it stays, and another is measured")
    return found


def _without_data(entry: Entry) -> Entry:
    protocol = entry["protocol"]
    kept = (
        {name: value for name, value in protocol.items() if name not in DATA}
        if isinstance(protocol, dict)
        else protocol
    )
    return {"dataset": entry["dataset"], "seed": entry["seed"], "protocol": kept}


def data_digests(train: Inventory, test: Inventory) -> dict[str, str]:
    """The digests of a protocol's images."""
    return dict(zip(DATA, (train.digest, test.digest)))


def tell_changes(out: Path, dataset: str, splits: Iterable[tuple[str, Inventory]]) -> None:
    """Say on stderr what has changed in a dataset since the last call with this ``out``; keep its record there."""
    for split, inventory in splits:
        if changed := remember(out, f"{dataset}, {split}", inventory):
            note(f"{out}: {dataset}, {split}, has changed since it was measured here: {changed}")


def add(path: Path, entry: Entry) -> None:
    """Append an entry, or put it in the place of the one that has its key."""
    entries = read_results(path)
    old = find(entries, entry)
    if old is None:
        entries.append(entry)
    else:
        entries[entries.index(old)] = entry
    write_json(path, entries)


def encoder_facts(encoder: LoadedEncoder) -> Entry:
    """The part of an entry that describes the encoder."""
    facts = encoder.facts
    said: Entry = {"arch": facts.arch, "stem": facts.stem, "trained": encoder.trained}
    if pooled_by := getattr(encoder.module, "pooled_by", None):  # a vision transformer
        said["model"] = {**facts.model, "global_pool": pooled_by}
    return {
        "encoder": said,
        "encoder_sha256": encoder.sha256,
        "normalise": {"mean": list(facts.mean), "std": list(facts.std)},
    }


def same_encoder(entry: Entry, encoder: LoadedEncoder, path: Path) -> Entry:
    """An earlier entry. Raises ResumeError if it is another encoder's."""
    if entry.get("encoder_sha256") != encoder.sha256:
        there = str(entry.get("encoder_sha256"))[:12]
        raise ResumeError.naming(
            "{}: holds this result for another encoder ({}…, this one is {}…); wanted another {out}, "
            "or {force} to replace it",
            path,
            there,
            encoder.sha256[:12],
        )
    return entry
