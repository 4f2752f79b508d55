"""A run's folder: of which settings it is, and that other settings are refused by name."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import ResumeError
from ..files import write_json
from ..untrusted import read_object, shown

CONFIG_FILE = "config.json"


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], names: Iterable[str] | None = None) -> str:
    """The settings that differ, for an error; empty if none do. Compares all names in alphabetical order, or ``names``."""
    compared = sorted(ours.keys() | theirs.keys()) if names is None else names
    return ", ".join(
        f"{name} {shown(theirs.get(name))} there, {ours.get(name)!r} asked for"
        for name in compared
        if ours.get(name) != theirs.get(name)
    )


def refuse_another(out: Path, found: str, more: str = "") -> None:
    """Raise ResumeError if ``found``, of ``differences``, says that the folder belongs to a run with other settings."""
    if found:
        raise ResumeError.naming(
            "{out} {}: holds another run ({}{}); give the same settings, or another {out}", out, found, more
        )


def refuse_other_settings(out: Path, identity: Mapping[str, Any]) -> None:
    """Raise ResumeError if config.json tells of other settings than these. A file that is missing or damaged tells nothing:
    the checkpoint is checked again when it is read."""
    try:
        there = read_object(out / CONFIG_FILE, ResumeError)
    except ResumeError:
        return
    refuse_another(out, differences(identity, there, sorted(identity)))


def write_config(out: Path, settings: Mapping[str, Any]) -> None:
    """Write what was asked for. Paths become text; JSON has no other form for them."""
    told = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    write_json(out / CONFIG_FILE, told)


def made_with(device: torch.device) -> dict[str, Any]:
    """Device, PyTorch version and number of threads of a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
