"""Settings of ``genrep-evaluate reproduce``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from genrep.encoders import DEVICES
from genrep.errors import ConfigError, one_of
from genrep.evaluate.settings import check_seeds, seed_numbers
from genrep.settings import MOST_SEED, config, setting

from .specs import SCALES, known_encoders, read_scale, read_table, table_names, usable_generators


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


@config
class ReproduceConfig:
    """Settings of a reproduction. None takes the scale's or the machine's value."""

    table: str = setting(argument=True, metavar="TABLE", choices=table_names())
    out: Path = setting(metavar="DIR", help="Folder for all datasets, runs, results and reports.")
    scale: str = setting(
        default="small",
        choices=SCALES,
        help="Size of the reproduction. tiny: a test of the machinery; cpu: ten minutes on two cores per row; "
        "small: ten minutes on a GPU per row of three seeds; full: the papers' settings.",
    )
    rows: tuple[str, ...] = setting(
        default=(), metavar="ID[,ID...]", parse=_names, help="Rows to reproduce.  [default: all]"
    )
    seeds: tuple[int, ...] | None = setting(  # a row's runs share their data
        default=None,
        least=0,
        most=MOST_SEED,
        flags=("--seed", "--seeds"),
        parse=seed_numbers,
        metavar="N[,N...]",
        help="Seeds of trainings and evaluations; each seed is a run of its own.  [default: 0; at scales cpu "
        "and small 0,1,2]",
    )
    root: Path | None = setting(
        default=None,
        metavar="DIR",
        help="Folder that holds the real data: named sets, imagenet/, VOCdevkit/, and so on. Required where a "
        "row uses real data.",
    )
    download: bool = setting(default=False, help="Fetch the named sets that are not under --root.")
    weights: Mapping[str, Path] | Sequence[str] = setting(
        default=(),
        metavar="GENERATOR=FILE",
        help="Weights file of a generator. May be repeated.  [default: the recipe's]",
    )
    encoders: Mapping[str, str] | Sequence[str] = setting(
        default=(),
        flags="--encoder",
        metavar="NAME=FILE|MODULE:FACTORY",
        help="Encoder of a row that is measured but not trained here: bigbigan (genrep-table4 at scale full). "
        "May be repeated.",
    )
    device: str = setting(default="auto", choices=DEVICES, help="Device of all tasks. auto: the GPUs if there are any.")
    jobs: int | None = setting(
        default=None,
        least=1,
        metavar="N",
        help="Number of tasks that run at a time.  [default: one per GPU; one on a CPU]",
    )
    hardware: str | None = setting(
        default=None,
        metavar="a100|h100|FILE",
        help="With --dry-run: estimate times for this hardware; FILE is TOML with measured images/s.  "
        "[default: a100 at scale full, else this machine]",
    )

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        if self.seeds is not None:
            check_seeds(self.seeds)
        there = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not there.is_dir():
            raise ConfigError.naming("{out} {}: {} is not a folder", self.out, there)
        if not isinstance(self.weights, Mapping):
            object.__setattr__(self, "weights", _weights(self.weights))
        if not isinstance(self.encoders, Mapping):
            object.__setattr__(self, "encoders", _encoders(self.encoders))
        for option, names, taken in (
            ("weights", self.weights, usable_generators(self.table, self.scale)),
            ("encoders", self.encoders, known_encoders(self.table, self.scale)),
        ):
            for name in names:
                if name not in taken:
                    raise ConfigError.naming(
                        f"{{{option}}} {{}}: {{}} at this scale takes those of {{}}",
                        name,
                        self.table,
                        ", ".join(taken) or "none",
                    )
        rows = [row.id for row in read_table(self.table, self.scale).rows]
        for row in self.rows:
            if row not in rows:
                raise ConfigError.naming(
                    "{rows} {!r}: {} at this scale has {}", row, self.table, one_of(row, rows) or "no rows"
                )

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seeds asked for, else the scale's."""
        return self.seeds or read_scale(self.scale).seeds

    @property
    def weights_files(self) -> Mapping[str, Path]:
        """Files of generators, by name."""
        return cast(Mapping[str, Path], self.weights)

    @property
    def named_encoders(self) -> Mapping[str, str]:
        """Encoders that rows only measure, by name: files or module:factory."""
        return cast(Mapping[str, str], self.encoders)


def _weights(texts: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not Path(path).is_file():
            raise ConfigError.naming("{weights} {!r}: wanted GENERATOR=FILE of a file that is there", text)
        found[name] = Path(path)
    return found


def _encoders(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, where = text.partition("=")
        if not equals or not (Path(where).exists() or ":" in where):
            raise ConfigError.naming(
                "{encoders} {!r}: wanted NAME=FILE of a file that is there, or NAME=MODULE:FACTORY", text
            )
        found[name] = where
    return found
