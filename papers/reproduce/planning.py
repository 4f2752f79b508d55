"""A table at a scale becomes rows and the tasks that they end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from genrep.errors import one_of
from genrep.files import digest_json, sha256_file
from genrep.images.labelled import NAMED
from genrep.images.photo_sets import PHOTO_SETS
from genrep.train.presets import preset as preset_settings

from .sources import GENERATE, Sources
from .specs import RowSpec, ScaleSpec, Settings, read_method, read_scale, read_table
from .tasks import DIGITS, OUTPUT_FILE, Task, flags

TRAIN, EVALUATE = "genrep.train", "genrep.evaluate"
CHEAP = ("steps", "epochs", "mix", "pixel_views", "positive")  # options by which an update takes no other time


@dataclass(frozen=True, kw_only=True)
class PlannedRow:
    """A row of the report."""

    spec: RowSpec
    runs: tuple[Task, ...]  # a training for each seed
    results: tuple[Task, ...]
    seeds: tuple[int, ...]

    @property
    def goals(self) -> tuple[Task, ...]:
        """What it ends in."""
        return self.results


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a table takes."""

    title: str
    says: tuple[str, ...]
    rows: tuple[PlannedRow, ...]
    script: Task | None = None

    @property
    def goals(self) -> list[Task]:
        """The last task of every chain: all rows with the first seed come before any with the second."""
        if self.script is not None:
            return [self.script]
        seeds = dict.fromkeys(seed for row in self.rows for seed in row.seeds)
        return [goal for seed in seeds for row in self.rows for goal in row.goals if goal.seed in (None, seed)]


def make_plan(
    table: str,
    scale: str,
    *,
    rows: tuple[str, ...] = (),
    seeds: tuple[int, ...] | None = None,
    weights: Mapping[str, Path] | None = None,
    encoders: Mapping[str, str] | None = None,
) -> Plan:
    """Plan a table; looks at no data.

    Args:
        rows: their ids; none: all.
        seeds: None: the scale's.
        weights: files of generators, by name.
        encoders: files or module:factory of encoders that rows only measure, by name; a row that lacks its own is left out.

    Raises:
        ValueError: unknown names, or a scale without a generator for a row.
    """
    spec, how = read_table(table, scale), read_scale(scale)
    if spec.script:
        return Plan(title=spec.title, says=spec.says, rows=(), script=_script(spec.script, spec.options))
    given = dict(encoders or {})
    asked = [row for row in spec.rows if not rows or row.id in rows]
    kept = [row for row in asked if row.encoder is None or row.encoder in given]
    lacking = [f"{row.name}: left out, for want of --encoder {row.encoder}=FILE." for row in asked if row not in kept]
    planner = Planner(how, sources := Sources(how, dict(weights or {}), role=spec.role), given)
    planned = tuple(planner.row(row, seeds or how.seeds) for row in kept)
    return Plan(title=spec.title, says=(*spec.says, *lacking, *sources.says()), rows=planned)


def known_encoders(table: str, scale: str) -> tuple[str, ...]:
    """Names under which a table at a scale takes encoders. Raises ValueError as ``make_plan``."""
    return tuple(dict.fromkeys(row.encoder for row in read_table(table, scale).rows if row.encoder))


def usable_generators(table: str, scale: str) -> tuple[str, ...]:
    """Those whose weights a table at a scale would use. Raises ValueError as ``make_plan``."""
    spec, how = read_table(table, scale), read_scale(scale)
    if not how.reduced:
        return tuple(dict.fromkeys(row.generator for row in spec.rows if row.generator))
    entries = [one for one in how.stand_ins if spec.role in one] if spec.rows else []
    return tuple(dict.fromkeys(one[key] for one in entries for key in ("unconditional", "conditional") if key in one))


