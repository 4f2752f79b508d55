"""What ``genrep-evaluate reproduce`` is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genrep.encoders import DEVICES
from genrep.errors import one_of

from .planning import known_encoders, usable_generators
from .specs import SCALES, read_scale, read_table


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """Settings of a reproduction; what is None is the scale's or the machine's."""

    table: str
    out: Path  # gets every dataset, run and result, and a folder with the report
    scale: str = "small"
    rows: tuple[str, ...] = ()  # their ids; none: all
    seeds: tuple[int, ...] | None = None  # of trainings and evaluations; a row's runs share their data
    root: Path | None = None  # real data
    download: bool = False  # fetch the named sets that are not under root, before any task
    weights: Mapping[str, Path] = field(default_factory=dict)  # of generators, by name
    encoders: Mapping[str, str] = field(
        default_factory=dict
    )  # that rows only measure, by name: files or module:factory
    device: str = "auto"
    jobs: int | None = None  # tasks at a time; None: one per GPU, one on a CPU
    hardware: str | None = None  # whose times a dry run tells: a name of hardware.toml, or a file

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        if self.scale not in SCALES:
            raise ValueError(f"--scale {self.scale!r}: wanted one of {one_of(self.scale, SCALES)}")
        if self.device not in DEVICES:
            raise ValueError(f"--device {self.device!r}: wanted one of {one_of(self.device, DEVICES)}")
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs {self.jobs}: wanted at least 1")
        if self.seeds is not None and (not self.seeds or len(set(self.seeds)) < len(self.seeds)):
            raise ValueError(f"--seeds {','.join(map(str, self.seeds))}: wanted different numbers, at least one")
        if any(not 0 <= seed < 2**63 for seed in self.seeds or ()):
            raise ValueError(f"--seeds {','.join(map(str, self.seeds or ()))}: wanted numbers from 0 and below 2**63")
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ValueError(f"--out {self.out}: {there} is no folder")
        generators = usable_generators(self.table, self.scale)
        for name in self.weights:
            if name not in generators:
                raise ValueError(
                    f"--weights {name}: {self.table} at this scale takes those of {', '.join(generators) or 'none'}"
                )
        taken = known_encoders(self.table, self.scale)
        for name in self.encoders:
            if name not in taken:
                raise ValueError(
                    f"--encoder {name}: {self.table} at this scale takes those of {', '.join(taken) or 'none'}"
                )
        known = [row.id for row in read_table(self.table, self.scale).rows]
        for row in self.rows:
            if row not in known:
                raise ValueError(f"--rows {row!r}: {self.table} at this scale has {one_of(row, known) or 'no rows'}")

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """Those asked for, else the scale's."""
        return self.seeds or read_scale(self.scale).seeds
