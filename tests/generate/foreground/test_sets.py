"""Datasets whose noise levels and weights follow from their images: of generated and real anchors, made again, and online."""

import math

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.across import RegenerationConfig
from genrep.datasets_manifest.recovery.examine import SampleConfig, compare_sample
from genrep.datasets_manifest.recovery.repair import RepairConfig, repair
from genrep.datasets_manifest.verify import verify
from genrep.errors import RecipeError, WeightsError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.preview.config import PreviewConfig
from genrep.generate.preview.run import preview_views
from genrep.generate.sources.online import open_online

from .loops import Loops

pytestmark = pytest.mark.slow
AUTO = "unclip:noise_level=auto,foreground=fg.safetensors"
WEIGH = "foreground=fg.safetensors,gamma=2"
SHARDS = ["shard-00000.beton", "shard-00001.beton", "shard-00002.beton"]


def build(out, **options):
    settings = {
        **{"gen": "discgen:discs", "views": AUTO, "weigh": WEIGH, "num_pairs": 5, "shard_size": "2"},
        **{"batch_size": 2, "processes": 1, "device": "cpu", "out": out, **options},
    }
    return build_dataset(BuildConfig(**settings))


def test_levels_and_weights_are_those_of_the_stored_images(here):
    build(here / "out", num_positives=2)
    dataset, loops = datasets_manifest.open(here / "out"), Loops(here / "fg.safetensors")
    names = [field["name"] for field in dataset.manifest.fields if field["kind"] == "float"]
    assert names == ["noise_level", "noise_level_1", "weight"]
    for pair in dataset:
        level = loops.level(pair["anchor"])
        assert pair["noise_level"] == pair["noise_level_1"] == level
        quality = sum(loops.quality(pair["anchor"], pair[name]) for name in ("positive", "positive_1")) / 2
        assert abs(pair["weight"] - math.exp(2 * quality)) < 1e-5
        for name in ("positive", "positive_1"):
            part, gray = level / 1000, math.tanh(pair[f"z_{name}"][0])
            wanted = (1 - part) * (pair["anchor"] / 127.5 - 1) + part * gray
            assert np.abs(127.5 * wanted + 128 - pair[name]).max() <= 2.01
    assert len({pair["noise_level"] for pair in dataset}) >= 2
    assert len({pair["weight"] for pair in dataset}) == 5
    recipe = dataset.manifest.recipe
    assert recipe["weigh"] == {"foreground": recipe["views"]["digest"], "gamma": 2.0}
    assert "fg.safetensors" not in str(recipe)
    assert dataset.manifest.build["views"][0]["file"] == "fg.safetensors"


def test_batches_processes_and_restarts_change_nothing(here):
    build(here / "one")
    build(here / "two", processes=2)
    for name in SHARDS:
        assert (here / "one" / name).read_bytes() == (here / "two" / name).read_bytes()
    (here / "two" / SHARDS[1]).unlink()
    for path in (here / "two").glob("shard-00001.json"):
        path.unlink()
    (here / "two/manifest.json").unlink()
    build(here / "two", batch_size=3)
    one, two = datasets_manifest.open(here / "one"), datasets_manifest.open(here / "two")
    for mine, other in zip(one, two):
        assert all(np.array_equal(mine[name], other[name]) for name in mine)
    assert one.manifest.id == two.manifest.id


def test_a_lost_shard_is_made_again(here):
    build(here / "out")
    before = (here / "out" / SHARDS[1]).read_bytes()
    (here / "out" / SHARDS[1]).unlink()
    given = {"gen": "discgen:discs", "processes": 1, "device": "cpu"}
    for lacking, line in (
        ({"views": AUTO}, "weighed: give weigh foreground=FILE"),
        ({"weigh": WEIGH}, "needs its file"),
    ):
        with pytest.raises(RecipeError, match=line):
            repair(RepairConfig(folder=here / "out", making=RegenerationConfig(**given, **lacking)))
    making = RegenerationConfig(**given, views=AUTO, weigh=WEIGH)
    repair(RepairConfig(folder=here / "out", making=making))
    assert (here / "out" / SHARDS[1]).read_bytes() == before
    report = compare_sample(SampleConfig(folder=here / "out", count=2, seed=1, making=making))
    assert report.problems == [] and report.identical_images == report.images == 4


