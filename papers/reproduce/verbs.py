"""The commands that tasks call: what each is given, where its result lies, and how settings become words, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from genrep.evaluate.detection.config import DetectionConfig
from genrep.evaluate.finetune.config import FinetuneConfig
from genrep.evaluate.linear.config import LinearConfig
from genrep.evaluate.settings import KnnConfig
from genrep.evaluate.transfer import TransferConfig
from genrep.evaluate.voc.config import Voc07Config
from genrep.generate.fits.config import DeltaConfig, FilterConfig, NavigatorConfig, SteerConfig
from genrep.generate.plans.config import BuildConfig, FolderConfig
from genrep.train.config import TrainConfig
from genrep.train.presets import preset as training_preset

from ..figure3.ways import Figure3Config
from .subset import SubsetConfig

GENERATE, TRAIN, EVALUATE = "genrep.generate", "genrep.train", "genrep.evaluate"
SUBSET, FIGURE3 = "genrep.papers.reproduce.subset", "genrep.papers.figure3"
Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verb:
    """A command, as a task calls it."""

    name: str
    kind: str  # of tasks.FOLDERS
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
    """With the preset's settings in the places of those that are not given."""
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
# Fields whose option has another name, being given once for each value.
SINGULAR = {"batch_sizes": "batch_size"}


def words(given: Mapping[str, Any], positional: str | None = None) -> tuple[str, ...]:
    """Settings as the words of a command line, in their order.

    >>> words({"num_pairs": 5, "class_head": True, "cache": False, "lr_grid": [2.0, 3.0], "size": None})
    ('--num-pairs', '5', '--class-head', '--no-cache', '--lr-grid', '2.0', '--lr-grid', '3.0')
    >>> words({"data": "images", "seeds": (0, 1)}, positional="data")
    ('images', '--seed', '0,1')
    """
    found: list[str] = []
    for name, value in given.items():
        flag = "--" + SINGULAR.get(name, name).replace("_", "-")
        several = value if isinstance(value, (list, tuple)) else [value]
        if name == positional:
            found += map(str, several)
        elif name == "seeds":
            found += ["--seed", ",".join(map(str, value))]
        elif isinstance(value, bool):
            found.append(flag if value else flag.replace("--", "--no-", 1))
        elif value is not None:
            for one in several:
                found += [flag, str(one)]
    return tuple(found)
