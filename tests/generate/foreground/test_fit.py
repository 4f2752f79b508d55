"""What fit-foreground finds: components, threshold, sign, and the discs that it is shown."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from genrep.cli import invoke
from genrep.errors import ConfigError, DataError, WeightsError
from genrep.generate.cli import cli
from genrep.generate.fits.config import ForegroundConfig
from genrep.generate.fits.foreground import fit_foreground, is_central, otsu
from genrep.generate.views.foreground_network import Foreground, load_foreground

from .conftest import DARK, save_discs, save_local
from .loops import Loops

pytestmark = pytest.mark.slow
PATCH = 8  # pixels


def images_of(config):
    return [np.array(Image.open(path)) for path in sorted((config.out.parent / "discs").iterdir())]


def test_the_ratio_of_a_disc_is_its_area_to_within_a_ring_of_patches(fitted):
    config, _, radii = fitted
    loops = Loops(config.out)
    y, x = np.mgrid[:4, :4] * PATCH - 15.5
    distance = np.sqrt(y**2 + x**2)  # from the image's centre: strides begin at a patch's first pixel
    ratios = [loops.ratio(image) for image in images_of(config)]
    for ratio, radius in zip(ratios, radii):
        assert (distance < radius - PATCH).mean() <= ratio <= (distance < radius + PATCH).mean()
    areas = np.pi * radii**2 / 32**2
    assert np.corrcoef(ratios, areas)[0, 1] > 0.9 and np.abs(ratios - areas).max() < 0.2


def test_the_direction_is_the_first_principal_component_of_all_patches(fitted):
    config, result, _ = fitted
    loops = Loops(config.out)
    rows = np.concatenate([loops.features(image) for image in images_of(config)])
    _, lengths, directions = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    assert np.abs(loops.mean - rows.mean(axis=0)).max() < 1e-5
    assert abs(abs(loops.direction @ directions[0]) - 1) < 1e-6
    assert abs(result.explained - lengths[0] ** 2 / (lengths**2).sum()) < 1e-6
    values = np.array([loops.projections(image) for image in images_of(config)])
    assert abs(result.threshold - otsu(values)) < 1e-4
    assert is_central(values.reshape(-1, 4, 4), result.threshold)
    levels = [loops.level(image) for image in images_of(config)]
    assert result.ratio == [levels.count(level) for level in (0, 100, 200, 300, 400)]


def test_the_same_fit_gives_the_same_bytes(fitted, tmp_path):
    config, result, _ = fitted
    again = fit_foreground(replace(config, out=tmp_path / "new/fg.safetensors"))
    assert again.path.read_bytes() == result.path.read_bytes() and again.sheet.exists()
    other = fit_foreground(replace(config, out=tmp_path / "fg.safetensors", num_images=5, seed=3))
    assert other.images == 5 and other.path.read_bytes() != result.path.read_bytes()


def test_dark_discs_are_foreground_too(fitted, tmp_path):
    config, _, _ = fitted
    save_discs(tmp_path / "discs", 6, turned=True)
    encoder = save_local(tmp_path / "encoder.safetensors", 1 - DARK)
    out = tmp_path / "fg.safetensors"
    fit_foreground(replace(config, data=str(tmp_path / "discs"), encoder=str(encoder), out=out))
    foreground = Foreground(load_foreground(out), torch.device("cpu"))
    files = sorted((tmp_path / "discs").iterdir())
    ratios = foreground.ratios(torch.from_numpy(np.stack([np.array(Image.open(path)) for path in files]))).tolist()
    assert ratios[0] == 1 / 16 and ratios[-1] == 9 / 16 and ratios == sorted(ratios)


def test_otsus_cut_is_that_of_the_loop_over_all_cuts():
    random = np.random.RandomState(1)
    values = np.concatenate([random.normal(0, 1, 40), random.normal(5, 0.5, 13)]).round(2)
    ordered = sorted(values)
    best, cut = -1.0, 0.0
    for i in range(1, len(ordered)):
        if ordered[i] == ordered[i - 1]:
            continue
        low, high = ordered[:i], ordered[i:]
        between = len(low) * len(high) * (np.mean(high) - np.mean(low)) ** 2
        if between > best:
            best, cut = between, (ordered[i - 1] + ordered[i]) / 2
    assert otsu(values.reshape(53, 1, 1)) == pytest.approx(cut, abs=1e-12)
    assert 2 < cut < 4


def test_a_threshold_may_be_given(fitted, tmp_path):
    config, result, _ = fitted
    given = fit_foreground(replace(config, out=tmp_path / "fg.safetensors", threshold="-1e9"))
    assert given.threshold == -1e9 and given.ratio == [0, 0, 0, 0, 12]
    assert load_foreground(given.path).direction.equal(load_foreground(result.path).direction)


def test_the_file_says_how_it_came_to_be(fitted):
    config, _, _ = fitted
    with safe_open(config.out, "pt") as file:
        told = file.metadata()
    assert told["genrep"] == "foreground/1" and (told["arch"], told["stem"]) == ("resnet18", "cifar")
    assert (told["data"], told["images"], told["encoder"]) == ("discs", "12", "encoder.safetensors")
    assert "licence" in told["notes"] and str(config.out.parent) not in json.dumps(told)


def test_images_that_cannot_be_read_are_left_out_and_counted(fitted, tmp_path, capsys):
    config, _, _ = fitted
    save_discs(tmp_path / "discs", 6)
    (tmp_path / "discs/03.png").write_bytes(b"no picture")
    arguments = ["fit-foreground", "--data", str(tmp_path / "discs"), "--encoder", config.encoder]
    status = invoke(cli, [*arguments, "--out", str(tmp_path / "fg.safetensors"), "--json"])
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert status == 0 and told["images"] == 5 and told["unreadable"] == 1
    assert "1 images cannot be read" in err and "03.png" in err
    assert set(told["ratio"]) == {"[0, .2)", "[.2, .4)", "[.4, .6)", "[.6, .8)", "[.8, 1]"}
    assert sum(told["ratio"].values()) == 5
    invoke(cli, [*arguments, "--out", str(tmp_path / "fg.safetensors")])
    assert "[.2, .4)" in capsys.readouterr().out
    with Image.open(tmp_path / "fg.png") as sheet:
        assert sheet.width > 400


@pytest.mark.parametrize(
    ("changes", "error", "line"),
    [
        ({"size": 16}, WeightsError, "16 pixels give 2x2 patches, wanted at least 3x3; give size 17 or more"),
        ({"data": "nowhere"}, DataError, "nowhere: neither a folder nor one of"),
        ({"encoder": "nowhere.pth"}, WeightsError, "nowhere.pth: no such encoder"),
        ({"encoder": "torch.nn:Identity"}, WeightsError, "torch.nn:Identity"),
    ],
)
def test_what_cannot_be_fitted_is_said_in_one_line(fitted, tmp_path, changes, error, line):
    with pytest.raises(error) as caught:
        fit_foreground(replace(fitted[0], out=tmp_path / "fg.safetensors", **changes))
    assert line in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "fg.safetensors").exists()


def test_images_of_nothing_are_refused(fitted, tmp_path):
    (tmp_path / "black").mkdir()
    for i in range(3):
        Image.new("RGB", (32, 32)).save(tmp_path / f"black/{i}.png")
    encoder = save_local(tmp_path / "encoder.safetensors", 0.0)
    config = replace(fitted[0], data=str(tmp_path / "black"), encoder=str(encoder), out=tmp_path / "fg.safetensors")
    with pytest.raises(DataError, match="all patches of the images are alike"):
        fit_foreground(config)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"out": "fg.pt"}, "out fg.pt: wanted a name that ends in .safetensors"),
        ({"threshold": "nan"}, "threshold 'nan': wanted auto or a number"),
        ({"threshold": "much"}, "threshold 'much': wanted auto or a number"),
        ({"size": 2000}, "size 2000: "),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes, line):
    with pytest.raises(ConfigError) as caught:
        ForegroundConfig(**{"data": "x", "encoder": "y", "out": "fg.safetensors", **changes})
    assert str(caught.value).startswith(line)
