"""Whole runs: what they learn and leave, going on after a kill, and faults in one line."""

import json
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.cli import invoke
from genrep.errors import DataError, RecipeError, ResumeError, TrainingError
from genrep.generate.commands.fits import fit_filter_command
from genrep.generate.fits.config import FilterConfig
from genrep.generate.fits.filtering import FilterTrainer, fit_filter
from genrep.generate.fits.filtering_data import InFiles, auc
from genrep.generate.sources.filtered import FilteredSource
from genrep.generate.views.filter_network import load_filter
from genrep.generate.views.filters import FilterSpec
from genrep.images import labelled as real_images
from genrep.images.labelled import LabelledImages, load_folder
from genrep.images.listing import list_images
from genrep.look.sheets import GAP, LINE, MARGIN, TILE
from genrep.runs.metrics import read_lines

from .conftest import opener

TIMES = ("seconds", "fraction_G", "fraction_D", "images_per_s")


def metrics(run):
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_lines(run / "metrics.jsonl")]


@pytest.mark.slow
def test_a_filter_tells_two_kinds_of_images_apart_and_keeps_the_kind_that_is_like_the_real_ones(config):
    result = fit_filter(config(images=3000))
    facts = json.loads((config().out / "filter.json").read_text())
    held_out = facts["held_out"]
    # Half of the generated images are as good as real, so no better accuracy than 3/4 is to be had.
    assert held_out["images"] == 30
    assert held_out["accuracy"] > 0.6
    assert held_out["score_rejected"]["mean"] < 0.1 < 0.3 < held_out["score_kept"]["mean"] < 0.9
    source = opener("filtergen:halves", batch_size=64)()
    through = FilteredSource(source, FilterSpec(keep=0.5, weights=result.path).open(torch.device("cpu")))
    kept = np.concatenate([batch.latents[0] for batch in through.batches(0, 320)])
    unfiltered = source.latent.sample(0, np.arange(320))
    assert abs((unfiltered[:, 0] > 0).mean() - 0.5) < 0.1
    assert (kept[:, 0] > 0).mean() > 0.9


def test_a_run_leaves_a_filter_metrics_a_picture_and_facts(config):
    result = fit_filter(config())
    loaded = load_filter(config().out)
    assert (loaded.scorer.height, loaded.scorer.width) == (8, 8)
    assert (loaded.facts.gen, loaded.facts.data, loaded.facts.images) == ("filtergen:halves", "real", "96")
    assert [line["images"] for line in metrics(config().out)] == [32, 64, 96]
    for line in read_lines(config().out / "metrics.jsonl"):
        assert 0 < line["loss"] < 3
        assert 0 <= line["accuracy_real"] <= 1
        assert 0 < line["score_generated"] < 1
        assert 0 < line["fraction_G"] + line["fraction_D"] <= 1
    with Image.open(result.sheet) as sheet:
        assert sheet.width == 2 * MARGIN + 8 * (TILE + GAP) - GAP  # eight side by side, 8 x 8 pixels 12 times
        assert sheet.height == MARGIN + 2 * (LINE + GAP + 2 * (TILE + GAP) - GAP + 1 + MARGIN)  # two bands of 15
    facts = json.loads((config().out / "filter.json").read_text())
    assert (facts["images"], facts["data"]["images"], facts["settings"]["lr"]) == (96, 300, 1e-3)
    assert facts["device"] == "cpu"
    assert result.held_out == facts["held_out"]
    assert not list(config().out.glob(".*"))


def test_one_epoch_shows_each_image_once_but_for_those_held_out(config):
    assert fit_filter(config(images=None, batch_size=27)).images == 270