def test_real_and_generated_anchors_of_the_same_pixels_are_alike(here):
    from PIL import Image

    build(here / "made", num_pairs=5, weigh=None)
    made = datasets_manifest.open(here / "made")
    (here / "photos").mkdir()
    for i, pair in enumerate(made):
        Image.fromarray(pair["anchor"]).save(here / f"photos/{i}.png")
    build(here / "real", anchors=str(here / "photos"), num_pairs=None)
    for mine, other in zip(made, datasets_manifest.open(here / "real"), strict=True):
        assert np.array_equal(mine["anchor"], other["anchor"]) and mine["noise_level"] == other["noise_level"]
        assert np.array_equal(mine["z_positive"], other["z_positive"])


def test_latents_come_back_without_the_file(here):
    build(here / "with", num_pairs=3)
    build(here / "without", num_pairs=3, store_latents="no")
    (here / "fg.safetensors").unlink()
    for one, other in zip(datasets_manifest.open(here / "with"), datasets_manifest.open(here / "without")):
        assert np.array_equal(one["z_anchor"], other["z_anchor"])
        assert np.array_equal(one["z_positive"], other["z_positive"])
        assert (one["weight"], one["noise_level"]) == (other["weight"], other["noise_level"])
    assert verify(here / "without", "full") == []


def test_online_pairs_are_the_datasets(here):
    build(here / "out", num_positives=2, num_pairs=3)
    dataset = datasets_manifest.open(here / "out")
    torch.set_num_threads(1)
    source = open_online("discgen:discs", views=AUTO, weigh=WEIGH, num_positives=2)
    assert {"weight", "noise_level_1"} <= set(source.fields)
    batch = source.batch(np.arange(3))
    alone = source.batch(np.array([2]), ["weight"])
    assert list(alone) == ["weight"] and float(alone["weight"]) == np.float32(dataset[2]["weight"])
    for i in range(3):
        for name in ("anchor", "positive_1", "weight", "noise_level", "noise_level_1"):
            stored = np.asarray(dataset[i][name])
            assert np.array_equal(batch[name][i].numpy(), stored.astype(np.float32) if stored.ndim == 0 else stored), (
                name
            )
    only = source.batch(np.array([1, 0]), ["noise_level"])
    assert only["noise_level"].tolist() == [dataset[1]["noise_level"], dataset[0]["noise_level"]]


def test_weights_go_with_any_view_and_with_a_filter(toy_folder, fitted, filter_file):
    (toy_folder / "fg.safetensors").symlink_to(fitted[1].path)
    common = {"gen": "toygen:plain", "views": "gaussian:std=.5", "num_pairs": 5}
    build(toy_folder / "plain", **common, weigh="foreground=fg.safetensors")
    build(toy_folder / "kept", **common, weigh="foreground=fg.safetensors", filter=f"keep=.9,weights={filter_file}")
    loops = Loops(toy_folder / "fg.safetensors")
    pair = datasets_manifest.open(toy_folder / "kept")[4]
    assert pair["index"] == 4 and pair["weight"] != datasets_manifest.open(toy_folder / "plain")[4]["weight"]
    resized = [enlarged(pair[name]) for name in ("anchor", "positive")]
    wanted = math.exp(loops.quality(*resized))
    assert abs(pair["weight"] - wanted) < 0.02 * wanted  # the loops see the same enlargement, but in whole levels


def enlarged(image):
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
    large = torch.nn.functional.interpolate(pixels, (32, 32), mode="bilinear", align_corners=False)
    return large[0].permute(1, 2, 0).round().to(torch.uint8).numpy()


def test_a_preview_shows_the_levels(here):
    shown = preview_views(
        PreviewConfig(
            gen="discgen:discs", views=(AUTO,), num_anchors=2, num_positives=1, out=here / "sheet.png", device="cpu"
        )
    )
    assert shown.path.exists()


@pytest.mark.parametrize(
    ("options", "error", "line"),
    [
        ({"views": "none"}, RecipeError, "weigh: weighs pairs, and views none makes no positives"),
        ({"weigh": "foreground=nowhere"}, WeightsError, "nowhere: no such file; fit-foreground writes one"),
        ({"views": "unclip:noise_level=auto,foreground=no"}, WeightsError, "no: no such file"),
        ({"gen": "toygen:plain", "weigh": None}, RecipeError, "needs a generator that is conditioned on images"),
    ],
)
def test_what_cannot_be_built_is_said_in_one_line(here, toy_folder, options, error, line):
    with pytest.raises(error) as caught:
        build(here / "out", **options)
    assert line in str(caught.value) and "\n" not in str(caught.value)
