"""Real images become shards of the same contract."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.errors import DataError
from genrep.generate.build.from_folder import FolderConfig, build_from_folder
from genrep.generate.cli import cli


@pytest.fixture
def photos(tmp_path):
    """Two classes of three images each, of different sizes."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("cat", "dog")):
        (tmp_path / "photos/train" / name).mkdir(parents=True)
        for k in range(3):
            pixels = rng.integers(0, 255, (20 + 4 * k, 30, 3), dtype=np.uint8)
            pixels[..., 0] = 100 * label
            Image.fromarray(pixels).save(tmp_path / f"photos/train/{name}/{k}.png")
    return tmp_path / "photos"


def build(photos, out, **options):
    return build_from_folder(FolderConfig(data=str(photos), out=out, **{"processes": 1, **options}))


def test_a_class_folder_becomes_a_dataset_that_verifies(photos, tmp_path):
    manifest = build(photos, tmp_path / "out", size="16").manifest
    datasets_manifest.require_valid(tmp_path / "out", level="full")
    dataset = datasets_manifest.open(tmp_path / "out")
    assert manifest.classes == ["cat", "dog"]
    assert [field["name"] for field in manifest.fields] == ["anchor", "label", "index"]
    assert [pair["label"] for pair in dataset] == [0, 0, 0, 1, 1, 1]
    assert dataset[0]["anchor"].shape == (16, 16, 3)
    assert dataset[5]["anchor"][..., 0].mean() > 90 > 5 > dataset[0]["anchor"][..., 0].mean()


def test_the_centre_is_cropped_or_the_whole_image_stretched(tmp_path):
    (tmp_path / "photos").mkdir()
    pixels = np.zeros((20, 40, 3), dtype=np.uint8)
    pixels[:, 10:30] = 255  # the central square is white
    Image.fromarray(pixels).save(tmp_path / "photos/one.png")
    build(tmp_path / "photos", tmp_path / "center", size="10")
    build(tmp_path / "photos", tmp_path / "none", size="10", crop="none")
    assert datasets_manifest.open(tmp_path / "center")[0]["anchor"].min() == 255
    assert datasets_manifest.open(tmp_path / "none")[0]["anchor"].min() == 0
    assert datasets_manifest.open(tmp_path / "none")[0]["label"] == -1


def test_images_of_several_sizes_need_a_size(photos, tmp_path):
    with pytest.raises(
        DataError,
        match=r"images of several sizes, e\.g\. 20x30 and 24x30: give shorter_side for whole images, or size",
    ):
        build(photos, tmp_path / "out")


def test_unreadable_images_are_skipped_named_and_counted(photos, tmp_path, capsys):
    whole = (photos / "train/cat/1.png").read_bytes()
    (photos / "train/cat/1.png").write_bytes(whole[: len(whole) // 2])
    (photos / "train/dog/9.jpg").write_text("no image")
    report = build(photos, tmp_path / "out", size="16")
    assert report.manifest.num_pairs == 5
    message = capsys.readouterr().err
    assert "2 images cannot be read: cat/1.png (" in message
    assert "all named in" in message
    lines = (tmp_path / "out/unreadable.jsonl").read_text().splitlines()
    assert [json.loads(line)["file"] for line in lines] == ["cat/1.png", "dog/9.jpg"]
    with pytest.raises(DataError, match=r"^strict: 2 images cannot be read"):
        build(photos, tmp_path / "strict", size="16", strict=True)
    assert not (tmp_path / "strict/manifest.json").exists()


def test_an_image_of_unknown_range_ends_it_by_name(photos, tmp_path):
    Image.fromarray(np.zeros((20, 30), dtype=np.float32)).save(photos / "train/dog/depth.tif")
    with pytest.raises(DataError, match=r"train/dog/depth.tif: floating-point values \(mode F\)"):
        build(photos, tmp_path / "out", size="16")


def test_the_reasons_in_the_record_are_the_same_in_every_run(photos, tmp_path):
    (photos / "train/dog/9.jpg").write_text("no image")
    for name in ("one", "two"):
        build(photos, tmp_path / name, size="16")
    records = [(tmp_path / name / "unreadable.jsonl").read_text() for name in ("one", "two")]
    assert records[0] == records[1]
    assert json.loads(records[0])["reason"] == "not a readable image (of no format that Pillow knows)"


def test_real_images_are_counted_as_images(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("genrep.progress.LOG_EVERY_SECONDS", 0.0)
    command = ["from-folder", str(photos), "--size", "16", "--out", str(tmp_path / "out"), "--processes", "1"]
    assert invoke(cli, command) == 0
    told = capsys.readouterr()
    assert "\nimages         6 in 6 shards\n" in told.out and " per image)" in told.out
    assert "6/6 images" in told.err and "pair" not in told.out + told.err


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_processes(photos, tmp_path):
    one = build(photos, tmp_path / "one", size="16", shard_size="2").manifest
    two = build(photos, tmp_path / "two", size="16", shard_size="2", processes=2).manifest
    assert one.id == two.id
    assert [shard.sha256 for shard in one.shards] == [shard.sha256 for shard in two.shards]


def test_other_images_in_the_same_folder_are_refused(photos, tmp_path, capsys):
    command = ["from-folder", str(photos), "--size", "16", "--out", str(tmp_path / "out"), "--processes", "1"]
    assert invoke(cli, command) == 0
    assert invoke(cli, command) == 0
    assert "nothing to do" in capsys.readouterr().out
    Image.new("RGB", (30, 20)).save(photos / "train/cat/3.png")
    assert invoke(cli, command) == 1
    assert "holds another dataset (num_pairs 6 there, 7 asked for" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["nowhere"], 1, "nowhere: neither a folder nor one of"),
        ([".", "--size", "0"], 1, "--size '0': wanted pixels"),
        ([".", "--size", "10x"], 1, "--size '10x'"),
        (["."], 1, "no images"),
        ([".", "--crop", "left"], 2, "--crop"),
    ],
)
def test_bad_input_ends_in_one_line(tmp_path, monkeypatch, capsys, options, status, words):
    monkeypatch.chdir(tmp_path)
    assert invoke(cli, ["from-folder", *options, "--out", "out"]) == status
    message = capsys.readouterr().err
    assert words in message
    assert message.count("\n") == 1


