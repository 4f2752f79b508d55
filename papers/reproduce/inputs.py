"""Where a row's samples come from: generators, real images, learned views, datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.errors import ConfigError
from genrep.files import digest_json, sha256_file
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.weights.locate import is_embedded
from genrep.images.sets import is_folder_set, is_small

from ..tasks.task import DIGITS, VERBS, Settings, Task, config_of
from .specs import RowSpec, ScaleSpec, image_shape, is_conditional, read_fit

PLACEHOLDER = re.compile(r"\{([a-z0-9-]+)\}")
ROOT = "{root}"  # where real data lie
VIEWS = "views"  # folder of views that are tables
NAVIGATOR_SAYS = (
    "Reduced, COP-Gen's navigator is not its recipe: HL's start, T(z) projected on a ball, no colour among f's pixel views, "
    "rates of 50 and 33 times COP-Gen's, batches of 64."
)


@dataclass(frozen=True, kw_only=True)
class TrainingInput:
    """The data that a training is given."""

    given: Settings  # of genrep-train
    needs: tuple[Task, ...]
    name: str  # of the last set, or of the generator at work
    facts: Mapping[str, str] = field(default_factory=dict)
    views: str | None = None  # content of a file of views


@dataclass(frozen=True, kw_only=True)
class Views:
    """Latent views of a row."""

    text: str  # as ``--views`` takes them
    name: str  # of the outermost one
    content: str | None  # of the file that ``text`` names; None: it is none
    fits: tuple[Task, ...]


class InputPlanner:
    """Makes the tasks that a row's training needs, at one scale."""

    def __init__(self, scale: ScaleSpec, weights: dict[str, Path], *, role: str) -> None:
        self.scale, self.weights = scale, weights
        self.weights_facts = {name: sha256_file(path)[:DIGITS] for name, path in weights.items()}
        self.stand_in = self._choose(role)
        self.replaced: dict[str, str] = {}
        self.navigated = False  # a row's positives are those of a navigator of COP-Gen

    def _choose(self, role: str) -> Settings:
        if not self.scale.reduced:
            return {}
        for one in self.scale.stand_ins:
            if role in one and (one[role] in self.weights or is_embedded(load_recipe(one[role]))):
                return one
        raise ConfigError.naming(
            "{scale} {}: no {} generator is there; {weights} NAME=FILE gives one", self.scale.name, role
        )

    def says(self) -> tuple[str, ...]:
        """Sentences about the scale's replacements for the papers' settings. Complete once all rows are planned."""
        said = [self.scale.says]
        if self.replaced:
            said.append("In the papers' places: " + "; ".join(f"{b} for {a}" for a, b in self.replaced.items()) + ".")
        if self.scale.reduced and self.navigated:
            said.append(NAVIGATOR_SAYS)
        return tuple(said)

    # Generators

    def _generator(self, spec: RowSpec) -> str:
        """The generator's name."""
        if not self.scale.reduced:
            return spec.generator
        conditional = is_conditional(spec.generator) or "unconditional" not in self.stand_in
        role = "conditional" if conditional else "unconditional"
        self.replaced[spec.generator] = self.stand_in[role]
        return self.stand_in[role]

    def _gen(self, spec: RowSpec) -> tuple[Settings, dict[str, str]]:
        """``gen`` and ``weights`` as commands take them, and what the digest shall know of the weights."""
        name = self._generator(spec)
        if name not in self.weights:
            return {"gen": name}, {}
        return {"gen": name, "weights": f"{{weights:{name}}}"}, {"weights": self.weights_facts[name]}

    def num_pairs(self, spec: RowSpec) -> int:
        """Number of pairs of the dataset that a row samples from."""
        return (self.scale.num_pairs if self.scale.reduced else spec.num_pairs) * spec.times

    # Real images

    def real(self, spec: RowSpec) -> tuple[str, Task | None]:
        """Name of the real set, or its folder, as commands take it; the task that makes the folder."""
        if not self.scale.reduced:
            return spec.real, None
        name = self.stand_in["real"]
        if spec.real:
            self.replaced[spec.real] = name
        if self.scale.subset is None:
            return name, None
        given = {"dataset": name, "root": ROOT, **self.scale.subset}
        task = Task(verb=VERBS["subset"], label=name, given=given, like="subset")
        return task.folder, task

    def _real_data(self, spec: RowSpec) -> Task:
        name, subset = self.real(spec)
        given = _place(name, subset)
        if not subset and not is_small(name):
            given |= self._real_shape(spec)
        return Task(
            verb=VERBS["from-folder"],
            label=f"real-{Path(name).name.rpartition('-')[0] if subset else name}",
            given={**given, "split": "train"},
            needs=(subset,) if subset else (),
            like=f"from-folder {name}",
        )

    def _real_shape(self, spec: RowSpec) -> Settings:
        """The shape of stored real images: whole for random crops, or that of generated images mixed with them."""
        if spec.real_shape == "whole":
            return {"shorter_side": self.scale.real_size}
        return {"size": "x".join(map(str, image_shape(spec.generator)))}

    # Fits that come before

    def fit(self, spec: RowSpec, name: str) -> Task:
        """A fit of ``fits.toml`` through the row's generator."""
        command, options = read_fit(name, self.scale.name)
        self.navigated |= name.startswith("navigator")
        given, facts = self._gen(spec)
        gen = given["gen"]
        same = {key: value for key, value in options.items() if key not in ("samples", "chunks", "layers")}
        part = "".join(f"-{key}-{options[key]}" for key in ("chunks", "layers") if key in options)
        needs: tuple[Task, ...] = ()
        if command == "fit-filter":
            real, subset = self.real(spec)
            needs = (subset,) if subset else ()
            given |= _place(real, subset)
        given |= options
        return Task(
            verb=VERBS[command],
            label=f"{command.removeprefix('fit-')}-{gen}{part}",
            given=given,
            facts=facts,
            needs=needs,
            like=f"{command} {gen} {digest_json(same)[:6]}",
            units=float(getattr(config_of(command, {**given, "out": ""}), "samples", 1)),
        )

    def _views(self, spec: RowSpec) -> Views:
        text = spec.views if isinstance(spec.views, str) else json.dumps(spec.views)
        fits = {name: self.fit(spec, name) for name in PLACEHOLDER.findall(text)}

        def with_folders(above: str) -> str:
            return PLACEHOLDER.sub(lambda match: above + fits[match[1]].folder, text)

        if isinstance(spec.views, str):
            text = with_folders("")
            return Views(text=text, name=text.partition(":")[0], content=None, fits=tuple(fits.values()))
        content = _toml(json.loads(with_folders("../")))
        file = f"{VIEWS}/{digest_json(content)[:DIGITS]}.toml"
        return Views(text=file, name=spec.views["name"], content=content, fits=tuple(fits.values()))

    def _filter(self, spec: RowSpec) -> tuple[str | None, tuple[Task, ...]]:
        if spec.filter is None:
            return None, ()
        fit = self.fit(spec, "filter")
        return f"{spec.filter},weights={fit.folder}/filter.safetensors", (fit,)

    # Sets

    def _generated(self, spec: RowSpec) -> Task:
        views = self._views(spec)
        filtered, filters = self._filter(spec)
        given, facts = self._gen(spec)
        gen, count = given["gen"], self.num_pairs(spec)
        given |= {
            "classes": None if self.scale.reduced else spec.classes,
            "views": views.text,
            "filter": filtered,
            "num_pairs": count,
            "num_positives": None if spec.num_positives == 1 else spec.num_positives,
        }
        return Task(
            verb=VERBS["dataset"],
            label=f"{gen}-{Path(views.name).stem}{'-filtered' if filtered else ''}",
            given=_stated(given),
            facts=facts,
            needs=(*views.fits, *filters),
            views=views.content,
            like=f"dataset {gen} {views.name} {bool(filtered)}",
            units=float(count * (1 + spec.num_positives)),
        )

    def samples(self, spec: RowSpec) -> TrainingInput:
        """The data of a row's training: one dataset, two that are mixed, or a generator at work."""
        if is_online(spec, self.scale):
            return self._online(spec)
        sets = [] if spec.data == "generated" else [self._real_data(spec)]
        if spec.data != "real":
            sets.append(self._generated(spec))
        return TrainingInput(given={"data": tuple(one.folder for one in sets)}, needs=tuple(sets), name=sets[-1].label)

    def _online(self, spec: RowSpec) -> TrainingInput:
        views = self._views(spec)
        filtered, filters = self._filter(spec)
        given, facts = self._gen(spec)
        more = {
            "views": views.text,
            "filter": filtered,
            "classes": spec.classes,
            "steps_per_epoch": spec.steps_per_epoch,
        }
        return TrainingInput(
            given=_stated({"online": True, **given, **more}),
            needs=(*views.fits, *filters),
            name=given["gen"],
            facts=facts,
            views=views.content,
        )


def is_online(spec: RowSpec, scale: ScaleSpec) -> bool:
    """Whether a row's samples are made while it is trained: reduced, all are stored."""
    return spec.data == "generated" and spec.online and not scale.reduced


def _stated(given: Settings) -> Settings:
    """The options, without those that leave the choice to the command."""
    return {name: value for name, value in given.items() if value is not None}


def _place(name: str, subset: Task | None) -> Settings:
    """``--data`` and ``--root`` of a real set, or of the folder that ``subset`` makes, for commands of genrep-generate."""
    if subset:
        return {"data": name}
    if is_small(name) or is_folder_set(name):
        return {"data": name, "root": ROOT}
    return {"data": f"{ROOT}/{name}"}


def _toml(table: Settings) -> str:
    """A view's table as a file."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value)
