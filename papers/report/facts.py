"""What is known of a run beside its results: its settings and curves, which train/ reads, and its data, as manifests say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrep.errors import DataError
from genrep.evaluate.results import read_json
from genrep.train.contract import CONFIG_FILE, Run, read_run

MANIFEST_FILE = "manifest.json"
Json = dict[str, Any]


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
    run: Run
    data: tuple[DataFacts, ...]

    @property
    def config(self) -> Mapping[str, Any] | None:
        """Its settings; None: no training's folder."""
        return self.run.settings

    @property
    def lines(self) -> tuple[Mapping[str, Any], ...]:
        """Its curves."""
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
        return RunFacts(name=folder.stem, run=Run(settings=None, lines=()), data=())
    run = read_run(folder)
    data: tuple[DataFacts, ...] = ()
    if run.settings is not None:
        folders = run.settings.get("data", [])
        if not isinstance(folders, list) or not all(isinstance(one, str) for one in folders):
            raise DataError(f"{folder / CONFIG_FILE}: data is {folders!r}, wanted a list of folders")
        ids = str(run.settings.get("dataset_id", "")).split("+")
        known = ids if len(ids) == len(folders) else [""] * len(folders)
        data = tuple(_data(Path(one), identity) for one, identity in zip(folders, known))
    return RunFacts(name=folder.resolve().name, run=run, data=data)


def _data(folder: Path, identity: str) -> DataFacts:
    """What the manifest says, if it is still the one of the set that was trained on."""
    path = folder / MANIFEST_FILE
    if not folder.is_dir():
        return DataFacts(folder=folder.name, missing=f"dataset {folder.name} is not there")
    if not path.exists():
        return DataFacts(folder=folder.name)
    manifest = read_object(path)
    if identity and not identity.startswith(str(manifest.get("id"))):
        return DataFacts(folder=folder.name, missing=f"dataset {folder.name} is another one now")
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
