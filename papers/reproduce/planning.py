"""A table at a scale becomes rows and the tasks that they end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genrep.errors import one_of
from genrep.files import digest_json, sha256_file
from genrep.images.sets import SETS

from ..tasks.task import DIGITS, VERBS, Settings, Task, all_tasks, config_of
from .inputs import ROOT, InputPlanner, is_online
from .specs import EvaluationSpec, RowSpec, ScaleSpec, read_method, read_scale, read_table

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
        """The tasks that the plan ends in."""
        return self.results


@dataclass(frozen=True, kw_only=True)
class TablePlan:
    """Everything that a table takes."""

    title: str
    says: tuple[str, ...]
    rows: tuple[PlannedRow, ...]
    task: Task | None = None  # instead of rows

    @property
    def goals(self) -> list[Task]:
        """The last task of every chain: all rows with the first seed come before any with the second."""
        if self.task is not None:
            return [self.task]
        seeds = dict.fromkeys(seed for row in self.rows for seed in row.seeds)
        return [goal for seed in seeds for row in self.rows for goal in row.goals if goal.seed in (None, seed)]


@dataclass(frozen=True, kw_only=True)
class MeasuredEncoder:
    """The encoder that an evaluation is of."""

    given: Settings  # of genrep-evaluate
    label: str
    seed: int  # of its training
    facts: Mapping[str, str] = field(default_factory=dict)
    run: Task | None = None


def make_plan(
    table: str,
    scale: str,
    *,
    rows: tuple[str, ...] = (),
    seeds: tuple[int, ...] | None = None,
    weights: Mapping[str, Path] | None = None,
    encoders: Mapping[str, str] | None = None,
) -> TablePlan:
    """Plan a table; looks at no data.

    Args:
        rows: their ids; none: all.
        seeds: None: the scale's.
        weights: files of generators, by name.
        encoders: files or module:factory of encoders that rows only measure, by name; a row that lacks its own is left out.

    Raises:
        ValueError: unknown names, a scale without a generator for a row, or settings that a command does not take.
        RecipeError: settings that a command of genrep-generate does not take.
    """
    spec, how = read_table(table, scale), read_scale(scale)
    if spec.task is not None:
        task = Task(verb=VERBS[spec.task], label=spec.task, given=spec.settings, like=digest_json(spec.settings))
        return _checked(TablePlan(title=spec.title, says=spec.says, rows=(), task=task))
    given = dict(encoders or {})
    asked = [row for row in spec.rows if not rows or row.id in rows]
    kept = [row for row in asked if row.encoder is None or row.encoder in given]
    lacking = [f"{row.name}: left out; it requires --encoder {row.encoder}=FILE." for row in asked if row not in kept]
    planner = Planner(how, inputs := InputPlanner(how, dict(weights or {}), role=spec.role), given)
    planned = tuple(planner.row(row, seeds or how.seeds) for row in kept)
    return _checked(TablePlan(title=spec.title, says=(*spec.says, *lacking, *inputs.says()), rows=planned))


def _checked(plan: TablePlan) -> TablePlan:
    """Check every task's settings now, not hours later when its inputs are done."""
    for task in all_tasks(plan.goals):
        assert task.config is not None
    return plan


