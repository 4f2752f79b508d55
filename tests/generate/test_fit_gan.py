"""GAN training on a toy set: equations, resume, files."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.cli import invoke
from genrep.datasets_manifest import read_manifest
from genrep.errors import ResumeError, TrainingError, WeightsError
from genrep.files import sha256_file
from genrep.generate.cli import cli
from genrep.generate.gan.config import FitGanConfig
from genrep.generate.gan.discriminator import Discriminator, adjust_probability, augment, minibatch_stddev
from genrep.generate.gan.model import Gan
from genrep.generate.gan.real import RealImages
from genrep.generate.gan.trainer import SHEET_COLUMNS, SHEET_ROWS, fit_gan
from genrep.generate.weights.cache import describe
from genrep.generate.weights.load import load_generator
from genrep.images.labelled import LabelledImages
from genrep.papers.report.rows import DataFacts


def toy_data(gray=True):
    generator = np.random.default_rng(0)
    levels = generator.integers(0, 255, size=(64, 1, 1, 1 if gray else 3))
    images = np.broadcast_to(levels, (64, 8, 8, 3)).astype(np.uint8)
    return LabelledImages("toy", np.arange(64) % 2, ("even", "odd"), pixels=images, licence="MIT")


def config(out, **changes):
    settings = {"channel_base": 64, "channel_max": 8, "z_dim": 8, "w_dim": 8, "batch_size": 8, "total_images": 64}
    return FitGanConfig(
        data="toy", out=out, **{**settings, "device": "cpu", "precision": "fp32", "snapshot_images": 32, **changes}
    )


def gan(settings, data):
    return Gan(settings, RealImages(settings, data))


def test_training_leaves_weights_facts_samples_and_losses(tmp_path):
    path = fit_gan(config(tmp_path / "run", classes=True), toy_data())
    generator = load_generator(weights=path)
    assert (generator.num_classes, generator.image_shape) == (2, (8, 8))
    facts = json.loads((tmp_path / "run/generator.json").read_text())
    assert facts["training"]["images_seen"] == 64
    assert facts["training"]["data_licence"] == "MIT"
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["images"] for row in rows][:2] == [32, 64]
    with Image.open(tmp_path / "run/samples-000000032.png") as sheet:
        assert sheet.width > SHEET_COLUMNS * 96 and sheet.height > SHEET_ROWS * 96  # 8 x 8 pixels, 12 times


@pytest.mark.filterwarnings("ignore:The distutils package is deprecated:DeprecationWarning")
@pytest.mark.parametrize("which", ["run", "run/generator.safetensors"])
def test_a_dataset_of_ones_own_gan_tells_of_it_and_not_of_the_recipe(tmp_path, which):
    data = replace(toy_data(), name="buttons", licence="CC BY 4.0")
    fit_gan(config(tmp_path / "run", classes=True, total_images=8), data)
    options = ["--num-pairs", "4", "--processes", "1", "--device", "cpu", "--out", str(tmp_path / "set")]
    gen = ["--gen", "stylegan2_fashion_cond", "--weights", str(tmp_path / which)]
    assert invoke(cli, ["dataset", *gen, *options]) == 0
    manifest = read_manifest(tmp_path / "set")
    weights = manifest.build["weights"]
    assert (weights["name"], weights["data"], weights["licence"]) == ("stylegan2-buttons", "buttons", "CC BY 4.0")
    assert manifest.build["licence"] == "CC BY 4.0" and manifest.classes == ["even", "odd"]
    assert manifest.recipe["generator"]["name"] == "stylegan2_fashion_cond"  # that rebuilds it, with --weights
    card = (tmp_path / "set/README.md").read_text()
    assert "cc-by-4.0" in card and "stylegan2-buttons" in card and "| trained on | `buttons` |" in card
    assert "MIT" not in card and "Fashion" not in card and "not recorded here" not in card
    facts = DataFacts(folder="set", recipe=manifest.recipe, build=manifest.build)
    assert facts.what.startswith("stylegan2-buttons, ")


def test_facts_of_other_weights_are_not_believed(tmp_path):
    path = fit_gan(config(tmp_path / "run", total_images=8), toy_data())
    assert describe(path)["licence"] == "MIT"
    for text in (json.dumps({"sha256": "0" * 64, "training": {"data": "x"}}), "[]", "{", '{"sha256": 1}'):
        (tmp_path / "run/generator.json").write_text(text)
        assert describe(path)["licence"] == "unknown"
    old = {"sha256": sha256_file(path), "family": "stylegan2", "training": {"data": "toy", "data_licence": "MIT"}}
    (tmp_path / "run/generator.json").write_text(json.dumps(old))  # as written before it had a name
    assert describe(path)["name"] == "stylegan2-toy"


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    whole, parts = config(tmp_path / "whole"), config(tmp_path / "parts", total_images=32)
    fit_gan(whole, toy_data())
    fit_gan(parts, toy_data())
    fit_gan(config(tmp_path / "parts"), toy_data())
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["trainer"] for name in ("whole", "parts")
    ]
    for name in ("generator", "average", "discriminator"):
        for key, value in states[0][name].items():
            assert torch.equal(value, states[1][name][key]), key
    with pytest.raises(ResumeError, match=r"lr 0\.0025 there, 0\.1 asked for"):
        fit_gan(config(tmp_path / "parts", lr=0.1), toy_data())


@pytest.mark.slow
@pytest.mark.parametrize("part", [0, 0.001, 0.5, 0.98, 1 - 1e-5])
def test_a_cut_checkpoint_is_named_with_the_way_out(tmp_path, part):
    path = fit_gan(config(tmp_path), toy_data()).parent / "checkpoint.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read \(.+\); remove it to start over") as caught:
        fit_gan(config(tmp_path), toy_data())
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"^init .*checkpoint\.pt: not a checkpoint of fit-gan"):
        fit_gan(config(tmp_path / "other", init=path), toy_data())


def test_a_run_that_diverges_leaves_nothing_broken(tmp_path):
    with pytest.raises(TrainingError, match=r"^out .*image .*: this training has diverged; try a lower lr"):
        fit_gan(config(tmp_path, lr=1e30), toy_data())
    assert not (tmp_path / "generator.safetensors").exists()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_a_conditional_network_starts_from_an_unconditional_one(tmp_path):
    fit_gan(config(tmp_path / "plain"), toy_data())
    plain = torch.load(tmp_path / "plain/checkpoint.pt", weights_only=True)["trainer"]["generator"]
    model = gan(config(tmp_path / "cond", classes=True, init=tmp_path / "plain/checkpoint.pt"), toy_data())
    ours = model.generator.state_dict()
    assert torch.equal(ours["synthesis.b8.conv0.weight"], plain["synthesis.b8.conv0.weight"])
    assert ours["mapping.fc0.weight"].shape != plain["mapping.fc0.weight"].shape
    model.train_step()
    with pytest.raises(WeightsError, match=r"^init .*toygan\.pt: not a checkpoint of fit-gan"):
        (tmp_path / "toygan.pt").write_text("hello")
        gan(config(tmp_path / "cond", init=tmp_path / "toygan.pt"), toy_data())


def test_each_real_image_is_shown_once_an_epoch(tmp_path):
    real = RealImages(config(tmp_path), toy_data())
    real.images.pixels = torch.arange(64).view(64, 1, 1, 1).float()
    shown = []
    for step in range(8):
        images, _ = real.batch(step)
        shown += ((images.flatten() + 1) * 127.5).round().int().tolist()
    assert sorted(shown) == list(range(64))
    assert shown != list(range(64))


def test_r1_is_the_squared_gradient_of_the_logit(tmp_path):
    model = gan(config(tmp_path, r1_gamma=3.0, r1_interval=1), toy_data())
    captured = []
    model._apply = lambda name, loss: captured.append((name, float(loss.detach())))
    real = torch.randn(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model._regularise(real, None)
    step, expected = 1e-3, 0.0
    base = real.double()
    model.discriminator.double().dtype = torch.float64
    for pixel in np.ndindex(1, 8, 8):  # finite differences for the first image
        moved = [base.clone(), base.clone()]
        for sign, images in zip((1, -1), moved):
            images[(0, *pixel)] += sign * step
        with torch.no_grad():
            high, low = (model.discriminator(images).sum() for images in moved)
        expected += float((high - low) / (2 * step)) ** 2
    real64 = base.requires_grad_(True)
    (gradient,) = torch.autograd.grad(model.discriminator(real64).sum(), real64)
    assert float(gradient[0].square().sum()) == pytest.approx(expected, rel=2e-2)  # parts of D compute in float32
    mean = float(gradient.square().sum(dim=(1, 2, 3)).mean())
    assert captured == [("discriminator", pytest.approx(3.0 / 2 * mean, rel=1e-3))]


def test_minibatch_stddev_is_the_mean_deviation_within_groups():
    x = torch.randn(8, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    y = minibatch_stddev(x, 4)
    assert y.shape == (8, 3, 3, 3)
    for sample in range(8):
        group = x[sample % 2 :: 2].numpy()
        expected = np.sqrt(group.var(axis=0) + 1e-8).mean()
        assert float(y[sample, 2, 0, 0]) == pytest.approx(expected, rel=1e-5)


def test_a_conditional_discriminator_judges_the_class():
    torch.manual_seed(0)
    network = Discriminator(resolution=8, channels=(8, 8), img_channels=3, c_dim=4)
    image, classes = torch.randn(4, 3, 8, 8), torch.eye(4)
    logits = network(image[:1].expand(4, -1, -1, -1), classes)
    assert logits.shape == (4,)
    assert len(set(logits.tolist())) == 4


def test_the_ema_half_life_is_what_it_says(tmp_path):
    model = gan(config(tmp_path, ema_halflife=80, ema_rampup=1.0), toy_data())
    model.step = 1000
    for parameter in model.generator.parameters():
        parameter.data.fill_(1.0)
    for parameter in model.average.parameters():
        parameter.data.fill_(0.0)
    for _ in range(10):  # 80 images
        model.update_average()
    for parameter in model.average.parameters():
        torch.testing.assert_close(parameter, torch.full_like(parameter, 0.5))


def test_colour_images_train_a_colour_network(tmp_path):
    assert gan(config(tmp_path), toy_data(gray=False)).generator.config.img_channels == 3


def test_augmentation_keeps_the_image_at_p_zero_and_moves_p_towards_the_target():
    images = torch.rand(4, 1, 8, 8)
    assert augment(images, 0.0) is images
    changed = augment(images, 1.0)
    assert changed.shape == images.shape and not torch.equal(changed, images)
    assert adjust_probability(0.5, mean_sign=0.9, images=5000) == pytest.approx(0.51)
    assert adjust_probability(0.5, mean_sign=0.1, images=5000) == pytest.approx(0.49)
    assert adjust_probability(0.0, mean_sign=0.1, images=5000) == 0.0


def test_a_training_does_not_go_on_with_other_images_of_the_same_name(tmp_path):
    fit_gan(config(tmp_path / "run", total_images=8), toy_data())
    other = replace(toy_data(), pixels=255 - toy_data().images)
    with pytest.raises(ResumeError, match="data_sha256 "):
        fit_gan(config(tmp_path / "run", total_images=16), other)
