"""Names of settings: as options, and in refusals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def option(name: str) -> str:
    """A field's option on the command line."""
    return "--" + name.replace("_", "-")


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """The settings that differ, for a refusal; empty if none do."""
    names = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    return ", ".join(f"{name} {theirs.get(name)!r} there, {ours.get(name)!r} asked for" for name in names)
