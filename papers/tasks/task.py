"""Tasks: calls of our own commands, each in a folder named by the digest of its settings.

A verb describes such a command once: its inputs, the place of its result, and the words that its settings become.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, get_type_hints

from genrep.errors import DataError, flag
from genrep.evaluate.detection.config import DetectionConfig
from genrep.evaluate.finetune.config import FinetuneConfig
from genrep.evaluate.linear.config import LinearConfig
from genrep.evaluate.results import read_json, read_results
from genrep.evaluate.settings import KnnConfig
from genrep.evaluate.transfer import SUITES, TransferConfig
from genrep.evaluate.voc.config import Voc07Config
from genrep.files import digest_json
from genrep.generate.fits.config import DeltaConfig, FilterConfig, NavigatorConfig, SteerConfig
from genrep.generate.plans.config import BuildConfig, FolderConfig
from genrep.train.config import TrainConfig
from genrep.train.presets import preset as training_preset

from ..figure3.ways import Figure3Config
from .subset import SubsetConfig

GENERATE, TRAIN, EVALUATE = "genrep.generate", "genrep.train", "genrep.evaluate"
SUBSET, FIGURE3 = "genrep.papers.tasks.subset", "genrep.papers.figure3"
Settings = dict[str, Any]
# Fields whose option has another name, being given once for each value.
SINGULAR = {"batch_sizes": "batch_size"}
FOLDERS = {
    "subset": "images",
    "dataset": "datasets",
    "fit": "fits",
    "run": "runs",
    "evaluation": "evaluations",
    "timing": "timings",
}
TASKS = "tasks"  # record and log of each
RECORD_FILE, LOG_FILE = "task.json", "log.txt"
DIGITS = 12
DIGEST = rf"-[0-9a-f]{{{DIGITS}}}$"  # in the end of a folder's name
_RECORD: Mapping[str, type | tuple[type, ...]] = {
    **{"task": str, "command": list, "seconds": (int, float), "pieces": list, "finished": bool},
    **{"device": str, "cores": int, "like": str, "units": (int, float)},
}


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command, as a task calls it."""

    name: str
    kind: str  # of FOLDERS
    program: tuple[str, ...]  # python -m …
    identity: str  # stands for it in digests, whatever its module is called today
    final: str  # the file in the task's folder that it writes last
    out: str = ""  # --out is this file in the task's folder; empty: the folder
    positional: str | None = None  # the setting that is no option but an argument
    has_device: bool = True  # takes --device
    whole: bool = True  # False: ``final`` does not tell whether everything is there
    prints: bool = False  # what it prints is its result, and it has all devices, as the one task of its table


def _verb(module: str, name: str, kind: str, final: str, **more: Any) -> Verb:
    return Verb(name=name, kind=kind, program=(module, name), identity=f"{module}:{name}", final=final, **more)


VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            name="subset",
            kind="subset",
            program=(SUBSET,),
            identity="genrep.evaluate.reproduce.subset",
            final="done.json",
            has_device=False,
        ),
        _verb(GENERATE, "dataset", "dataset", "manifest.json"),
        _verb(GENERATE, "from-folder", "dataset", "manifest.json", positional="data", has_device=False),
        _verb(GENERATE, "fit-steer", "fit", "walks.json"),
        _verb(GENERATE, "fit-navigator", "fit", "navigator.json"),
        _verb(GENERATE, "fit-filter", "fit", "filter.json"),
        _verb(
            GENERATE,
            "measure-delta",
            "evaluation",
            "delta.json",
            out="delta.json",
            positional="walks",
            has_device=False,
        ),
        Verb(name="train", kind="run", program=(TRAIN,), identity=TRAIN, final="encoder.safetensors"),
        _verb(EVALUATE, "linear", "evaluation", "linear.json"),
        _verb(EVALUATE, "knn", "evaluation", "knn.json"),
        _verb(EVALUATE, "voc07", "evaluation", "voc07.json"),
        _verb(EVALUATE, "finetune", "evaluation", "finetune.json"),
        _verb(EVALUATE, "detection", "evaluation", "detection.json"),
        _verb(EVALUATE, "transfer", "evaluation", "transfer.json", whole=False),
        Verb(
            name="figure3",
            kind="timing",
            program=(FIGURE3,),
            identity=FIGURE3,
            final="output.txt",
            out="timing.json",
            whole=False,
            prints=True,
        ),
    )
}


def config_of(verb: str, given: Mapping[str, Any]) -> Any:
    """The config that a command makes of these settings.

    Raises:
        ValueError: settings that it does not take.
        RecipeError: the same, of genrep-generate's.
    """
    return CONFIGS[verb](given)


