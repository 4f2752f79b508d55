"""Files of records: a JSON object per line, appended whole; what a crash cut off in the middle is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..files import faults_named
from ..untrusted import read_bounded

MAX_BYTES = 1 << 30


def append_line(path: Path, line: Mapping[str, Any]) -> None:
    """Add a line. An OSError names the file."""
    with faults_named(path), open(path, "a") as file:
        file.write(json.dumps(line) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines that have a ``step``; none if there is no file. Raises DataError for what is no regular file."""
    if not path.exists():
        return []
    lines = []
    for text in read_bounded(path, MAX_BYTES, DataError, follow=True).splitlines():
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
    return lines
