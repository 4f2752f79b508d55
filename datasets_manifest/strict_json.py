"""JSON from strangers: bounded in size and depth, no duplicate keys, no NaN; and typed look-ups that say what was found.

Every refusal is a ManifestError of one line that starts with ``where``: the file, then the place in it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from genrep.errors import ManifestError
from genrep.untrusted import open_regular, read_at, shown

MAX_DEPTH = 32
MAX_CONTAINERS = 2_000_000  # objects and lists: they cost up to 30 times their text in memory
MAX_INTEGER = (1 << 63) - 1
MAX_DIGITS = 20
SHA256 = re.compile(r"[0-9a-f]{64}")


def read_json(path: Path, limit: int) -> Any:
    """Parse a regular file of at most ``limit`` bytes."""
    descriptor = open_regular(path, ManifestError)
    try:
        size = os.fstat(descriptor).st_size
        if size > limit:
            raise ManifestError(f"{path}: {size} bytes, wanted at most {limit}")
        data = bytes(read_at(descriptor, size, 0))
    except OSError as fault:
        raise ManifestError(f"{path}: {fault.strerror}") from None
    finally:
        os.close(descriptor)
    return parse_json(data, str(path))


def parse_json(data: bytes, where: str, *, infinite: bool = False) -> Any:
    """Parse JSON text strictly. ``infinite``: Infinity and -Infinity, which Python's own writer writes, are numbers."""
    if data.count(b"{") + data.count(b"[") > MAX_CONTAINERS:
        raise ManifestError(f"{where}: more than {MAX_CONTAINERS} objects and lists")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_float,
            parse_int=_int,
            parse_constant=_infinity if infinite else _constant,
        )
    except RecursionError:
        raise ManifestError(f"{where}: JSON nested deeper than {MAX_DEPTH} levels") from None
    except UnicodeDecodeError:
        raise ManifestError(f"{where}: not JSON: its bytes are not text") from None
    except json.JSONDecodeError as fault:
        raise ManifestError(f"{where}: not JSON: {fault}") from None
    except ValueError as fault:  # of _object, _float, _int, _constant
        raise ManifestError(f"{where}: not acceptable JSON: {fault}") from None
    _check_tree(value, where)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} appears twice in one object")
    return value


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"the number {shown(text)} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > MAX_DIGITS:  # Python converts very long ones in quadratic time
        raise ValueError(f"the number {shown(text)} is too large")
    return int(text)


def _infinity(text: str) -> float:
    return float(text) if text.endswith("Infinity") else _constant(text)


def _constant(text: str) -> float:
    raise ValueError(f"{text} is not a JSON number")


def _check_tree(value: Any, where: str) -> None:
    """Refuse what would break later steps: deep nesting (recursion) and lone surrogates (no UTF-8 form)."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                _check_text(item, where)
                _check_text(item.values(), where)
                below.extend(child for child in item.values() if isinstance(child, (dict, list)))
            elif isinstance(item, list):
                _check_text(item, where)
                below.extend(child for child in item if isinstance(child, (dict, list)))
            else:
                _check_text((item,), where)
        if not below:
            return
        level = below
    raise ManifestError(f"{where}: JSON nested deeper than {MAX_DEPTH} levels")


def _check_text(items: Any, where: str) -> None:
    for item in items:
        if isinstance(item, str) and not item.isascii():
            try:
                item.encode()
            except UnicodeEncodeError:
                raise ManifestError(f"{where}: the text {shown(item)} is not Unicode") from None


def want_object(value: Any, where: str, required: frozenset[str], *, open_ended: bool) -> dict[str, Any]:
    """An object that has the ``required`` keys, and unless ``open_ended`` no others."""
    if not isinstance(value, dict):
        raise ManifestError(f"{where} is {shown(value)}, wanted an object")
    if missing := sorted(required - value.keys()):
        raise ManifestError(f"{where} lacks the key {missing[0]!r}")
    if not open_ended and (unknown := sorted(value.keys() - required)):
        raise ManifestError(f"{where} has the unknown key {shown(unknown[0])}, wanted only {sorted(required)}")
    return value


def want_list(value: Any, where: str) -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        raise ManifestError(f"{where} is {shown(value)}, wanted a list")
    return value


def want_integer(value: Any, where: str, low: int = 0, high: int = MAX_INTEGER) -> int:
    """An integer from ``low`` to ``high``; true and 1.0 are refused."""
    if type(value) is not int or not low <= value <= high:
        raise ManifestError(f"{where} is {shown(value)}, wanted an integer from {low} to {high}")
    return value


def want_text(value: Any, where: str) -> str:
    """A string that is not empty."""
    if not isinstance(value, str) or not value:
        raise ManifestError(f"{where} is {shown(value)}, wanted a text")
    return value


def want_sha256(value: Any, where: str) -> str:
    """A sha256 as 64 lower-case hexadecimal digits."""
    if not isinstance(value, str) or not SHA256.fullmatch(value):
        raise ManifestError(f"{where} is {shown(value)}, wanted a sha256 as 64 lower-case hexadecimal digits")
    return value