class Planner:
    """Makes the tasks of rows at one scale."""

    def __init__(self, scale: ScaleSpec, inputs: InputPlanner, encoders: Mapping[str, str]) -> None:
        self.scale, self.inputs, self.encoders = scale, inputs, encoders

    def row(self, spec: RowSpec, seeds: tuple[int, ...]) -> PlannedRow:
        """A row with its tasks."""
        runs: tuple[Task, ...] = ()
        if spec.data == "walk":
            return PlannedRow(spec=spec, runs=runs, results=(self._delta(spec),), seeds=seeds)
        if spec.data == "none":
            measured = [self._untrained(seed) for seed in seeds]
        elif spec.data == "given":
            measured = [self._given(spec.encoder or "", seed) for seed in seeds]
        else:
            runs = tuple(self._run(spec, seed) for seed in seeds)
            measured = [_trained(run, seed) for run, seed in zip(runs, seeds)]
        results = tuple(task for one in measured for task in self._evaluations(spec, one))
        return PlannedRow(spec=spec, runs=runs, results=results, seeds=seeds)

    # Training

    def _run(self, spec: RowSpec, seed: int) -> Task:
        samples, options = self.inputs.samples(spec), self._method(spec)
        what = "online" if is_online(spec, self.scale) else spec.data
        same = {key: value for key, value in options.items() if key not in CHEAP}
        like = f"train {what} {samples.name.partition('-')[0]} {self.inputs.num_pairs(spec)} {'steps' in options}"
        given = {**samples.given, **options, "seed": seed}
        config = config_of("train", {**given, "out": ""})
        return Task(
            verb=VERBS["train"],
            label=f"{read_method(spec.method)['objective']}-{samples.name}{_variant(spec)}-s{seed}",
            given=given,
            facts=samples.facts,
            needs=samples.needs,
            views=samples.views,
            like=f"{like} {digest_json(same)[:6]}",
            units=float(config.steps or config.epochs or 1),
            seed=seed,
        )

    def _method(self, spec: RowSpec) -> Settings:
        """Options of a row's training: the paper's at full scale, else the scale's of the same objective."""
        method = read_method(spec.method)
        options = self._reduced(spec, method["objective"]) if self.scale.reduced else {**method["full"], **spec.train}
        if "steps" in options:
            options.pop("epochs", None)
        single = method["objective"].startswith(("inverter", "classifier"))
        given = {"limit": self._limit(spec), "mix": spec.mix, "pixel_views": spec.pixel_views}
        given["positive"] = None if single or (self.scale.reduced and spec.positive == "stored") else _positive(spec)
        return {**options, **{name: value for name, value in given.items() if value is not None}}

    def _reduced(self, spec: RowSpec, objective: str) -> Settings:
        scale = self.scale
        options = {**scale.objectives[objective], "epochs": scale.epochs, "batch_size": scale.batch_size}
        if spec.length is not None:
            options["epochs"] = max(1, round(spec.length * scale.epochs))
        if spec.same_updates:
            options["steps"] = options["epochs"] * scale.num_pairs // scale.batch_size
            options["schedule"] = "cosine"  # one by epoch would depend on the size of the row's own set
        return options

    def _limit(self, spec: RowSpec) -> float | None:
        """Part of the samples: of a whole real set no more images than the scale has pairs."""
        images = self.inputs.stand_in.get("real_images", 0)
        if spec.data in ("real", "mixed") and images > self.scale.num_pairs:
            return self.scale.num_pairs / images
        return spec.limit

    # Measuring

    def _untrained(self, seed: int) -> MeasuredEncoder:
        return MeasuredEncoder(given={"random_init": True, **self.scale.random}, label=f"random-s{seed}", seed=seed)

    def _given(self, name: str, seed: int) -> MeasuredEncoder:
        """An encoder that the caller gives; another file is another encoder."""
        path = Path(self.encoders[name])
        content = sha256_file(path)[:DIGITS] if path.is_file() else self.encoders[name]
        return MeasuredEncoder(
            given={"encoder": f"{{encoder:{name}}}"}, label=f"{name}-s{seed}", seed=seed, facts={"encoder": content}
        )

    def _evaluations(self, spec: RowSpec, measured: MeasuredEncoder) -> list[Task]:
        """The evaluations of a row. A reduced scale has its own, on its one real set; otherwise the row names them."""
        if self.scale.reduced:
            real, subset = self.inputs.real(spec)
            every = [(name, real, subset) for name in self.scale.evaluations]
        else:
            every = [(name, dataset, None) for name, _, dataset in (text.partition(":") for text in spec.evaluations)]
        return [self._evaluation(spec, measured, name, dataset, subset) for name, dataset, subset in every]

    def _evaluation(
        self, spec: RowSpec, measured: MeasuredEncoder, name: str, dataset: str, subset: Task | None
    ) -> Task:
        """One evaluation. ``dataset`` is empty if the options name the data."""
        how = self._way(name)
        options = {**how.options, **(how.real if spec.data == "real" else {})}
        images: Settings = {"dataset": dataset} if dataset else {}
        if dataset in SETS:
            images["root"] = ROOT
        # Several seeds of one encoder; an untrained one is another encoder for each.
        seeds = tuple(how.seeds) if how.seeds and measured.run is not None else (measured.seed,)
        where = dataset or options.get("suite") or "voc"
        return Task(
            verb=VERBS[how.command],
            label=f"{name}-{measured.label}",
            given={**measured.given, **images, **options, "seeds": seeds},
            facts=measured.facts,
            needs=tuple(need for need in (measured.run, subset) if need is not None),
            like=f"{self.scale.name} {name} {where}",
            units=float(len(seeds)),
            seed=measured.seed,
        )

    def _way(self, name: str) -> EvaluationSpec:
        if name not in self.scale.evaluations:
            raise ValueError(f"evaluation {name!r}: wanted one of {one_of(name, self.scale.evaluations)}")
        return self.scale.evaluations[name]

    def _delta(self, spec: RowSpec) -> Task:
        """How far a learned view moves a latent."""
        fit, anchors = self.inputs.fit(spec, spec.walk or ""), self.scale.delta_anchors
        return Task(
            verb=VERBS["measure-delta"],
            label=f"delta-{fit.label}",
            given={"walks": (fit.folder,), "anchors": anchors},
            needs=(fit,),
            like=f"delta {anchors}",
        )


def _trained(run: Task, seed: int) -> MeasuredEncoder:
    return MeasuredEncoder(given={"encoder": run.folder}, label=run.label, seed=seed, run=run)


def _variant(spec: RowSpec) -> str:
    """A short name that distinguishes trainings on the same data."""
    parts = ["mix" if spec.data == "mixed" else None, _positive(spec), spec.pixel_views]
    return "".join(f"-{part}" for part in parts if part not in (None, "stored", "simclr"))


def _positive(spec: RowSpec) -> str | None:
    """Real images have no stored positives, whatever the table's others have."""
    return "anchor" if spec.data in ("real", "mixed") else spec.positive
