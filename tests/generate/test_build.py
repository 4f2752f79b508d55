"""The builder: the same dataset however it is run, and readable by plain FFCV."""

import hashlib
import json

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, RecipeError, ResumeError
from genrep.generate import BuildConfig, build_dataset, load_generator
from genrep.generate.pixels import to_uint8
from genrep.generate.views import parse_view
from genrep.generate.views.base import synthesize_views


def build(folder, **options):
    settings = {
        "gen": "toygen:plain",
        "num_pairs": 100,
        "shard_size": "30",
        "batch_size": 7,
        "processes": 1,
        "device": "cpu",
    }
    return build_dataset(BuildConfig(out=folder, **{**settings, **options}))


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.beton"))}


def latents(folder):
    return [json.loads(path.read_text())["latents_sha256"] for path in sorted(folder.glob("shard-*.json"))]


@pytest.mark.slow
def test_latents_do_not_depend_on_the_batch_and_bytes_not_on_the_processes(toy_folder):
    build(toy_folder / "seven")
    build(toy_folder / "one", batch_size=1)
    build(toy_folder / "parallel", processes=2)
    assert latents(toy_folder / "one") == latents(toy_folder / "seven") == latents(toy_folder / "parallel")
    assert hashes(toy_folder / "parallel") == hashes(toy_folder / "seven")
    assert len(hashes(toy_folder / "seven")) == 4