def _plain(config: type[Any]) -> Callable[[Mapping[str, Any]], Any]:
    return lambda given: config(**_typed(config, given))


def _typed(config: type[Any], given: Mapping[str, Any]) -> Settings:
    """Words of a table as a config's fields have them: paths, and tuples of what may be given several times."""
    hints = get_type_hints(config)
    said = dict(given)
    if "seeds" in said and "seeds" not in hints:
        (said["seed"],) = said.pop("seeds")
    known = {one.name for one in fields(config)}
    if unknown := sorted(said.keys() - known):
        raise ValueError(f"{config.__name__}: has no setting {', '.join(unknown)}")
    return {name: _value(hints[name], value) for name, value in said.items()}


def _value(hint: Any, value: Any) -> Any:
    text = str(hint)
    if isinstance(value, (list, tuple)):
        return tuple(Path(one) if "Path" in text else one for one in value)
    return Path(value) if isinstance(value, str) and "Path" in text and "str" not in text else value


def _training(given: Mapping[str, Any]) -> TrainConfig:
    """The settings of a training, with the preset's values for those not given."""
    own = {name: value for name, value in given.items() if name != "preset"}
    base = training_preset(given["preset"]) if "preset" in given else {}
    if own.keys() & {"epochs", "steps"}:  # one length replaces the other
        base = {name: value for name, value in base.items() if name not in ("epochs", "steps")}
    return TrainConfig(**_typed(TrainConfig, {**base, **own}))


def _navigator(given: Mapping[str, Any]) -> NavigatorConfig:
    own = {name: value for name, value in given.items() if name != "preset"}
    return NavigatorConfig.of_preset(given.get("preset", "cop-gen"), **_typed(NavigatorConfig, own))


CONFIGS: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "subset": _plain(SubsetConfig),
    "dataset": _plain(BuildConfig),
    "from-folder": _plain(FolderConfig),
    "fit-steer": _plain(SteerConfig),
    "fit-navigator": _navigator,
    "fit-filter": _plain(FilterConfig),
    "measure-delta": _plain(DeltaConfig),
    "train": _training,
    "linear": _plain(LinearConfig),
    "knn": _plain(KnnConfig),
    "voc07": _plain(Voc07Config),
    "finetune": _plain(FinetuneConfig),
    "detection": _plain(DetectionConfig),
    "transfer": _plain(TransferConfig),
    "figure3": _plain(Figure3Config),
}


