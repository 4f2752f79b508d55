"""Sizes of real and of generated images are known when a table is planned, and agree where they stand in one set."""

from __future__ import annotations

import importlib.resources
import tomllib
from functools import cache
from typing import Any

import click
import pytest

from genrep.generate.cli import cli
from genrep.generate.recipes.recipe import framed_shape, load_recipe
from genrep.papers.reproduce import specs
from genrep.papers.reproduce.planning import TablePlan, make_plan
from genrep.papers.reproduce.specs import image_shape, read_table, table_names
from genrep.papers.tasks.task import Task, all_tasks

WHOLE = {
    "bigbigan": (128, 128),
    "biggan_deep_256": (256, 256),
    "stylegan2_car": (512, 512),
    "stylegan2_car_hl": (512, 512),
}


@cache
def plan(table: str, scale: str = "full") -> TablePlan:
    return make_plan(table, scale)


def params(task: Task) -> dict[str, Any]:
    """Options as the command reads them."""
    verb = task.verb.name
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    return command.make_context(verb, task.command({"root": "/data"}, "cpu")[4:]).params


def real_sets(table: str) -> dict[str, Task]:
    """Stored real images by row."""
    return {
        row.spec.id: need
        for row in plan(table).rows
        for run in row.runs
        for need in run.needs
        if need.verb.name == "from-folder"
    }


def shape(task: Task) -> tuple[object, object]:
    """What is asked for, as the command reads it."""
    given = params(task)
    return given["size"], given["shorter_side"]


def test_stored_shapes_are_the_recipes() -> None:
    text = (importlib.resources.files("genrep.papers.reproduce") / "scales.toml").read_text()
    known = tomllib.loads(text)["shapes"]
    for name in known:
        recipe = load_recipe(name)
        assert framed_shape(recipe, WHOLE.get(name, (32, 32))) == image_shape(name), name
    used = {row.generator for table in table_names() for row in read_table(table, "full").rows if row.generator}
    assert used <= set(known)


@pytest.mark.slow
@pytest.mark.parametrize("table", table_names())
def test_one_training_has_images_of_one_size(table: str) -> None:
    for task in all_tasks(plan(table).goals):
        sets = [need for need in task.needs if need.kind == "dataset"]
        if task.kind == "run" and len(sets) == 2:
            (generated,) = [one for one in sets if one.verb.name == "dataset"]
            (real,) = [one for one in sets if one is not generated]
            height, width = image_shape(params(generated)["gen"])
            assert shape(real) == (f"{height}x{width}", None), task.folder


def test_mixtures_and_their_end_have_the_generated_images_size() -> None:
    """Whole pictures in mix-0 and cut ones in the others would make another curve."""
    sets = real_sets("genrep-fig9")
    rows = ("mix-0", "mix-5", "mix-25", "mix-50", "mix-100")
    assert {shape(sets[row]) for row in rows} == {("128x128", None)}
    assert len({sets[row].id for row in rows}) == 1


def test_other_real_images_are_stored_whole() -> None:
    for table in ("genrep-table1", "genrep-table4", "genrep-fig6", "cop-gen-table1", "genrep-table3"):
        assert {shape(task) for task in real_sets(table).values()} == {(None, 256)}, table
    assert shape(real_sets("genrep-table2")["real"]) == ("384x512", None)  # the whole of the papers' LSUN cars
    assert shape(real_sets("genrep-table2")["supervised"]) == (None, 256)


def test_hls_real_images_have_128_pixels_before_everything() -> None:
    sets = real_sets("hl-table3")
    assert shape(sets["real"]) == shape(sets["cars-real"]) == ("128x128", None)
    assert shape(real_sets("hl-table2")["simclr-real"]) == (None, 256)  # COP-Gen's


def test_a_mixture_of_unlike_sizes_is_refused_when_it_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    read = specs._read

    def with_whole(name: str) -> specs.Settings:
        value = dict(read(name))
        if name == "tables/genrep-fig9.toml":
            value["defaults"] = {**value["defaults"], "real_shape": "whole"}
        return value

    monkeypatch.setattr(specs, "_read", with_whole)
    with pytest.raises(ValueError, match=r"genrep-fig9.toml: row mix-5: .*wanted real_shape = \"generated\""):
        read_table("genrep-fig9", "full")