def _script(script: tuple[str, ...], options: Settings) -> Task:
    arguments = (*script[1:], *flags(options))
    name = Path(script[0]).stem
    return Task(
        kind="script",
        label="-".join([name, *script[1:2]]),
        module="{checkout}/" + script[0],
        arguments=arguments,
        final=OUTPUT_FILE,
        whole=False,
        like=digest_json([script, options]),
    )


class Planner:
    """Makes the tasks of rows at one scale."""

    def __init__(self, scale: ScaleSpec, sources: Sources, encoders: Mapping[str, str]) -> None:
        self.scale, self.sources, self.encoders = scale, sources, encoders

    def row(self, spec: RowSpec, seeds: tuple[int, ...]) -> PlannedRow:
        """A row with its tasks."""
        if spec.data == "walk":
            return PlannedRow(spec=spec, runs=(), results=(self._delta(spec),), seeds=seeds)
        if spec.data in ("none", "given"):
            found = tuple(task for seed in seeds for task in self._evaluations(spec, None, seed))
            return PlannedRow(spec=spec, runs=(), results=found, seeds=seeds)
        runs = tuple(self._run(spec, seed) for seed in seeds)
        results = tuple(task for run, seed in zip(runs, seeds) for task in self._evaluations(spec, run, seed))
        return PlannedRow(spec=spec, runs=runs, results=results, seeds=seeds)

    # Training

    def _run(self, spec: RowSpec, seed: int) -> Task:
        source, needs, facts, content = self.sources.samples(spec)
        options = self._method(spec)
        what = "online" if spec.online and not self.scale.reduced and spec.data == "generated" else spec.data
        name = needs[-1].label if needs and needs[-1].kind == "dataset" else self.sources.generator(spec)
        same = {key: value for key, value in options.items() if key not in CHEAP}
        like = f"train {what} {name.partition('-')[0]} {self.sources.num_pairs(spec)} {'steps' in options}"
        return Task(
            kind="run",
            label=f"{read_method(spec.method)['objective']}-{name}{_variant(spec)}-s{seed}",
            module=TRAIN,
            arguments=(*source, *flags(options), "--seed", str(seed)),
            facts=facts,
            needs=needs,
            views=content,
            final="encoder.safetensors",
            like=f"{like} {digest_json(same)[:6]}",
            units=_length(options),
            seed=seed,
        )

    def _method(self, spec: RowSpec) -> Settings:
        method, scale = read_method(spec.method), self.scale
        if scale.reduced:
            options = {**scale.objectives[method["objective"]], "epochs": scale.epochs, "batch_size": scale.batch_size}
            if spec.length is not None:
                options["epochs"] = max(1, round(spec.length * scale.epochs))
            if spec.same_updates:
                options["steps"] = options.pop("epochs") * scale.num_pairs // scale.batch_size
                options["schedule"] = "cosine"  # one by epoch would depend on the size of the row's own set
        else:
            options = {**method["full"], **spec.train}
            if "steps" in options:
                options.pop("epochs", None)
        single = method["objective"].startswith(("inverter", "classifier"))
        given = {"limit": self._limit(spec), "mix": spec.mix, "pixel_views": spec.pixel_views}
        given["positive"] = None if single or (scale.reduced and spec.positive == "stored") else _positive(spec)
        return {**options, **{name: value for name, value in given.items() if value is not None}}

    def _limit(self, spec: RowSpec) -> float | None:
        """Part of the samples: of a whole real set no more images than the scale has pairs."""
        images = self.sources.stand_in.get("real_images", 0)
        if spec.data in ("real", "mixed") and images > self.scale.num_pairs:
            return self.scale.num_pairs / images
        return spec.limit

    # Measuring

    def _evaluations(self, spec: RowSpec, run: Task | None, seed: int) -> list[Task]:
        texts = tuple(self.scale.evaluations) if self.scale.reduced else spec.evaluations
        named = [text.partition(":") for text in texts]
        return [self._evaluation(spec, run, seed, name, dataset or None) for name, _, dataset in named]

    def _evaluation(self, spec: RowSpec, run: Task | None, seed: int, name: str, dataset: str | None) -> Task:
        if name not in self.scale.evaluations:
            raise ValueError(f"evaluation {name!r}: wanted one of {one_of(name, self.scale.evaluations)}")
        how = self.scale.evaluations[name]
        options = {**how["options"], **(how.get("real", {}) if spec.data == "real" else {})}
        needs: tuple[Task, ...] = () if run is None else (run,)
        if self.scale.reduced or dataset is not None:
            real, subset = self.sources.real(spec) if self.scale.reduced else (dataset, None)
            needs += (subset,) if subset else ()
            options = {
                "dataset": real,
                **({"root": "{root}"} if real in NAMED or real in PHOTO_SETS else {}),
                **options,
            }
        facts: dict[str, str] = {}
        if spec.encoder is not None:
            encoder: tuple[str, ...] = ("--encoder", f"{{encoder:{spec.encoder}}}")
            facts = {"encoder": _content(self.encoders[spec.encoder])}
        elif run is None:
            encoder = ("--random-init", *flags(self.scale.random))
        else:
            encoder = ("--encoder", run.folder)
        measured = run.label if run is not None else f"{spec.encoder or 'random'}-s{seed}"
        # Several seeds of one encoder; a random one is another encoder for each.
        seeds = [seed] if run is None else how.get("seeds", [seed])
        where = str(options.get("dataset") or options.get("suite") or "voc")
        return Task(
            kind="evaluation",
            label=f"{name}-{measured}",
            facts=facts,
            module=f"{EVALUATE}:{how['command']}",
            arguments=(*encoder, *flags(options), "--seed", ",".join(map(str, seeds))),
            needs=needs,
            final=f"{how['command']}.json",
            whole=how["command"] != "transfer" and len(seeds) == 1,
            parts=_suite(options["suite"]) if how["command"] == "transfer" else (),
            like=f"{self.scale.name} {name} {where}",
            units=float(len(seeds)),
            seed=seed,
        )

    def _delta(self, spec: RowSpec) -> Task:
        assert spec.walk is not None
        fit = self.sources.fit(spec, spec.walk)
        anchors = self.scale.delta_anchors
        return Task(
            kind="evaluation",
            label=f"delta-{fit.label}",
            module=f"{GENERATE}:measure-delta",
            arguments=(fit.folder, "--anchors", str(anchors)),
            needs=(fit,),
            final="delta.json",
            has_device=False,
            like=f"delta {anchors}",
        )