def test_a_killed_run_goes_on_as_if_it_had_not_stopped(config, folder, monkeypatch):
    changes = {"gen": "toygen:conditional", "log_every": 4}
    fit_filter(config(out=folder / "whole", **changes))
    step, train_step = [0], FilterTrainer.train_step

    def killed_in_the_fourth(trainer):
        step[0] += 1
        if step[0] == 4:
            raise KeyboardInterrupt
        return train_step(trainer)

    monkeypatch.setattr(FilterTrainer, "train_step", killed_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        fit_filter(config(out=folder / "parts", **changes))
    assert not (folder / "parts/filter.safetensors").exists()
    step[0] = 10
    torch.rand(5)  # the caller's stream has no part in it
    fit_filter(config(out=folder / "parts", **changes))
    for name in ("filter.safetensors", "extremes.png"):
        assert (folder / "whole" / name).read_bytes() == (folder / "parts" / name).read_bytes(), name
    assert metrics(folder / "whole") == metrics(folder / "parts")


def test_a_finished_run_is_left_as_it_is_and_can_be_lengthened(config):
    first = fit_filter(config(images=32))
    before = first.path.read_bytes()
    assert fit_filter(config(images=32)).images == 32
    assert first.path.read_bytes() == before
    assert fit_filter(config(images=48)).images == 48
    assert first.path.read_bytes() != before


def test_a_folder_with_another_run_is_refused_naming_what_differs(config, real_folder):
    fit_filter(config(images=16))
    with pytest.raises(ResumeError, match=r"holds another run \(lr 0\.001 there, 0\.1 asked for\)"):
        fit_filter(config(images=16, lr=0.1))
    (real_folder / "000.png").unlink()
    with pytest.raises(ResumeError, match=r"holds another run \(data '"):
        fit_filter(config(images=16))
    (config().out / "checkpoint.pt").write_bytes(b"hello")
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read .*remove it to start over"):
        fit_filter(config(images=16))


def test_a_loss_that_is_not_finite_ends_the_run_and_spoils_no_checkpoint(config):
    with pytest.raises(TrainingError, match=r"^out .*: at step \d+ .*: this training has diverged; try a lower lr"):
        fit_filter(config(lr=1e30))
    assert not (config().out / "checkpoint.pt").exists()


def test_the_area_under_the_curve_counts_pairs():
    higher, lower = np.array([0.1, 0.7, 0.7]), np.array([0.7, 0.2])
    wins = [1.0 if a > b else 0.5 if a == b else 0.0 for a in higher for b in lower]
    assert auc(higher, lower) == pytest.approx(np.mean(wins))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"data": "nowhere"}, DataError, r"^nowhere: neither a folder nor one of cifar10, .*mnist$"),
        ({"gen": "nowhere:nothing"}, RecipeError, r"^gen nowhere:nothing: cannot import it"),
        ({"data": "fashion_mnist"}, DataError, r"dataset fashion_mnist: give the folder that holds it"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(config, changes, error, line):
    with pytest.raises(error, match=line):
        fit_filter(config(**changes))


def test_real_images_of_another_shape_and_too_few_are_refused(config, monkeypatch, folder):
    from genrep.generate.fits import filtering_data as data

    with pytest.raises(DataError, match=r"real/\d+\.png: 8x8 pixels, wanted 8x12 as of filtergen:wide"):
        fit_filter(config(gen="filtergen:wide"))
    images = np.zeros((20, 16, 16, 3), dtype=np.uint8)
    named = LabelledImages("mnist", np.zeros(20, dtype=np.int64), (), pixels=images)
    monkeypatch.setattr(data, "load_images", lambda *args, **options: named)
    with pytest.raises(DataError, match=r"images of 16x16 pixels, wanted those of filtergen:halves, 8x8"):
        fit_filter(config(data="mnist"))
    for path in sorted((folder / "real").iterdir())[9:]:
        path.unlink()
    with pytest.raises(DataError, match=r"9 images, wanted at least 10"):
        fit_filter(config())


def test_of_a_folder_only_the_images_are_decoded_that_are_shown(config, monkeypatch):
    decoded, read_rgb = [], real_images.read_rgb
    monkeypatch.setattr(real_images, "read_rgb", lambda path: decoded.append(str(path)) or read_rgb(path))
    fit_filter(config(images=32))
    held_out = 300 // 10
    assert len(decoded) == len(set(decoded)) == 32 + held_out


def test_images_of_files_are_those_of_the_folder_in_memory(folder):
    rng = np.random.default_rng(0)
    for name in ("b/2.png", "b/10.jpg", "a/1.png", "a/0.PNG", "c/x.png"):
        (folder / "photos/train" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (20, 31, 3), dtype=np.uint8)).save(folder / "photos/train" / name)
    listed = InFiles(list_images(folder / "photos", "train"), (16, 16), "a generator")
    whole = load_folder(folder / "photos", "train", 16)
    rows = np.array([3, 0, 4, 0])
    assert len(listed) == len(whole.images) == 5
    assert np.array_equal(listed.read(rows), whole.images[rows])
    listed.expect(rows)
    assert np.array_equal(listed.read(rows[:2]), whole.images[rows[:2]])  # expected or not
    listed.expect(rows)
    assert np.array_equal(listed.read(rows), whole.images[rows])


@pytest.mark.slow
def test_the_data_may_be_the_hundred_classes_of_imagenet(config, folder):
    lines = (files("genrep.images") / "imagenet100.txt").read_text().splitlines()
    ids = [line.split("\t")[1] for line in lines]
    for name in [*ids, "n09999999"]:
        (folder / "imagenet/train" / name).mkdir(parents=True)
        Image.new("RGB", (9, 8)).save(folder / "imagenet/train" / name / "1.JPEG")
    fit_filter(config(data="imagenet100", root=folder, images=16))
    facts = json.loads((config().out / "filter.json").read_text())
    assert (facts["data"]["name"], facts["data"]["images"]) == ("imagenet100", 100)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"images": 0}, r"images 0: wanted at least 1"),
        ({"batch_size": 0}, r"batch_size 0: wanted at least 1"),
        ({"lr": float("nan")}, r"lr nan: wanted a positive number"),
        ({"truncation": -1.0}, r"truncation -1\.0: wanted a positive number"),
        ({"seed": 1 << 63}, r"seed \d+: wanted 0 to 2\^63 - 1"),
    ],
)
def test_a_setting_that_cannot_be_is_named(tmp_path, wrong, line):
    with pytest.raises(ValueError, match="^" + line):
        FilterConfig(gen="bigbigan", data="x", out=tmp_path, **wrong)


def test_the_command_fits_prints_its_settings_and_ends_in_one_line(config, real_folder, capsys):
    options = ["--gen", "filtergen:halves", "--data", str(real_folder), "--device", "cpu", "--out", "run"]
    assert invoke(fit_filter_command, [*options, "--dry-run", "--lr", "0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["lr"] == 0.5
    assert invoke(fit_filter_command, [*options, "--images", "32", "--batch-size", "16"]) == 0
    assert "held out       accuracy" in capsys.readouterr().out
    assert invoke(fit_filter_command, [*options, "--lr", "-1"]) == 2
    assert invoke(fit_filter_command, [*options, "--data", "nowhere"]) == 1
    errors = capsys.readouterr().err
    assert errors.count("\n") == 2
    assert "Traceback" not in errors
