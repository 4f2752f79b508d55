"""Which classes a dataset holds, and how what a generator is conditioned on reaches the shards."""

from collections import Counter

import numpy as np
import pytest

from genrep import datasets_manifest
from genrep.errors import RecipeError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.recipes.conditions import known_presets, select_classes


def test_numbers_and_ranges_keep_their_order():
    assert select_classes("all", 4).numbers == (0, 1, 2, 3)
    assert select_classes("7,1-3,5", 10).numbers == (7, 1, 2, 3, 5)
    assert select_classes("all", 0).numbers == ()


def test_imagenet100_is_a_preset_of_a_hundred_classes_with_names():
    assert known_presets() == ["imagenet100"]
    selection = select_classes("imagenet100", 1000)
    assert len(set(selection.numbers)) == 100
    assert (selection.numbers[0], selection.names[15], selection.names[45]) == (15, "robin", "Gila monster")


def test_a_file_names_its_classes(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("# two of them\n3\tthird\n\n1\n")
    selection = select_classes(str(path), 4)
    assert selection.numbers == (3, 1)
    assert selection.names == {3: "third"}


@pytest.mark.parametrize(
    ("text", "count", "message"),
    [
        ("0-3", 0, "^classes 0-3: the generator has no classes"),
        ("5", 5, "class 5, the generator has 0 to 4"),
        ("0-999999999", 5, "class 999999999, the generator has 0 to 4"),
        ("3-1", 5, "3-1 runs backwards"),
        ("1,2,1", 5, "class 1 appears twice"),
        ("imagenet100", 10, "class 15, the generator has 0 to 9"),
        ("some", 5, "wanted all, numbers like 0-99 or 3,7, imagenet100, or an existing file"),
        ("1,", 5, "wanted all"),
    ],
)
def test_a_selection_that_is_none_is_refused(text, count, message):
    with pytest.raises(RecipeError, match=message):
        select_classes(text, count)


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "contains no classes"), ("dog\n", "line 1 begins with 'dog'"), ("1\n1\n", "appears twice")],
)
def test_a_file_that_is_no_list_of_classes_is_refused(tmp_path, content, message):
    path = tmp_path / "classes.txt"
    path.write_text(content)
    with pytest.raises(RecipeError, match=message):
        select_classes(str(path), 10)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not a text file"):
        select_classes(str(path), 10)


def build(folder, **options):
    return build_dataset(
        BuildConfig(out=folder, device="cpu", num_pairs=50, processes=1, **{"shard_size": "20", **options})
    )


def test_chosen_classes_are_balanced_and_recorded_per_pair(toy_folder):
    manifest = build(toy_folder / "out", gen="toygen:conditional", classes="2,0").manifest
    assert manifest.recipe["classes"] == [2, 0]
    assert Counter(pair["label"] for pair in datasets_manifest.open(toy_folder / "out")) == {2: 25, 0: 25}


def test_the_row_of_the_instance_features_is_stored_with_its_label(toy_folder):
    report = build(toy_folder / "out", gen="toygen:instances")
    pairs = list(datasets_manifest.open(toy_folder / "out"))
    assert [pair["row"] for pair in pairs[:6]] == [0, 1, 2, 3, 4, 0]
    assert [pair["label"] for pair in pairs[:5]] == [0, 4, 4, 0, 4]
    assert report.manifest.classes == ["0", "1", "2", "3", "4"]
    datasets_manifest.require_valid(toy_folder / "out", level="full")


def test_classes_choose_among_the_rows_by_their_labels(toy_folder):
    build(toy_folder / "out", gen="toygen:instances", classes="4")
    assert {pair["row"] for pair in datasets_manifest.open(toy_folder / "out")} == {1, 2, 4}


def test_a_batch_that_does_not_fit_is_halved_without_changing_a_latent(toy_folder, capfd):
    hungry = build(toy_folder / "hungry", gen="toygen:hungry", shard_size="32")
    assert "--batch-size auto: 16 images at a time fit in the memory of cpu" in capfd.readouterr().err
    plain = build(toy_folder / "plain", gen="toygen:plain", batch_size=16, shard_size="32")
    assert {shard.facts["batch_size"] for shard in hungry.manifest.shards} == {16}
    for one, other in zip(hungry.manifest.shards, plain.manifest.shards):
        assert one.latents_sha256 == other.latents_sha256
        assert one.sha256 == other.sha256
    assert np.array_equal(
        datasets_manifest.open(toy_folder / "hungry")[49]["anchor"],
        datasets_manifest.open(toy_folder / "plain")[49]["anchor"],
    )
