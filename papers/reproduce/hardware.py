"""Images per second of stated hardware: as a file says they were measured, else as they follow from a network's operations."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from genrep.untrusted import one_line, shown

from .flops import gflops
from .works import Work

HARDWARE_FILE = "hardware.toml"
MEASURED = "images_per_s"  # the table of a file
LARGEST_FILE = 1_000_000  # bytes


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """One device with its CPU cores."""

    name: str
    bf16_tflops: float | None = None  # peaks; None: only measured rates are known
    tf32_tflops: float | None = None
    sustained: float = 0.15  # of the peak, supposed
    cores: int = 16
    decode_ms_per_megapixel: float = 3.3
    encode_ms_per_megapixel: float = 3.7
    measured: Mapping[str, float] = field(default_factory=dict)  # images/s by kind of work

    def rate(self, kind: str) -> float:
        """Images per second of a kind of work that is measured, or follows from a peak (see ``check``)."""
        if kind in self.measured:
            return self.measured[kind]
        return 1000 * (self._peak(kind) or math.nan) * self.sustained / gflops(kind)

    def check(self, kinds: Iterable[str]) -> None:
        """Raises ValueError for kinds of work that are neither measured nor follow from a peak."""
        missing = sorted(kind for kind in set(kinds) if kind not in self.measured and self._peak(kind) is None)
        if missing:
            names = ", ".join(map(repr, missing))
            raise ValueError(f'--hardware {self.name}: no images/s of {names}; wanted them, or like = "a100"')

    def _peak(self, kind: str) -> float | None:
        return self.bf16_tflops if kind.startswith("train resnet") else self.tf32_tflops

    def seconds(self, work: Work) -> float:
        """Of a task: the device and the CPU's cores work side by side."""
        device = sum(count / self.rate(kind) for kind, count in work.images.items())
        pixels = work.decoded * self.decode_ms_per_megapixel + work.encoded * self.encode_ms_per_megapixel
        host = (pixels / 1e9 + work.core_seconds) / self.cores
        return work.seconds + max(device, host)

    def says(self, kinds: Iterable[str]) -> list[str]:
        """Where the rates of these kinds of work are from."""
        kinds = sorted(set(kinds))
        derived = [kind for kind in kinds if kind not in self.measured]
        lines = []
        if len(derived) < len(kinds):
            told = ", ".join(f"{kind} {self.measured[kind]:,.0f}" for kind in kinds if kind in self.measured)
            lines.append(f"Images/s as the file says: {told}.")
        if derived:
            told = ", ".join(f"{kind} {self.rate(kind):,.0f} ({gflops(kind):,.3g} GFLOP)" for kind in derived)
            lines.append(
                f"Images/s derived, not measured, as {100 * self.sustained:g} % of the peak ({self.bf16_tflops:g} TFLOP/s in "
                f"bfloat16, for trainings, {self.tf32_tflops:g} in TF32) over the network's operations: {told}."
            )
        lines.append(
            f"JPEGs at {self.decode_ms_per_megapixel:g} ms a megapixel and core to decode, {self.encode_ms_per_megapixel:g} "
            "to encode; half a byte a pixel; one task after another."
        )
        return lines


def known_hardware() -> dict[str, Hardware]:
    """By name."""
    content = tomllib.loads((files(__package__) / HARDWARE_FILE).read_text(encoding="utf-8"))
    return {name: Hardware(**value) for name, value in content.items()}


def find_hardware(text: str) -> Hardware:
    """A name, or a TOML file: ``name``, ``like`` (whose numbers hold where it says none), any field, and images/s.

    Raises:
        ValueError: there is no such file, or it says what this cannot use; names the option.
    """
    known = known_hardware()
    if text in known:
        return known[text]
    path = Path(text).expanduser()
    if not path.is_file():
        raise ValueError(f"--hardware {shown(text)}: wanted {', '.join(known)}, or a TOML file of images/s")
    where = f"--hardware {shown(text)}"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ValueError(f"more than {LARGEST_FILE:,} bytes")
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: cannot be read as TOML ({one_line(str(error))})") from error
    return _read(content, known, where, path.stem)


def _read(content: Mapping[str, Any], known: Mapping[str, Hardware], where: str, stem: str) -> Hardware:
    """A file's content. Raises ValueError."""
    rest = dict(content)
    parent, measured = rest.pop("like", None), rest.pop(MEASURED, {})
    if parent is not None and parent not in known:
        raise ValueError(f"{where}: like is {shown(parent)}, wanted one of {', '.join(known)}")
    if not isinstance(measured, dict):
        raise ValueError(f"{where}: {MEASURED} is {shown(measured)}, wanted a table")
    fields = set(vars(Hardware(name=""))) - {"measured"}
    for name, value in rest.items():
        if name not in fields:
            raise ValueError(f"{where}: unknown {shown(name)}; known: like, {MEASURED}, {', '.join(sorted(fields))}")
        good = isinstance(value, str) if name == "name" else _positive(value)
        if not good or (name == "sustained" and value > 1) or (name == "cores" and not isinstance(value, int)):
            raise ValueError(
                f"{where}: {name} is {shown(value)}, wanted a {'name' if name == 'name' else 'positive number'}"
            )
    for kind, rate in measured.items():
        if not _positive(rate):
            raise ValueError(f"{where}: {MEASURED}: {shown(kind)} is {shown(rate)}, wanted a positive number")
        try:
            gflops(kind)
        except ValueError as error:
            raise ValueError(f"{where}: {MEASURED}: {one_line(str(error))}") from error
    base = known[parent] if parent is not None else Hardware(name=stem)
    return replace(base, **{"name": stem, **rest}, measured=measured)


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