@pytest.mark.slow
def test_imagenet100_is_a_folder_or_the_papers_part_of_imagenet(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lines = (files("genrep.images") / "imagenet100.txt").read_text().splitlines()
    ids = sorted(line.split("\t")[1] for line in lines)
    for k, name in enumerate(["n00000001", *ids]):
        (tmp_path / "imagenet/train" / name).mkdir(parents=True)
        Image.new("RGB", (20, 16), (k, k, k)).save(tmp_path / "imagenet/train" / name / "1.png")
    command = ["from-folder", "imagenet100", "--size", "8", "--processes", "1", "--out"]
    assert invoke(cli, [*command, "none"]) == 1
    assert "dataset imagenet100: give the folder that holds it as --root" in capsys.readouterr().err
    assert invoke(cli, [*command, "part", "--root", "."]) == 0
    dataset = datasets_manifest.open(tmp_path / "part")
    assert dataset.manifest.classes == ids
    assert [(pair["label"], int(pair["anchor"][0, 0, 0])) for pair in dataset] == [(k, k + 1) for k in range(100)]
    # The same images in a folder of their own are the same dataset, by name or by path.
    shutil.copytree("imagenet", "imagenet100", ignore=lambda *_: ["n00000001"])
    assert invoke(cli, [*command, "copy", "--root", "."]) == 0
    assert invoke(cli, [*command, "path"]) == 0
    assert len({datasets_manifest.read_manifest(tmp_path / name).id for name in ("part", "copy", "path")}) == 1
    shutil.rmtree(tmp_path / "imagenet100")
    shutil.rmtree(tmp_path / "imagenet/train" / ids[7])
    assert invoke(cli, [*command, "less", "--root", "."]) == 1
    assert f"train: no folder of 1 of 100 classes, e.g. {ids[7]}" in capsys.readouterr().err
    assert invoke(cli, [*command, "less", "--root", "nowhere"]) == 1
    assert "dataset imagenet100: not found as nowhere/imagenet100/train/" in capsys.readouterr().err


def test_a_folder_with_other_things_is_left_alone(photos, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("mine")
    assert invoke(cli, ["from-folder", str(photos), "--size", "16", "--out", str(tmp_path / "out")]) == 1
    assert "is neither empty nor a genrep dataset (found thesis.tex)" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_killed_and_run_again_it_is_the_same_dataset(tmp_path):
    (tmp_path / "many").mkdir()
    rng = np.random.default_rng(1)
    for k in range(60):
        Image.fromarray(rng.integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(tmp_path / f"many/{k:02}.png")
    options = ["many", "--size", "100", "--shard-size", "4", "--processes", "1"]
    command = [sys.executable, "-m", "genrep.generate", "from-folder", *options, "--out", "out"]
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    while not list((tmp_path / "out").glob("shard-*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    build(tmp_path / "many", tmp_path / "whole", size="100", shard_size="4")
    build(tmp_path / "many", tmp_path / "out", size="100", shard_size="4")
    digests = [
        [shard.sha256 for shard in datasets_manifest.read_manifest(tmp_path / name).shards] for name in ("out", "whole")
    ]
    assert digests[0] == digests[1]
    assert not list((tmp_path / "out").glob(".*"))
