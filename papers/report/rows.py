"""Everything that is known of a report's rows: their results and the facts of their runs.

These are their settings and curves, which train/ reads, and their data, as manifests say it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.encoders.architectures import in_words
from genrep.errors import DataError
from genrep.evaluate.results import read_json
from genrep.train.contract import CONFIG_FILE, TrainedRun, read_run

from .config import Row
from .measured import Measured, read_measured
from .page import Table

MANIFEST_FILE = "manifest.json"
Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class RowData:
    """A row with what its files hold."""

    row: Row
    measured: list[Measured]
    runs: list[RunFacts]

    @property
    def name(self) -> str:
        """The row's."""
        return self.row.name

    @property
    def configs(self) -> list[Mapping[str, Any]]:
        """The configs of those runs that are trainings."""
        return [run.config for run in self.runs if run.config is not None]

    @property
    def missing(self) -> list[str]:
        """Why facts of the data are not known."""
        return list(dict.fromkeys(data.missing for run in self.runs for data in run.data if data.missing))


def read_row(row: Row) -> RowData:
    """Read a row's files. Raises DataError, naming the one that is missing, broken or something else."""
    measured = read_measured((*row.runs, *row.results))
    return RowData(row=row, measured=measured, runs=[read_facts(path) for path in row.runs])


def duration(seconds: float) -> str:
    """For people.

    >>> duration(7.3), duration(600), duration(9000)
    ('7 s', '10 min', '2.5 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def every(values: Iterable[Any]) -> str:
    """The different values, in order; empty where nothing is recorded."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def encoders_table(rows: list[RowData]) -> Table:
    """A line of facts for each row; columns of which nothing is recorded are left out."""
    columns: list[tuple[str, Callable[[RowData], str]]] = [
        ("encoder", _encoder),
        ("objective", lambda row: every(config.get("objective") for config in row.configs)),
        ("trained on", _data),
        ("positive", lambda row: every(config.get("positive") for config in row.configs)),
        ("pixel views", lambda row: every(config.get("pixel_views") for config in row.configs)),
        ("length", lambda row: every(map(_length, row.configs))),
        ("batch", lambda row: every(config.get("batch_size") for config in row.configs)),
        ("seed", lambda row: every(config.get("seed") for config in row.configs)),
        ("training", lambda row: every(duration(run.seconds) for run in row.runs if run.seconds)),
        ("on", lambda row: every(map(_hardware, row.configs))),
        ("data made in", _data_time),
        ("sha256", _digests),
    ]
    cells = [(name, [told(row) for row in rows]) for name, told in columns]
    cells = [(name, column) for name, column in cells if any(column)]
    return Table(
        head=["", *(name for name, _ in cells)],
        rows=[[row.name, *(column[k] for _, column in cells)] for k, row in enumerate(rows)],
    )


def _encoder(row: RowData) -> str:
    said = [one.entry.get("encoder") for one in row.measured] or row.configs
    told = []
    for facts in said:
        if isinstance(facts, Mapping):
            trained = "" if facts.get("trained", True) else ", random"
            told.append(f"{in_words(facts)}{trained}")
    return every(told)


def _data(row: RowData) -> str:
    told = []
    for run in row.runs:
        config = run.config or {}
        if config.get("online"):
            told.append(f"{config.get('gen')}, {config.get('views') or 'its views'}, made while training")
        elif run.data:
            mix, limit = config.get("mix"), config.get("limit")
            share = f" ({100 * mix:.3g} % replaced)" if isinstance(mix, (int, float)) else ""
            part = f", {config.get('num_pairs')} of them" if limit not in (None, 1, 1.0) else ""
            told.append(" + ".join(data.what for data in run.data) + share + part)
    return every(told)


def _length(config: Mapping[str, Any]) -> str:
    steps = f"{config['total_steps']:,} steps" if isinstance(config.get("total_steps"), int) else ""
    epochs = "" if config.get("epochs") is None else f"{config['epochs']} epochs"
    return ", ".join(part for part in (epochs, steps) if part)


def _hardware(config: Mapping[str, Any]) -> str:
    processes = config.get("processes")
    many = f" x {processes}" if isinstance(processes, int) and processes > 1 else ""
    return f"{config['device']}{many}" if config.get("device") else ""


def _data_time(row: RowData) -> str:
    told = []
    for build in (data.build for run in row.runs for data in run.data if data.build):
        if _number(build.get("seconds")):
            devices = build.get("device")
            where = f" on {', '.join(map(str, devices))}" if isinstance(devices, list) and devices else ""
            told.append(duration(build["seconds"]) + where)
    return every(told)


