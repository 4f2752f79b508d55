"""Curves: drawn where runs differ in one setting, and in nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from genrep.papers.report import Row
from genrep.papers.report.measured import grouped
from genrep.papers.report.plots import Sweep, draw_sweep, find_sweeps
from genrep.papers.report.rows import read_row


def sweeps(*runs: Path | tuple[Path, ...]) -> list[Sweep]:
    parts = [run if isinstance(run, tuple) else (run,) for run in runs]
    rows = [read_row(Row(name=part[0].name, runs=part)) for part in parts]
    return find_sweeps(rows, grouped({row.name: row.measured for row in rows}))


def points(sweep: Sweep, number: int = 0) -> list[tuple[float, float]]:
    return [(x, stats.mean) for x, stats in sweep.curves[number].points]


def test_accuracy_over_sigma(work) -> None:
    values = {0.4: 62.0, 0.1: 60.0, 0.2: 63.0}
    (found,) = sweeps(*(work.run(f"std{std}", value, sets=(work.gaussian(std),)) for std, value in values.items()))
    assert found.kind.name == "std" and points(found) == [(0.1, 60.0), (0.2, 63.0), (0.4, 62.0)]
    drawn = draw_sweep(found, "σ $x$ 汉")
    assert drawn.light.startswith(b"\x89PNG") and drawn.dark.startswith(b"\x89PNG")


def test_seeds_of_a_row_are_one_point_with_a_deviation(work) -> None:
    rows = [
        tuple(work.run(f"std{std}-{seed}", 60 + seed, sets=(work.gaussian(std),), seed=seed) for seed in (0, 1))
        for std in (0.1, 0.2)
    ]
    (found,) = sweeps(*rows)
    assert [(x, stats.mean, round(stats.std or 0, 3)) for x, stats in found.curves[0].points] == [
        (0.1, 60.5, 0.707),
        (0.2, 60.5, 0.707),
    ]


@pytest.mark.parametrize("other", [{"lr": 0.1}, {"arch": "resnet50"}, {"pixel_views": "none"}])
def test_runs_that_differ_in_more_make_no_curve(work, other) -> None:
    one = work.run("one", 60.0, sets=(work.gaussian(0.1),))
    assert not sweeps(one, work.run("two", 61.0, sets=(work.gaussian(0.2),), **other))


def test_curves_are_told_apart_by_what_differs(work) -> None:
    runs = [
        work.run(f"{std}-{views}", 60 + std, sets=(work.gaussian(std),), pixel_views=views)
        for std in (0.1, 0.2)
        for views in ("simclr", "none")
    ]
    (found,) = sweeps(*runs)
    assert [curve.label for curve in found.curves] == ["pixel_views simclr", "pixel_views none"]


def test_sigma_of_a_generator_at_work(work) -> None:
    online = {"online": True, "gen": "stylegan2_fashion"}
    (found,) = sweeps(
        *(work.run(f"s{s}", 60 + s, views=f"gaussian:std=.{s}", dataset_id=str(s), **online) for s in (1, 2))
    )
    assert found.kind.name == "std" and points(found) == [(0.1, 61.0), (0.2, 62.0)]


def test_accuracy_over_sigma_of_a_part_of_the_latent(work) -> None:
    def views(std: float) -> dict[str, object]:
        parts = [{"layers": "0-1", "view": None}, {"layers": "2-7", "view": {"name": "gaussian", "std": std}}]
        return {"name": "hierarchical", "over": "layers", "parts": parts}

    runs = [work.run(f"s{std}", 60 + std, sets=(work.shards(f"d{std}", views=views(std)),)) for std in (0.2, 1.0)]
    (found,) = sweeps(*runs, work.run("elsewhere", 50.0, sets=(work.gaussian(0.5),)))
    assert found.kind.name == "std" and points(found) == [(0.2, 60.2), (1.0, 61.0)]


def test_accuracy_over_epochs(work) -> None:
    data = (work.gaussian(0.2),)
    runs = [work.run(f"e{n}", 60.0 + n, sets=data, epochs=n, total_steps=100 * n) for n in (1, 2, 4)]
    (found,) = sweeps(*runs)
    assert found.kind.name == "epochs" and points(found) == [(1, 61.0), (2, 62.0), (4, 64.0)]


def test_accuracy_over_samples_at_equal_updates_and_at_equal_epochs(work) -> None:
    data = (work.gaussian(0.2),)
    whole = work.run("whole", 63.0, sets=data)
    part = work.run("part", 61.0, sets=data, limit=0.1, num_pairs=1000, epochs=40, steps_per_epoch=10)
    few = work.run("few", 59.0, sets=data, limit=0.1, num_pairs=1000, steps_per_epoch=10, total_steps=40)
    more = work.run("more", 64.0, sets=(work.gaussian(0.2, 20_000),), num_pairs=20_000, steps_per_epoch=50, epochs=2)
    by_name = {found.kind.name: found for found in sweeps(whole, part, few, more)}
    assert set(by_name) == {"samples-updates", "samples-epochs", "epochs"}
    assert points(by_name["epochs"]) == [(4, 59.0), (40, 61.0)]  # of the same tenth
    assert points(by_name["samples-updates"]) == [(1000, 61.0), (10_000, 63.0), (20_000, 64.0)]
    assert points(by_name["samples-epochs"]) == [(1000, 59.0), (10_000, 63.0)]


def test_runs_of_given_steps_are_not_taken_for_equal_epochs(work) -> None:
    data = (work.gaussian(0.2),)
    one = work.run("one", 60.0, sets=data, epochs=None, steps=400)
    two = work.run("two", 61.0, sets=data, epochs=None, steps=40, total_steps=40, num_pairs=1000)
    assert not sweeps(one, two)


def test_accuracy_over_the_mixture_begins_at_the_first_set_alone(work) -> None:
    real, fake = work.shards("real"), work.gaussian(0.2)
    alone = work.run("alone", 62.0, sets=(real,))
    mixed = [work.run(f"mix{p}", 60 + p, sets=(real, fake), mix=p) for p in (0.05, 0.5)]
    elsewhere = work.run("fake", 50.0, sets=(fake,))
    (found,) = sweeps(alone, *mixed, elsewhere)
    assert found.kind.name == "mix" and points(found) == [(0.0, 62.0), (0.05, 60.05), (0.5, 60.5)]


def test_results_of_two_protocols_are_two_plots(work) -> None:
    runs = []
    for std in (0.1, 0.2):
        folder = work.run(f"std{std}", 60.0, sets=(work.gaussian(std),))
        work.results(folder.name, work.entry(70.0, protocol={"name": "knn", "k": 20}), file="knn.json")
        runs.append(folder)
    assert [found.group.family for found in sweeps(*runs)] == ["linear probe", "nearest neighbours"]
