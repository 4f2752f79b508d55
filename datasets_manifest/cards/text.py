"""A stranger's values inside Markdown and YAML: always one line, never markup."""

from __future__ import annotations

import json
from typing import Any

from genrep.untrusted import printable

MAX_TEXT = 300  # characters of a value


def look(value: Any, *keys: str) -> Any:
    """What lies under nested keys of the open parts of a manifest; None where there is no such thing."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def text_at(value: Any, *keys: str) -> str | None:
    """``look`` for a text that is not empty."""
    found = look(value, *keys)
    return found if isinstance(found, str) and found.strip() else None


def line(value: Any) -> str:
    """A value as one printable line: texts as they are, the rest as JSON, at most MAX_TEXT characters."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    text = printable(text)
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def code(value: Any) -> str:
    """A value as Markdown's inline code, where nothing is markup; a table's bar and the backtick are escaped as in Python."""
    text = line(value).replace("`", r"\x60").replace("|", r"\x7c")
    return f"`{text}`" if text.strip() else "(empty)"


def quoted(value: Any) -> str:
    """A value as a double-quoted YAML scalar (JSON's strings are such)."""
    return json.dumps(line(value), ensure_ascii=False)