def _digests(row: RowData) -> str:
    digests = (str(one.entry["encoder_sha256"])[:8] for one in row.measured if one.entry.get("encoder_sha256"))
    return ", ".join(dict.fromkeys(digests))


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """One of the sets that a run was trained on."""

    folder: str  # its bare name
    recipe: Json | None = None  # of its manifest; None: an image folder, or not there any more
    build: Json | None = None
    missing: str | None = None  # why the recipe is not known

    @property
    def what(self) -> str:
        """Generator or source, latent views, number of samples."""
        if self.recipe is None:
            return self.folder
        generator, source = _object(self.recipe.get("generator")), _object(self.recipe.get("source"))
        own = _object(_object(self.build).get("weights")).get("name")  # of a generator of fit-gan's
        name = own or generator.get("name") or source.get("name") or source.get("folder") or self.folder
        parts = [str(name)]
        if generator:
            parts.append(views_text(self.recipe.get("views")))
        if isinstance(count := self.recipe.get("num_pairs"), int):
            parts.append(f"{count:,} {'pairs' if self.recipe.get('num_positives') else 'images'}")
        return ", ".join(parts)


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A run."""

    name: str  # of its folder
    run: TrainedRun
    data: tuple[DataFacts, ...]

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The run's settings; None if the folder is not a training's."""
        return self.run.settings

    @property
    def lines(self) -> tuple[Mapping[str, Any], ...]:
        """The run's curves."""
        return self.run.lines

    @property
    def seconds(self) -> float | None:
        """Time that its steps took, from the images per second that were recorded; None where they are not."""
        config = self.config or {}
        per_step = _product(config.get("num_views"), config.get("batch_size"))
        timed = [line for line in self.lines if _positive(line.get("images_per_s"))]
        if per_step is None or not timed:
            return None
        steps = [0, *(line["step"] for line in timed)]
        return sum(per_step * (b - a) / line["images_per_s"] for a, b, line in zip(steps, steps[1:], timed) if b > a)


def read_facts(folder: Path) -> RunFacts:
    """The facts of a folder; a result file has none.

    Raises:
        DataError: config.json, metrics.jsonl or a manifest is not what its name says.
    """
    if not folder.is_dir():
        return RunFacts(name=folder.stem, run=TrainedRun(settings=None, lines=()), data=())
    run = read_run(folder)
    data: tuple[DataFacts, ...] = ()
    if run.settings is not None:
        folders = run.settings.get("data", [])
        if not isinstance(folders, list) or not all(isinstance(one, str) for one in folders):
            raise DataError(f"{folder / CONFIG_FILE}: data is {folders!r}, wanted a list of folders")
        ids = str(run.settings.get("dataset_id", "")).split("+")
        known = ids if len(ids) == len(folders) else [""] * len(folders)
        data = tuple(_facts_of_data(Path(one), identity) for one, identity in zip(folders, known))
    return RunFacts(name=folder.resolve().name, run=run, data=data)


def _facts_of_data(folder: Path, identity: str) -> DataFacts:
    """Facts from the manifest, if it is still that of the training set."""
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        return DataFacts(folder=folder.name, missing=f"dataset {folder.name} is not there")
    if not path.exists():
        return DataFacts(folder=folder.name)
    manifest = read_object(path)
    if identity and not identity.startswith(str(manifest.get("id"))):
        return DataFacts(folder=folder.name, missing=f"dataset {folder.name} has been replaced by another one")
    if not isinstance(manifest.get("recipe"), dict):
        raise DataError(f"{path}: recipe is not an object")
    return DataFacts(folder=folder.name, recipe=manifest["recipe"], build=_object(manifest.get("build")))


def read_object(path: Path) -> Json:
    """A JSON object. Raises DataError."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: wanted a JSON object, found {type(value).__name__}")
    return value


def views_text(views: Any) -> str:
    """Latent views as ``--views`` takes them.

    >>> views_text({"name": "gaussian", "std": 0.2, "truncation": 2.0})
    'gaussian:std=0.2,truncation=2'
    >>> part = {"chunks": "1-5", "view": {"name": "gaussian", "std": 1.0, "truncation": 2.0}}
    >>> views_text({"name": "hierarchical", "over": "chunks", "parts": [{"chunks": "0", "view": None}, part]})
    'hierarchical:1-5=(gaussian:std=1,truncation=2)'
    """
    if not isinstance(views, Mapping) or not isinstance(views.get("name"), str):
        return "views unknown"
    items = []
    for key, value in views.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            items.append(f"{key}={value:g}")
        elif isinstance(value, str) and key != "name":
            items.append(f"{key}={value[:12]}" if len(value) == 64 else f"{key}={value}")
        elif key == "parts" and isinstance(value, list):
            items += [text for part in value if isinstance(part, Mapping) and (text := _part(part, views.get("over")))]
    items = [item for item in items if item != "over=chunks"]
    return views["name"] + (":" + ",".join(items) if items else "")


def _part(part: Mapping[str, Any], over: Any) -> str:
    if part.get("view") is None:
        return ""
    where = part.get(over) if isinstance(over, str) else part.get("weight")
    return f"{where}=({views_text(part['view'])})"


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _product(*factors: Any) -> float | None:
    return math.prod(factors) if all(_positive(factor) for factor in factors) else None


def _positive(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
