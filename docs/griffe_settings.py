"""An extension of Griffe: what a config's settings say of themselves, as a table of attributes in the Python reference.

A config's fields are calls of ``setting(help=…)`` (genrep.settings), of which static analysis sees the call alone.
"""

from __future__ import annotations

import dataclasses
from importlib import import_module
from typing import Any

import griffe


class Settings(griffe.Extension):
    """Move the settings of a class decorated by ``@config`` into its docstring."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Called for a class that has been read with all of its members."""
        if not any(str(decorator.value).split(".")[-1] == "config" for decorator in cls.decorators):
            return
        made = getattr(import_module(cls.module.path), cls.name)
        lines = []
        for field in dataclasses.fields(made):
            said = field.metadata.get("setting")
            annotation = cls.members[field.name].annotation if field.name in cls.members else field.type
            if said is not None:
                lines.append(
                    f"    {field.name} ({annotation}): {' '.join((said.help or '').split())}{_default(field, said)}"
                )
            cls.members.pop(field.name, None)
        text = cls.docstring.value if cls.docstring else ""
        cls.docstring = griffe.Docstring(text + "\n\nAttributes:\n" + "\n".join(lines), parent=cls, parser="google")


def _default(field: dataclasses.Field[Any], said: Any) -> str:
    if "[default" in (said.help or ""):
        return ""
    if field.default is dataclasses.MISSING:
        return "  [required]"
    return "" if field.default is None or field.default == () else f"  [default: {field.default!r}]"
