"""The papers' numbers: as printed, complete, and beside a result only where the protocol is the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import genrep.generate.recipes
from genrep.encoders.building import build_encoder
from genrep.evaluate.detection.config import DetectionConfig
from genrep.evaluate.detection.run import Detection
from genrep.evaluate.finetune import run as finetuning
from genrep.evaluate.finetune.config import FinetuneConfig
from genrep.evaluate.linear.config import PRESETS, LinearConfig
from genrep.evaluate.linear.run import LinearProbe
from genrep.evaluate.voc.config import Voc07Config
from genrep.evaluate.voc.layout import VocImage, VocSplit
from genrep.evaluate.voc.run import Voc07
from genrep.generate.views.grammar import NAMES
from genrep.generate.views.grammar import PRESETS as VIEW_PRESETS
from genrep.images.inventory import Inventory
from genrep.images.labelled import TOP1, LabelledImages
from genrep.images.sets import DATASETS
from genrep.papers.report import Row, find_row, published
from genrep.papers.report.papers import dataset_facts
from genrep.pixel_views import PIXEL_VIEWS
from genrep.runs.processes import Processes
from genrep.train.objectives import OBJECTIVES

HAND_PICKED = [  # row, column, value as printed (percent), dataset, quantity, protocol
    ("genrep-table1/real", "ImageNet-1k", "43.90", "imagenet", "top-1", "linear-genrep"),
    ("genrep-table1/gauss", "VOC07 classification", "64", "VOC2007", "mAP", "voc07-genrep"),
    ("genrep-table2/gauss", "Stanford Cars", "49.79", "stanford_cars", "top-1", "linear-genrep-100ep"),
    ("genrep-table3/independent", "ImageNet-1k", "48.97", "imagenet", "top-1", "linear-genrep"),
    ("genrep-table4/gauss", "VOC detection AP50", "74.88", "VOC2007+VOC2012", "AP50", "detection-genrep-24k"),
    ("genrep-table4/inverter", "ImageNet-100", "28.36", "imagenet100", "top-1", "linear-genrep"),
    ("genrep-table5/real", "VOC07 classification", "65.79", "VOC2007", "mAP", "voc07-genrep"),
    ("genrep-table6/generated", "VOC detection AP75", "45.46", "VOC2007+VOC2012", "AP75", "detection-genrep-24k"),
    ("genrep-fig5/std-0.3", "ImageNet-100", "65.42", "imagenet100", "top-1", "linear-genrep"),
    ("genrep-fig9/mix-5", "ImageNet-100", "67.52", "imagenet100", "top-1", "linear-genrep"),
    ("genrep-section4.2/bigbigan-encoder", "ImageNet-100", "55.70", "imagenet100", "top-1", "linear-bigbigan-encoder"),
    ("genrep-appd/real-15ep", "ImageNet-1k", "32.48", "imagenet", "top-1", "linear-genrep"),
    ("genrep-appd-256px/gauss", "ImageNet-1k", "49.7", "imagenet", "top-1", "linear-genrep-256px"),
    ("cop-gen-table1/cop-gen", "ImageNet-1k", "53.25", "imagenet", "top-1", "linear-cop-gen"),
    ("cop-gen-table1/real-nnclr", "VOC detection AP75", "56.27", "VOC2007+VOC2012", "AP75", "detection-cop-gen-96k"),
    ("cop-gen-table2/cop-gen", "Pets", "73.56", "pets", "top-1", "transfer-vissl"),
    ("cop-gen-table2/steer", "ImageNet-1k, 1 % of labels", "52.33", "imagenet", "top-5", "finetune-vissl-1"),
    ("cop-gen-table3/cop-gen-only", "ImageNet-100", "37.40", "imagenet100", "top-1", "linear-cop-gen"),
    ("cop-gen-table4/no-crop", "ImageNet-100", "43.84", "imagenet100", "top-1", "linear-cop-gen"),
    ("cop-gen-table5/400k", "ImageNet-100", "64.12", "imagenet100", "top-1", "linear-cop-gen"),
    ("cop-gen-linear-walk/linear", "ImageNet-100", "61.18", "imagenet100", "top-1", "linear-cop-gen"),
    ("hl-table1/chunk-3", "mean distance", "13.00", "latents of bigbigan", "mean distance", "delta"),
    ("hl-table1-all/above-0-2", "mean distance", "2.44", "latents of bigbigan", "mean distance in chunk 2", "delta"),
    ("hl-table1/chunk-5", "std of distance", "616.80", "latents of bigbigan", "std of distance", "delta"),
    ("hl-table1/chunk-5", "mean distance", "594.71", "latents of bigbigan", "mean distance", "delta"),
    ("hl-table1-all/all-2", "std of distance", "0.09", "latents of bigbigan", "std of distance in chunk 2", "delta"),
    (
        "hl-table1-all/above-0-5",
        "std of distance",
        "0.15",
        "latents of bigbigan",
        "std of distance in chunk 5",
        "delta",
    ),
    ("hl-table2-simclr/hl-learned", "ImageNet-1k", "54.4", "imagenet", "top-1", "linear-cop-gen"),
    ("hl-table2-simclr/hl-random", "VOC detection AP", "53.3", "VOC2007+VOC2012", "AP", "detection-cop-gen-96k"),
    ("hl-table2-simclr/none", "VOC detection AP75", "55.8", "VOC2007+VOC2012", "AP75", "detection-cop-gen-96k"),
    ("hl-table2-simclr/real", "ImageNet-1k top-5", "75.6", "imagenet", "top-5", "linear-cop-gen"),
    ("hl-table2/hl-random", "VOC detection AP", "54.3", "VOC2007+VOC2012", "AP", "detection-hl"),
    ("hl-table3/hl-random-filter", "mean of 7 datasets", "60.5", "mean of 7", "top-1", "linear-hl-mean7"),
    ("hl-table3-cars/hl-random", "FGVC-Aircraft", "22.9 ± 0.8", "fgvc_aircraft_family", "top-1", "linear-hl-100ep"),
    ("hl-table3-cars/real", "Stanford Cars", "33.4 ± 0.8", "stanford_cars", "top-1", "linear-hl-100ep"),
    ("hl-table3-cars/hl-random", "Stanford Cars top-5", "76.1 ± 0.3", "stanford_cars", "top-5", "linear-hl-100ep"),
    ("hl-table3-cars/learned", "FGVC-Aircraft top-5", "51.9 ± 0.5", "fgvc_aircraft_family", "top-5", "linear-hl-100ep"),
    ("hl-table4/supervised", "Birdsnap", "93.6 ± 0.5", "birdsnap", "top-1", "linear-hl"),
    ("hl-table4/supervised", "Pets", "84.9 ± 0.5", "pets", "top-1", "linear-hl"),
    ("hl-table4/real", "Flowers-102", "59.8 ± 2.6", "flowers102", "top-1", "linear-hl"),
    ("hl-table4/hl-random-filter", "Food-101", "52.0 ± 0.3", "food101", "top-1", "linear-hl"),
    ("hl-table4/hl-learned", "CIFAR-100", "36.7 ± 0.4", "cifar100", "top-1", "linear-hl"),
    ("hl-table4/none", "Caltech-101", "67.9 ± 1.6", "caltech101", "top-1", "linear-hl"),
    ("hl-table4/learned", "DTD", "48.8 ± 0.5", "dtd", "top-1", "linear-hl"),
    ("stablerep-readme-1/redcaps-3x", "ImageNet-1k", "76.7", "imagenet", "top-1", "linear-stablerep"),
    ("stablerep-readme-1/cc12m-1x-down", "ImageNet-1k, batch norm", "73.5", "imagenet", "top-1", "linear-synclr"),
    ("stablerep-readme-2/clip-50m", "ImageNet-1k, batch norm", "73.0", "imagenet", "top-1", "linear-synclr"),
    ("synclr-evaluate/vit-l-14", "ImageNet-1k", "83.0", "imagenet", "top-1", "linear-synclr"),
    ("synclr-evaluate/vit-b-16", "ADE20K, fine-tuned", "54.25", "ADEChallengeData2016", "mIoU", "segmentation-synclr"),
    ("genview-readme/moco-v3-vit-b", "ImageNet-1k", "77.8", "imagenet", "top-1", "linear-genview"),
    ("dino-readme/vit-b-8", "ImageNet-1k, nearest neighbours", "77.4", "imagenet", "top-1", "knn-dino"),
    ("moco-v3-readme/vit-s", "ImageNet-1k", "73.2", "imagenet", "top-1", "linear-moco-v3"),
    ("moco-v3-readme-finetuned/vit-b", "ImageNet-1k, fine-tuned", "83.2", "imagenet", "top-1", "finetune-moco-v3"),
    ("dinov2-readme/vit-g-14-reg", "ImageNet-1k", "87.1", "imagenet", "top-1", "linear-dinov2"),
    ("dinov3-card/vit-b-16", "ADE20K", "51.8", "ADEChallengeData2016", "mIoU", "segmentation-dinov3"),
]
COUNTS = {
    **{"genrep-table1": 14, "genrep-table2": 8, "genrep-table3": 18, "genrep-table4": 25, "genrep-table5": 30},
    **{"genrep-table6": 10, "genrep-fig5": 5, "genrep-fig9": 5, "genrep-section4.2": 1, "genrep-appd": 3},
    **{"genrep-appd-256px": 2, "cop-gen-table1": 55, "cop-gen-table2": 36, "cop-gen-table3": 7, "cop-gen-table4": 4},
    **{"cop-gen-table5": 3, "cop-gen-linear-walk": 1, "hl-table1": 24, "hl-table1-all": 22},
    **{"hl-table2": 40, "hl-table2-simclr": 30, "hl-table3": 8, "hl-table3-cars": 24, "hl-table4": 63},
    **{
        "stablerep-readme-1": 20,
        "stablerep-readme-2": 18,
        "synclr-evaluate": 6,
        "genview-readme": 8,
        "dino-readme": 10,
    },
    **{"moco-v3-readme": 5, "moco-v3-readme-finetuned": 2, "dinov2-readme": 16, "dinov3-card": 10},
}


@pytest.mark.parametrize(("key", "column", "text", "dataset", "metric", "protocol"), HAND_PICKED)
def test_hand_picked_numbers(key: str, column: str, text: str, dataset: str, metric: str, protocol: str) -> None:
    (number,) = [one for one in find_row(key) if one.column == column]
    assert (number.text, number.dataset, number.metric) == (text, dataset, metric)
    assert number.protocol.name == protocol and number.value == float(text.partition(" ±")[0])


def test_every_number_is_there_once() -> None:
    places = Counter((one.key, one.column) for one in published())
    assert set(places.values()) == {1}
    assert Counter(one.key.partition("/")[0] for one in published()) == COUNTS


# What trained encoders that no command here trains: captions, images, views and objectives of their authors.
FIELD = {"StableRep", "SynCLR", "GenView", "DINO", "MoCo v3", "DINOv2", "DINOv3"}
THEIR_CAPTIONS = {f"stable-diffusion:{name}" for name in ("cc12m", "redcaps", "laion-50m", "syncaps-150m")}
THEIR_RECIPES = THEIR_CAPTIONS | {"stable-unclip", "real:laion-50m", "real:lvd-142m", "real:lvd-1689m"}
THEIR_OBJECTIVES = {"stablerep++", "clip", "moco-v2", "swav"}


def test_every_number_is_complete() -> None:
    recipes = {path.stem for path in Path(genrep.generate.recipes.__path__[0]).glob("*.toml")}
    recipes |= {f"real:{name}" for name in ("imagenet", "imagenet100", "lsun_car")}
    for number in published():
        theirs = number.paper in FIELD
        for name in ("paper", "source", "table", "row", "column", "dataset", "metric", "unit", "recipe", "views"):
            assert getattr(number, name), number
        assert number.protocol.says, number
        assert number.std is None or 0 < number.std < 3, number
        assert 0 < number.value <= 100 or number.unit != "percent", number
        assert round(number.value, number.decimals) == number.value, number
        assert set(number.recipe.split("+")) <= recipes | (THEIR_RECIPES if theirs else set()), number
        assert number.views.partition(":")[0] in {*NAMES, *VIEW_PRESETS}, number
        assert number.pixel_views in {*PIXEL_VIEWS, *(["own"] if theirs else [])}, number
        assert number.objective in {*OBJECTIVES, *(THEIR_OBJECTIVES if theirs else ("navigator", "bigbigan"))}, number
        assert (number.sweep is None) == (number.x is None), number
        if number.protocol.kind in ("linear", "finetune"):
            assert number.dataset in {*DATASETS, "mean of 7"}, number


# Fields that say what the others say, or that no option changes; of whose images no published number tells the digests.
FIXED = {"source", "train", "test", "reported", "train_sha256", "test_sha256"}
NO_IMAGES = Inventory(names=(), labels=(), contents=np.zeros((0, 16), dtype=np.uint8))
ENCODER: Any = SimpleNamespace(module=torch.nn.Identity(), facts=SimpleNamespace(size=128))
TOKENS = build_encoder(
    "vit_tiny_patch16_224:width=16,depth=4,heads=2", "imagenet", 0
)  # of which only the class token counts
HERE = Processes(device=torch.device("cpu"))


@cache
def images(dataset: str, split: str, count: int | None = None) -> LabelledImages:
    """What stands for a split of a whole dataset, or for so many of its images."""
    facts = dataset_facts(dataset)
    labels = np.arange(count or facts.get(f"{split}_images", 5000), dtype=np.int64) % facts["classes"]
    data = LabelledImages(dataset, labels, tuple(map(str, range(facts["classes"]))), split, TOP1)
    vars(data)["inventory"] = NO_IMAGES  # cached: there is nothing to read
    return data


@cache
def linear(dataset: str, preset: str, train_images: int | None = None, **options: Any) -> dict[str, Any]:
    """The protocol of our linear probe."""
    config = LinearConfig(dataset=dataset, out=Path("x"), encoder="e", preset=preset, **options)
    train = images(dataset, "train", train_images)
    return LinearProbe(config).on(ENCODER, train, images(dataset, "test"), processes=HERE).said


def test_linear_by_preset_is_what_our_command_does() -> None:
    numbers = [one for one in published() if one.protocol.kind == "linear" and one.match and one.paper not in FIELD]
    assert len(numbers) > 100
    for number in numbers:
        match = dict(number.match)
        preset = PRESETS[match["preset"]]
        for dataset in match.pop("mean_of", [number.dataset]):
            options = {} if match["lr"] == preset.lr else {"lr": match["lr"]}  # of encoders of real images
            options |= {"epochs": 100} if number.key.startswith("genrep-table2") and dataset == "imagenet" else {}
            ours, wanted = linear(dataset, match["preset"], **options), {**dataset_facts(dataset), **match}
            assert {name: ours.get(name) for name in wanted} == wanted, number
            assert ours.keys() - wanted.keys() <= {*FIXED, "train_images", "test_images"}, number
        assert number.protocol.name == "linear-hl-mean7" or number.comparable(number.dataset, ours), number


@pytest.mark.parametrize(("preset", "count"), [("stablerep", 19), ("synclr", 21), ("dinov2", 8)])
def test_probes_of_a_grid_are_what_our_command_does(preset: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.arange(1281167 // 2)  # which images are held out is no part of the protocol
    monkeypatch.setattr("genrep.evaluate.linear.run.held_out", lambda *_: (half, half))
    numbers = [one for one in published() if one.match.get("preset") == preset and one.dataset == "imagenet"]
    assert len(numbers) == count
    encoder: Any = SimpleNamespace(module=TOKENS, facts=SimpleNamespace(size=224), path=Path("e"))
    data = images("imagenet", "train"), images("imagenet", "test")

    def ours(**options: Any) -> dict[str, Any]:
        config = LinearConfig(dataset="imagenet", out=Path("x"), encoder="e", preset=preset, **options)
        return LinearProbe(config).on(encoder, *data, processes=HERE).said

    same = ours()
    others = [ours(**one) for one in ({"lr": 0.1}, {"epochs": 7}, {"batch_size": 512}, {"size": 128}, {"crops": False})]
    for number in numbers:
        assert number.comparable("imagenet", same)
        assert same.keys() - number.match.keys() <= {*FIXED, "chosen_on"}
        assert "on held-out training images" in number.protocol.says
        assert not any(number.comparable("imagenet", one) for one in others)


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("genrep-table1/gauss", {"lr": 1e-6}),
        ("genrep-table1/gauss", {"train_images": 1000}),
        ("genrep-table1/gauss", {"size": 32}),
        ("genrep-table1/gauss", {"size": 128, "crop": 128}),
        ("genrep-table1/gauss", {"batch_size": 128}),
        ("cop-gen-table2/cop-gen", {"lr": 5.0}),
        ("cop-gen-table2/cop-gen", {"size": 32}),
        ("hl-table3-cars/hl-random", {"lr": 3.0}),
        ("hl-table2/hl-random", {"epochs": 61}),
    ],
)
def test_a_linear_probe_with_other_options_stands_beside_no_number(key: str, options: dict[str, Any]) -> None:
    numbers = [one for one in find_row(key) if one.protocol.kind == "linear"]
    assert numbers
    for number in numbers:
        ours = linear(number.dataset, number.match["preset"])
        assert number.comparable(number.dataset, ours)
        assert not number.comparable(number.dataset, linear(number.dataset, number.match["preset"], **options))
        if "test_images" in number.match:
            assert not number.comparable(number.dataset, {**ours, "test_images": 7})


@pytest.mark.parametrize(
    ("table", "dataset", "preset", "real"),
    [("genrep-table1", "imagenet", "genrep", 0.3), ("cop-gen-table1", "imagenet", "cop-gen", 0.2625)],
)
def test_encoders_of_real_images_have_a_rate_of_their_own(table: str, dataset: str, preset: str, real: float) -> None:
    numbers = [one for one in published() if one.key.startswith(f"{table}/") and one.dataset == dataset]
    for options, kind in (({"lr": real}, True), ({}, False)):
        beside = [one for one in numbers if one.comparable(dataset, linear(dataset, preset, **options))]
        assert beside == [one for one in numbers if one.recipe.startswith("real:") is kind] and beside


def test_mixed_sets_are_real_at_one_end_only() -> None:
    rates = {one.x: one.match["lr"] for one in published() if one.key.startswith("genrep-fig9/")}
    assert rates == {0.0: 0.3, 0.05: 2.0, 0.25: 2.0, 0.5: 2.0, 1.0: 2.0}


SHA256 = {
    "1percent.txt": "71e82a48ba78252683ae334c4d019ebd5c6e855b9599c1389fbe83eb9549cf17",
    "10percent.txt": "6d09de11e7bdaf5b1f3b1f249b6183695f97310cdd20f0c03e7235b6b9392091",
}


@pytest.mark.parametrize(("name", "labels", "part"), [("1percent.txt", 12811, "1%"), ("10percent.txt", 128116, "10%")])
def test_finetuning_on_simclrs_lists_is_what_our_command_does(
    name: str, labels: int, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetuning, "read_subset", lambda data, path: np.arange(labels))
    monkeypatch.setattr(finetuning, "sha256_file", lambda path: SHA256[path.name])
    monkeypatch.setattr(LabelledImages, "inventory", NO_IMAGES)

    def ours(**options: Any) -> dict[str, Any]:
        config = FinetuneConfig(dataset="imagenet", out=Path("x"), encoder="e", **options)
        sets = images("imagenet", "train"), images("imagenet", "test")
        return finetuning.Finetuning(config).on(ENCODER, *sets, processes=HERE).said

    numbers = [
        one for one in published() if one.protocol.kind == "finetune" and one.match.get("train_images") == labels
    ]
    assert len(numbers) == 4
    same: dict[str, Any] = {"subset": Path(name), "size": 256, "crop": 224}
    others = [{**same, **more} for more in ({"lr": 9.0}, {"size": 224}, {"size": None, "crop": None}, {"epochs": 7})]
    unlike = [ours(**one) for one in (*others, {"labels": part, "size": 256, "crop": 224})]
    for number in numbers:
        assert number.comparable("imagenet", ours(**same))
        assert ours(**same).keys() - number.match.keys() <= FIXED
        assert not any(number.comparable("imagenet", one) for one in unlike)


VOC = (  # in the order of the alphabet, as our commands take them
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)


def split(name: str, count: int, classes: tuple[str, ...] = VOC) -> VocSplit:
    image = VocImage.__new__(VocImage)
    data = VocSplit(name=name, images=(image,) * count, classes=classes, dropped={})
    vars(data)["inventory"] = NO_IMAGES
    return data


def test_voc07_as_genrep_is_what_our_command_does() -> None:
    def said(config: Voc07Config, train: VocSplit, test: VocSplit) -> dict[str, Any]:
        return Voc07(config).on(ENCODER, train, test, processes=HERE).said

    config = Voc07Config(data=Path("VOC2007"), out=Path("x"), encoder="e", protocol="genrep")
    ours = said(config, split("train", 2501), split("val", 2510))
    (number,) = [one for one in find_row("genrep-table4/gauss") if one.metric == "mAP"]
    assert number.comparable("any folder", ours)
    assert not number.comparable("any folder", said(config, split("train", 2501), split("val", 2000)))
    one = [split(name, count, ("person",)) for name, count in (("train", 2501), ("val", 2510))]
    assert not number.comparable("any folder", said(config, one[0], one[1]))
    assert ours.keys() - number.match.keys() == {"classifier", "costs", "choice", "train_sha256", "test_sha256"}
    other = Voc07Config(data=Path("VOC2007"), out=Path("x"), encoder="e")
    assert not number.comparable("VOC2007", said(other, split("trainval", 5011), split("test", 4952)))


@pytest.mark.parametrize(
    ("preset", "key"), [("genrep-24k", "genrep-table4/gauss"), ("cop-gen-96k", "cop-gen-table1/gauss")]
)
def test_detection_by_preset_is_what_our_command_does(preset: str, key: str) -> None:
    def said(config: DetectionConfig, train: VocSplit, test: VocSplit) -> dict[str, Any]:
        return Detection(config).on(ENCODER, train, test, processes=HERE).said

    folders = (Path("VOC2007"), Path("VOC2012"))
    train, test = split("trainval", 16551), split("test", 4952)
    numbers = [one for one in find_row(key) if one.metric.startswith("AP")]
    assert len(numbers) == 3
    others = ({"steps": 100}, {"norm": "frozen"}, {"min_sizes": (320,)}, {"clip_norm": 0.1}, {"max_size": 640})
    for more in ({}, *others, {"warmup": 1}, {"precision": "bf16"}):
        config = DetectionConfig(data=folders, out=Path("x"), encoder="e", preset=preset, **more)
        ours = said(config, train, test)
        assert [one.comparable("VOC2007+VOC2012", ours) for one in numbers] == [not more] * 3, more
        assert ours.keys() - numbers[0].match.keys() <= {"test_data", "train_sha256", "test_sha256"}
    config = DetectionConfig(data=folders, out=Path("x"), encoder="e", preset=preset)
    person = split("trainval", 16551, ("person",)), split("test", 4952, ("person",))
    assert not numbers[0].comparable("VOC2007+VOC2012", said(config, *person))


def test_a_row_names_published_rows_that_exist() -> None:
    assert Row(name="x", runs=(Path("x"),), published=("genrep-table1/gauss",)).published
    with pytest.raises(ValueError, match="genrep-table1/gaus': wanted one of genrep-table1/real"):
        Row(name="x", runs=(Path("x"),), published=("genrep-table1/gaus",))
    with pytest.raises(ValueError, match="genrep-table1/…"):
        Row(name="x", runs=(Path("x"),), published=("moco",))


def test_where_a_number_is_from_is_said() -> None:
    (number,) = find_row("genrep-fig5/std-0.2")
    assert number.where == (
        "GenRep, Figure 5 (20 positives of each anchor, Table 4 has one; values of the authors' notebook, not of the paper)"
    )
    assert asdict(number)["x"] == 0.2