def _content(encoder: str) -> str:
    """What tells an encoder apart: a file's content, else its words."""
    path = Path(encoder)
    return sha256_file(path)[:DIGITS] if path.is_file() else encoder


def _length(options: Settings) -> float:
    """Steps or epochs of a training, its preset's if it says none itself."""
    given = (
        options
        if {"steps", "epochs"} & options.keys() or "preset" not in options
        else preset_settings(options["preset"])
    )
    return float(given.get("steps") or given.get("epochs") or 1)


def _suite(name: str) -> tuple[str, ...]:
    from genrep.evaluate.transfer import SUITES  # not above: it loads torch

    return SUITES[name].datasets


def _variant(spec: RowSpec) -> str:
    """What tells trainings on the same data apart, in short."""
    parts = ["mix" if spec.data == "mixed" else None, _positive(spec), spec.pixel_views]
    return "".join(f"-{part}" for part in parts if part not in (None, "stored", "simclr"))


def _positive(spec: RowSpec) -> str | None:
    """Real images have no stored positives, whatever the table's others have."""
    return "anchor" if spec.data in ("real", "mixed") else spec.positive


def views_file(task: Task) -> str | None:
    """Where the content of ``task.views`` belongs, relative to the whole's folder."""
    if task.views is None:
        return None
    return task.arguments[task.arguments.index("--views") + 1]