def test_a_finished_folder_holds_every_pair_once_and_verifies(toy_folder):
    report = build(toy_folder / "out")
    dataset = datasets_manifest.open(toy_folder / "out")
    assert [dataset[i]["index"] for i in range(len(dataset))] == list(range(100))
    assert {dataset[i]["label"] for i in range(len(dataset))} == {-1}
    assert [shard.count for shard in report.manifest.shards] == [30, 30, 30, 10]
    assert verify(toy_folder / "out", level="full") == []
    extra = {path.suffix for path in (toy_folder / "out").iterdir()}
    assert extra == {".beton", ".json", ".md", ".png"}
    assert not [path for path in (toy_folder / "out").iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.ffcv
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("encoding", ["raw", "jpeg:100"])
def test_plain_ffcv_reads_the_images_and_latents_that_the_generator_made(toy_folder, encoding):
    from ffcv.fields.decoders import IntDecoder, NDArrayDecoder, SimpleRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor

    # FFCV compiles a reader for every file, which takes seconds.
    build(toy_folder / "out", num_positives=2, encoding=encoding, shard_size="100")
    generator = load_generator("toygen:plain")
    seen = []
    for path in sorted((toy_folder / "out").glob("*.beton")):
        image, array = [SimpleRGBImageDecoder(), ToTensor()], [NDArrayDecoder(), ToTensor()]
        pipelines = dict.fromkeys(("anchor", "positive", "positive_1"), image)
        pipelines |= dict.fromkeys(("z_anchor", "z_positive", "z_positive_1"), array)
        pipelines |= {name: [IntDecoder(), ToTensor()] for name in ("label", "index")}
        loader = Loader(
            str(path), batch_size=10, num_workers=1, order=OrderOption.SEQUENTIAL, pipelines=pipelines, drop_last=False
        )
        for batch in loader:
            columns = dict(zip(pipelines, (column.clone() for column in batch)))
            seen += columns["index"].flatten().tolist()
            for image_name, z_name in (
                ("anchor", "z_anchor"),
                ("positive", "z_positive"),
                ("positive_1", "z_positive_1"),
            ):
                made = to_uint8(generator.synthesize(columns[z_name]), "127.5x+128")
                difference = (made.int() - columns[image_name].int()).abs()
                assert difference.max() <= (1 if encoding == "raw" else 60)  # 4:2:0 colour at sharp edges
    assert seen == list(range(100))


@pytest.mark.parametrize(
    "views",
    ["gaussian:std=.2,truncation=2", "angular:std=.3", "hierarchical:over=layers,0-1=genrep-gaussian,4-7=gaussian"],
)
def test_stored_latents_regenerate_the_stored_pixels_to_the_bit(toy_folder, views):
    build(toy_folder / "out", gen="stylegan2_fashion", num_pairs=16, shard_size="16", batch_size=16, views=views)
    torch.set_num_threads(1)  # as recorded in the shard's json
    generator, dataset = load_generator("stylegan2_fashion"), datasets_manifest.open(toy_folder / "out")
    pairs = [dataset[i] for i in range(16)]
    z = {name: torch.from_numpy(np.stack([pair[name] for pair in pairs])) for name in ("z_anchor", "z_positive")}
    made = synthesize_views(generator, parse_view(views), z["z_anchor"], z["z_positive"], None)
    for name, images in (("anchor", generator.synthesize(z["z_anchor"])), ("positive", made)):
        stored = np.stack([pair[name] for pair in pairs])
        assert np.array_equal(to_uint8(images, "127.5x+128").numpy(), stored)


def test_gaussian_positives_are_near_their_anchors_and_within_the_support(toy_folder):
    build(toy_folder / "out", views="gaussian:std=.3,truncation=1.5")
    dataset = datasets_manifest.open(toy_folder / "out")
    w = np.stack([dataset[i]["z_positive"] - dataset[i]["z_anchor"] for i in range(100)])
    assert 0.4 < np.abs(w).max() <= 0.45 + 1e-6
    assert abs(w.std() - 0.3 * 0.7435) < 0.02  # standard deviation of N^t(0, 1, 1.5)


def test_independent_positives_keep_the_class_which_is_balanced(toy_folder):
    build(toy_folder / "out", gen="toygen:conditional", views="independent")
    dataset = datasets_manifest.open(toy_folder / "out")
    rows = [dataset[i] for i in range(99)]
    assert np.bincount([row["label"] for row in rows]).tolist() == [33, 33, 33]
    correlation = np.corrcoef(
        np.stack([r["z_anchor"] for r in rows]).ravel(), np.stack([r["z_positive"] for r in rows]).ravel()
    )
    assert abs(correlation[0, 1]) < 0.15


def test_the_embedded_classes_have_their_names(toy_folder):
    report = build(toy_folder / "out", gen="stylegan2_fashion_cond", views="independent", num_pairs=10, shard_size="10")
    assert report.manifest.classes[9] == "Ankle boot"
    assert datasets_manifest.open(toy_folder / "out")[9]["label"] == 9


def test_no_view_stores_anchors_alone(toy_folder):
    report = build(toy_folder / "out", views="none")
    assert [field["name"] for field in report.manifest.fields] == ["anchor", "z_anchor", "label", "index"]


def test_more_pairs_share_the_latents_of_fewer(toy_folder):
    build(toy_folder / "few", num_pairs=10)
    build(toy_folder / "many", num_pairs=20)
    few, many = datasets_manifest.open(toy_folder / "few"), datasets_manifest.open(toy_folder / "many")
    assert all(np.array_equal(few[i]["z_positive"], many[i]["z_positive"]) for i in range(10))


def test_a_second_call_finds_the_work_done_and_another_recipe_is_refused(toy_folder):
    build(toy_folder / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (toy_folder / "out").iterdir()}
    assert build(toy_folder / "out", batch_size=50, processes=2).built_pairs == 0
    assert {path.name: path.stat().st_mtime_ns for path in (toy_folder / "out").iterdir()} == before
    with pytest.raises(
        ResumeError,
        match=r"num_pairs 100 there, 101 asked for; seed 0 there, 3 asked for\); give the same settings, or another out$",
    ):
        build(toy_folder / "out", num_pairs=101, seed=3)
    with pytest.raises(ResumeError, match=r"views\.std 0\.2 there, 0\.5 asked for"):
        build(toy_folder / "out", views="gaussian:std=.5")


def test_a_lost_or_cut_shard_is_built_again_to_the_same_bytes(toy_folder):
    build(toy_folder / "out")
    expected = hashes(toy_folder / "out")
    (toy_folder / "out/manifest.json").unlink()
    (toy_folder / "out/shard-00001.json").unlink()
    with open(toy_folder / "out/shard-00002.beton", "r+b") as file:
        file.truncate(1000)
    assert build(toy_folder / "out").built_pairs == 60
    assert hashes(toy_folder / "out") == expected


def test_the_default_shard_size_gives_at_least_sixteen_shards(toy_folder):
    assert len(build(toy_folder / "out", shard_size=None, num_pairs=50).manifest.shards) == 17
    with pytest.raises(RecipeError, match=r"^shard_size '0'"):
        build(toy_folder / "zero", shard_size="0")


@pytest.mark.slow
def test_a_shard_size_in_bytes_follows_from_the_recipe(toy_folder):
    report = build(toy_folder / "out", num_pairs=3000, shard_size="1MB")
    pages = report.manifest.shards[0].count * (2 * (8 * 8 * 3 + 6 * 4) + 200)
    assert 0.9e6 < pages < 1.1e6


def test_a_finished_dataset_that_has_lost_a_shard_is_not_called_complete(toy_folder):
    out = toy_folder / "lost"
    build(out)
    assert build(out).built_pairs == 0
    (out / "shard-00002.beton").unlink()
    with pytest.raises(
        DatasetError, match=r"was finished, but shard-00002.beton is missing or truncated \(1 of 4 shards\)"
    ):
        build(out)