def words(given: Mapping[str, Any], positional: str | None = None) -> tuple[str, ...]:
    """Settings as the words of a command line, in their order.

    >>> words({"num_pairs": 5, "class_head": True, "cache": False, "lr_grid": [2.0, 3.0], "size": None})
    ('--num-pairs', '5', '--class-head', '--no-cache', '--lr-grid', '2.0', '--lr-grid', '3.0')
    >>> words({"data": "images", "seeds": (0, 1)}, positional="data")
    ('images', '--seed', '0,1')
    """
    found: list[str] = []
    for name, value in given.items():
        option = flag(SINGULAR.get(name, name))
        several = value if isinstance(value, (list, tuple)) else [value]
        if name == positional:
            found += map(str, several)
        elif name == "seeds":
            found += ["--seed", ",".join(map(str, value))]
        elif isinstance(value, bool):
            found.append(option if value else option.replace("--", "--no-", 1))
        elif value is not None:
            for one in several:
                found += [option, str(one)]
    return tuple(found)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A call of a command. Two with equal settings are one: ``id`` compares them.

    ``given`` are the settings that the command is given, by the names of its config's fields; a preset is named and not spelt
    out. They lack ``out`` and ``device``, and name the folders of other tasks relative to the whole's. ``{root}``,
    ``{weights:NAME}`` for a generator's file and ``{encoder:NAME}`` stand in for paths, on which no digest should depend.
    """

    verb: Verb
    label: str  # for people, and the folder's name
    given: Settings
    needs: tuple[Task, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)  # further settings that the result depends on
    views: str | None = None  # content of the file that ``given["views"]`` names
    like: str = ""  # tasks with the same take ``units`` times as long
    units: float = 1.0
    seed: int | None = None  # of the training that it is, or measures

    @property
    def kind(self) -> str:
        """One of FOLDERS."""
        return self.verb.kind

    @property
    def final(self) -> str:
        """The file that the command writes last."""
        return self.verb.final

    @cached_property
    def config(self) -> Any:
        """All settings, as the command has them. Raises ValueError or RecipeError for settings that it would not take."""
        return config_of(self.verb.name, {**self.given, "out": self.out})

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """``given`` as the words of a command line."""
        return words(self.given, self.verb.positional)

    @cached_property
    def digest(self) -> str:
        """Digest of everything that the result depends on. The folders of ``needs`` are among the arguments."""
        return digest_json([self.verb.identity, *self.arguments, dict(self.facts)])[:DIGITS]

    @property
    def id(self) -> str:
        """The folder's name."""
        return f"{self.label}-{self.digest}"

    @property
    def kin(self) -> str:
        """``like`` without the digests of settings: about as long, whatever the fine print.

        >>> from .verbs import VERBS
        >>> Task(verb=VERBS["fit-steer"], label="", given={}, like="fit-steer biggan 64fb8e").kin
        'fit-steer biggan'
        """
        return self.like.rpartition(" ")[0] if self.kind in ("fit", "run") else re.sub(DIGEST, "", self.like)

    @property
    def folder(self) -> str:
        """Relative to the whole's."""
        return f"{FOLDERS[self.kind]}/{self.id}"

    @property
    def out(self) -> str:
        """``--out``: the folder, or the one file that a command writes."""
        return f"{self.folder}/{self.verb.out}" if self.verb.out else self.folder

    @property
    def whole(self) -> bool:
        """Whether ``final`` shows that everything is there. If False, only the record does."""
        return self.verb.whole and len(self.given.get("seeds", (0,))) == 1

    @property
    def parts(self) -> tuple[str, ...]:
        """Datasets of which ``final`` has results, once all that could be there is; none: it is of one."""
        return SUITES[self.given["suite"]].datasets if "suite" in self.given else ()

    def command(self, values: Mapping[str, str], device: str) -> list[str]:
        """The argument list of the process; ``values`` are those of the placeholders."""
        filled = [fill(argument, values) for argument in self.arguments]
        tail = ["--out", self.out, *(["--device", device] if self.verb.has_device else [])]
        return [sys.executable, "-m", *self.verb.program, *filled, *tail]

    def has_result(self, out: Path) -> bool:
        """Whether the task's result is there, whichever process wrote it."""
        path = out / self.folder / self.final
        if self.kind == "dataset" and path.is_file():
            return _shards_there(path)
        if self.kind == "evaluation" and not self.verb.out and path.is_file():
            return path.read_bytes().strip() != b"[]"  # a list of no results
        return path.is_file()

    def finished(self, out: Path) -> bool:
        """Whether the command has done everything that it could."""
        record = out / TASKS / self.id / RECORD_FILE
        return self.has_result(out) and (self.whole or bool(read_record(record).get("finished")))

    def done(self, out: Path) -> bool:
        """Whether all of it is there."""
        return self.finished(out) and not self.missing_parts(out)

    def missing_parts(self, out: Path) -> list[str]:
        """The ``parts`` without a result, because they were not under the root at the time."""
        if not self.parts:
            return []
        try:
            there = {entry["dataset"] for entry in read_results(out / self.folder / self.final)}
        except (DataError, OSError, TypeError):
            there = set()
        return [part for part in self.parts if part not in there]


def read_record(path: Path) -> dict[str, Any]:
    """A task's record; empty if it is missing or lacks what ``scheduling.add_piece`` writes."""
    try:
        value = read_json(path)
    except (DataError, OSError):
        return {}
    if not isinstance(value, dict) or not all(isinstance(value.get(key), kind) for key, kind in _RECORD.items()):
        return {}
    return value if all(isinstance(piece, (int, float)) for piece in value["pieces"]) else {}


def _shards_there(manifest: Path) -> bool:
    """Whether every shard that a manifest names is beside it; a manifest alone serves a report, not a training."""
    try:
        shards = read_json(manifest)["shards"]
        return all((manifest.parent / shard["name"]).is_file() for shard in shards)
    except (DataError, OSError, ValueError, KeyError, TypeError):
        return False


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values in the places of ``{NAME}``; other braces stay."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def all_tasks(goals: Iterable[Task]) -> list[Task]:
    """The goals and all tasks that they need, each once, needed tasks first."""
    found: dict[str, Task] = {}

    def visit(task: Task) -> None:
        if task.id not in found:
            for need in task.needs:
                visit(need)
            found[task.id] = task

    for goal in goals:
        visit(goal)
    return list(found.values())


def open_tasks(goals: Iterable[Task], out: Path) -> list[Task]:
    """The tasks that are left to do. A task that no open task needs is not among them."""
    found: dict[str, Task] = {}

    def visit(task: Task) -> None:
        if task.id not in found and not task.done(out):
            for need in task.needs:
                visit(need)
            found[task.id] = task

    for goal in goals:
        visit(goal)
    return list(found.values())
