"""Where a row's samples come from: generators, real images, learned views, datasets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from genrep.files import digest_json, sha256_file
from genrep.images.labelled import NAMED
from genrep.images.photo_sets import FOLDER_SETS

from .specs import RowSpec, ScaleSpec, Settings, image_shape, is_conditional, read_fit
from .tasks import DIGITS, Task, flags

GENERATE = "genrep.generate"
SUBSET = "genrep.papers.reproduce.subset"
LAST_FILES = {"fit-steer": "walks.json", "fit-navigator": "navigator.json", "fit-filter": "filter.json"}
LENGTHS = {"fit-steer": 160_000, "fit-navigator": 200_000, "fit-filter": 1}  # samples, where a fit does not say
PLACEHOLDER = re.compile(r"\{([a-z0-9-]+)\}")
VIEWS = "views"  # folder of views that are tables
NAVIGATOR_SAYS = (
    "Reduced, COP-Gen's navigator is not its recipe: HL's start, T(z) projected on a ball, no colour among f's pixel views, "
    "rates of 50 and 33 times COP-Gen's, batches of 64."
)


class Sources:
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
            if role in one and (one[role] in self.weights or has_weights(one[role])):
                return one
        raise ValueError(f"--scale {self.scale.name}: no {role} generator is there; --weights NAME=FILE gives one")

    def says(self) -> tuple[str, ...]:
        """What the scale put in the places of the papers' settings; once all rows are planned."""
        said = [self.scale.says]
        if self.replaced:
            said.append("In the papers' places: " + "; ".join(f"{b} for {a}" for a, b in self.replaced.items()) + ".")
        if self.scale.reduced and self.navigated:
            said.append(NAVIGATOR_SAYS)
        return tuple(said)

    def generator(self, spec: RowSpec) -> str:
        """Its name."""
        if not self.scale.reduced:
            return spec.generator
        role = (
            "conditional" if is_conditional(spec.generator) or "unconditional" not in self.stand_in else "unconditional"
        )
        self.replaced[spec.generator] = self.stand_in[role]
        return self.stand_in[role]

    def gen_options(self, spec: RowSpec) -> tuple[str, Settings, dict[str, str]]:
        """Name, options and the facts for the digest."""
        name = self.generator(spec)
        if name not in self.weights:
            return name, {"gen": name}, {}
        return name, {"gen": name, "weights": f"{{weights:{name}}}"}, {"weights": self.weights_facts[name]}

    def real(self, spec: RowSpec) -> tuple[str, Task | None]:
        """Name of the real set, or its folder, as commands take it; the task that makes the folder."""
        if not self.scale.reduced:
            return spec.real, None
        name = self.stand_in["real"]
        if spec.real:
            self.replaced[spec.real] = name
        if self.scale.subset is None:
            return name, None
        arguments = ("--dataset", name, "--root", "{root}", *flags(dict(self.scale.subset)))
        task = Task(
            kind="subset",
            label=name,
            module=SUBSET,
            arguments=arguments,
            final="done.json",
            has_device=False,
            like="subset",
        )
        return task.folder, task

    def _real_data(self, spec: RowSpec) -> Task:
        name, subset = self.real(spec)
        place = _place(name, subset)
        if not subset and name not in NAMED:
            place |= self._real_shape(spec)
        return Task(
            kind="dataset",
            label=f"real-{Path(name).name.rpartition('-')[0] if subset else name}",
            module=f"{GENERATE}:from-folder",
            arguments=(place.pop("data"), *flags(place), "--split", "train"),
            final="manifest.json",
            needs=(subset,) if subset else (),
            has_device=False,
            like=f"from-folder {name}",
        )

    def _real_shape(self, spec: RowSpec) -> Settings:
        """Of stored real images: whole ones for crops at random; beside generated ones in one set, of their shape."""
        if spec.real_shape == "whole":
            return {"shorter_side": self.scale.real_size}
        return {"size": "x".join(map(str, image_shape(spec.generator)))}

    def num_pairs(self, spec: RowSpec) -> int:
        """Of the set that a row's samples are from."""
        return (self.scale.num_pairs if self.scale.reduced else spec.num_pairs) * spec.times

    def _views(self, spec: RowSpec) -> tuple[str, str | None, list[Task]]:
        """The argument, the content of its file, and the fits that it names."""
        text = spec.views if isinstance(spec.views, str) else json.dumps(spec.views)
        fits = {name: self.fit(spec, name) for name in PLACEHOLDER.findall(text)}
        if isinstance(spec.views, str):
            return _with_folders(text, fits, ""), None, list(fits.values())
        content = _toml(json.loads(_with_folders(text, fits, "../")))
        return f"{VIEWS}/{digest_json(content)[:DIGITS]}.toml", content, list(fits.values())

    def _filter(self, spec: RowSpec) -> tuple[str | None, list[Task]]:
        if spec.filter is None:
            return None, []
        fit = self.fit(spec, "filter")
        return f"{spec.filter},weights={fit.folder}/filter.safetensors", [fit]

    def fit(self, spec: RowSpec, name: str) -> Task:
        """A fit of ``fits.toml`` through the row's generator."""
        command, options = read_fit(name, self.scale.name)
        self.navigated |= name.startswith("navigator")
        gen, given, facts = self.gen_options(spec)
        same = {key: value for key, value in options.items() if key not in ("samples", "chunks", "layers")}
        part = "".join(f"-{key}-{options[key]}" for key in ("chunks", "layers") if key in options)
        needs: tuple[Task, ...] = ()
        if command == "fit-filter":
            real, subset = self.real(spec)
            needs = (subset,) if subset else ()
            given |= _place(real, subset)
        return Task(
            kind="fit",
            label=f"{command.removeprefix('fit-')}-{gen}{part}",
            module=f"{GENERATE}:{command}",
            arguments=flags({**given, **options}),
            facts=facts,
            needs=needs,
            final=LAST_FILES[command],
            like=f"{command} {gen} {digest_json(same)[:6]}",
            units=float(options.get("samples", LENGTHS[command])),
        )

    def _generated(self, spec: RowSpec) -> Task:
        views, content, fits = self._views(spec)
        filtered, filters = self._filter(spec)
        gen, given, facts = self.gen_options(spec)
        classes = None if self.scale.reduced else spec.classes
        count, positives = self.num_pairs(spec), None if spec.num_positives == 1 else spec.num_positives
        options = {
            **given,
            "classes": classes,
            "views": views,
            "filter": filtered,
            "num_pairs": count,
            "num_positives": positives,
        }
        kind = views.partition(":")[0] if content is None else spec.views["name"]  # type: ignore[index]
        return Task(
            kind="dataset",
            label=f"{gen}-{Path(kind).stem}{'-filtered' if filtered else ''}",
            module=f"{GENERATE}:dataset",
            arguments=flags(options),
            facts=facts,
            needs=(*fits, *filters),
            views=content,
            final="manifest.json",
            like=f"dataset {gen} {kind} {bool(filtered)}",
            units=float(count * (1 + spec.num_positives)),
        )

    def samples(self, spec: RowSpec) -> tuple[tuple[str, ...], tuple[Task, ...], dict[str, str], str | None]:
        """Arguments, tasks, facts and the content of a view's file."""
        if spec.data == "generated" and spec.online and not self.scale.reduced:
            views, content, fits = self._views(spec)
            filtered, filters = self._filter(spec)
            _, given, facts = self.gen_options(spec)
            given |= {
                "views": views,
                "filter": filtered,
                "classes": spec.classes,
                "steps_per_epoch": spec.steps_per_epoch,
            }
            return ("--online", *flags(given)), (*fits, *filters), facts, content
        sets: tuple[Task, ...]
        if spec.data == "generated":
            sets = (self._generated(spec),)
        else:
            sets = (self._real_data(spec), *((self._generated(spec),) if spec.data == "mixed" else ()))
        return flags({"data": [one.folder for one in sets]}), sets, {}, None


def has_weights(generator: str) -> bool:
    """Whether a generator's weights ship with the package."""
    return (files("genrep.generate.weights.embedded") / f"{generator}.safetensors").is_file()


def _place(name: str, subset: Task | None) -> Settings:
    """``--data`` and ``--root`` of a real set, or of the folder that ``subset`` makes, for commands of genrep-generate."""
    if subset:
        return {"data": name}
    if name in NAMED or name in FOLDER_SETS:
        return {"data": name, "root": "{root}"}
    return {"data": f"{{root}}/{name}"}


def _with_folders(text: str, fits: Mapping[str, Task], above: str) -> str:
    return PLACEHOLDER.sub(lambda match: above + fits[match[1]].folder, text)


def _toml(table: Settings) -> str:
    """A view's table as a file."""
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in table.items())


def _toml_value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml_value, value)) + "]"
    return json.dumps(value)
