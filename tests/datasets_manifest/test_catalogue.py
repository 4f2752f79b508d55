"""The catalogue: what ships is what the commands make, and what an entry may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import catalogue, cli
from genrep.datasets_manifest.catalogue import entries, find, parse_entry
from genrep.errors import DatasetError, ManifestError

GOOD = {
    "title": "Something",
    "licence": "MIT",
    "num_pairs": 10,
    "bytes": 1000,
    "image": [32, 32],
    "id": "a" * 64,
    "digest": "b" * 64,
    "make": {},
    "urls": ["https://example.org/x"],
}


@pytest.mark.parametrize("entry", [entry for entry in entries() if entry.make], ids=lambda entry: entry.name)
def test_the_command_of_an_entry_makes_the_dataset_that_it_names(entry: catalogue.Entry) -> None:
    from genrep.generate import BuildConfig
    from genrep.generate.plans.build_plan import shard_bytes
    from genrep.generate.plans.resolve import make_plan
    from genrep.generate.recipes.recipe import load_recipe
    from genrep.generate.weights.load import open_generator

    config = BuildConfig(**entry.make)
    recipe = load_recipe(config.gen)
    plan = make_plan(config, recipe, open_generator(recipe, None, "cpu", config.generator_options()))
    assert (plan.id, plan.num_pairs, recipe.licence) == (entry.id, entry.num_pairs, entry.licence)
    assert [plan.recipe["image"]["height"], plan.recipe["image"]["width"]] == entry.image
    assert entry.image[0] <= 64  # raw, so that the size follows from the plan
    assert entry.bytes == sum(
        shard_bytes(plan.fields, plan.shard(k).count, plan.page_size) for k in range(plan.num_shards)
    )


def test_the_command_is_one_of_genrep_generate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from genrep.generate.cli import cli as generate

    for entry in entries():
        assert invoke(generate, [*entry.command.split()[1:], "--dry-run"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert {key: said[key] for key in entry.make} == entry.make


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(cli.group, ["list"]) == 0
    out = capsys.readouterr().out
    assert "fashion-gaussian: " in out and "genrep-generate dataset --gen stylegan2_fashion --num-pairs 10000" in out
    assert invoke(cli.group, ["list", "--json"]) == 0
    assert [item["name"] for item in json.loads(capsys.readouterr().out)] == [entry.name for entry in entries()]


def test_find() -> None:
    assert find("fashion-gaussian").num_pairs == 10_000
    with pytest.raises(DatasetError, match=r"'nothing' is not in the catalogue; known: .*fashion-gaussian"):
        find("nothing")


def test_a_published_entry_says_how_it_is_fetched() -> None:
    entry = parse_entry("some-set", json.dumps(GOOD).encode())
    assert entry.command == ""
    assert "    genrep-manifest pull some-set   (from https://example.org/x)" in list(entry.lines())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"extra": 1}, "unknown key 'extra'"),
        ({"title": ""}, "title is '', wanted a text"),
        ({"title": "a\x1b[2Jb"}, "title is .*, wanted one line"),
        ({"licence": None}, "licence is None"),
        ({"num_pairs": 0}, "num_pairs is 0"),
        ({"bytes": 1.5}, "bytes is 1.5"),
        ({"image": [32]}, r"image is \[32\]"),
        ({"image": [32, -1]}, "image is -1"),
        ({"id": "a"}, "id is 'a', wanted a sha256"),
        ({"digest": "b"}, "digest is 'b', wanted a sha256"),
        ({"urls": "https://example.org"}, "urls is 'https://example.org', wanted a list"),
        ({"urls": ["file:///etc/passwd"]}, "urls has 'file:///etc/passwd'"),
        ({"urls": ["https://example.org/\n"]}, "urls has"),
        ({"urls": [], "digest": None}, "neither make nor urls"),
        ({"urls": [], "make": {"gen": "x", "num_pairs": 1}}, "has urls and a digest, another neither"),
        ({"digest": None}, "has urls and a digest, another neither"),
        ({"make": {"gen": "x"}}, "make lacks the key 'num_pairs'"),
        ({"make": {"gen": "x", "num_pairs": 1, "out": "/"}}, "make: 'out', wanted one of"),
        ({"make": {"gen": ["x"], "num_pairs": 1}}, "make: 'gen'"),
    ],
)
def test_entries_that_are_refused(change: dict[str, Any], match: str) -> None:
    with pytest.raises(ManifestError, match=match) as caught:
        parse_entry("some-set", json.dumps({**GOOD, **change}).encode())
    assert str(caught.value).startswith("catalogue entry some-set")


@pytest.mark.parametrize("name", ["../x", "A", "", "x" * 65, "a b", "a.json"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="wanted a name of"):
        parse_entry(name, json.dumps(GOOD).encode())
