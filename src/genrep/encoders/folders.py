"""Which file of a folder, or which files of an index, hold an encoder.

A run's folder has ``encoder.safetensors``; a folder of transformers or timm ``model.safetensors`` or ``pytorch_model.bin``, or
an index of shards beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genrep.errors import WeightsError
from genrep.files import sha256_file
from genrep.tensor_files import is_safetensors, read_safetensors
from genrep.untrusted import label, printable, read_bounded

from . import ENCODER_FILE

INDEX = ".index.json"
_FILES = (
    ENCODER_FILE,
    "model.safetensors",
    "pytorch_model.bin",
    f"model.safetensors{INDEX}",
    f"pytorch_model.bin{INDEX}",
)
_SUFFIXES = {".bin", ".ckpt", ".pkl", ".pt", ".pth", ".safetensors", ".tar", ".torch"}
_LARGEST_INDEX = 1 << 24  # bytes
_MOST_SHARDS = 1000
_SHOWN = 5


def file_in(folder: Path) -> Path:
    """The encoder's file in a folder, by the names that such files have. Raises WeightsError if there is none."""
    for name in _FILES:
        if (folder / name).exists():
            return folder / name
    others = sorted(label(path.name) for path in _checkpoints(folder))
    more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
    found = f"; it holds {', '.join(others[:_SHOWN])}{more}: name the file itself" if others else ""
    raise WeightsError(
        f"{printable(str(folder))}: no such encoder in this folder; wanted {ENCODER_FILE} (of a finished run of genrep-train), "
        f"{', '.join(_FILES[1:3])} or an index of one{found}"
    )


def _checkpoints(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.is_file())
    except OSError as error:
        raise WeightsError(f"{printable(str(folder))}: {error.strerror}") from None


def read_index(path: Path) -> tuple[dict[str, Any], str]:
    """The tensors of all shards that an index names, and a digest of the index and of every shard.

    Raises:
        WeightsError: it is no index, names a file elsewhere than beside it, or a shard lacks what the index says it holds.
    """
    where = printable(str(path))
    text = read_bounded(path, _LARGEST_INDEX, WeightsError, follow=True)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{where}: not an index of shards ({label(error)})") from None
    places = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise WeightsError(f"{where}: not an index of shards; wanted weight_map, a table of tensors' names and files")
    shards = sorted(set(places.values()))
    if len(shards) > _MOST_SHARDS:
        raise WeightsError(f"{where}: an index of {len(shards)} shards; wanted at most {_MOST_SHARDS}")
    digest = hashlib.sha256(text)
    tensors: dict[str, Any] = {}
    for shard in shards:
        if shard in ("", ".", "..") or Path(shard).name != shard or "\0" in shard:
            raise WeightsError(
                f"{where}: it names the shard {label(shard)}; wanted the name of a file beside the index"
            )
        held = _read(path.with_name(shard))
        mine = {name for name, place in places.items() if place == shard}
        if missing := sorted(mine - held.keys()):
            raise WeightsError(
                f"{where}: {label(missing[0])} is not in {label(shard)}, where the index says that it is"
            )
        if twice := sorted(held.keys() & tensors.keys()):
            raise WeightsError(f"{where}: {label(twice[0])} is in two shards")
        tensors |= held
        digest.update(bytes.fromhex(sha256_file(path.with_name(shard))))
    return tensors, digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    if is_safetensors(path):
        return dict(read_safetensors(path, printable(str(path)))[0])
    from genrep.unpickle import read_file

    found = read_file(path)
    if not isinstance(found, dict):
        raise WeightsError(
            f"{printable(str(path))}: it holds a {label(type(found).__name__)}; wanted a dictionary of tensors"
        )
    return found
