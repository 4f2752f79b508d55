"""The model folder as a generator: a run's own, and the one that ships."""

import json
from dataclasses import replace
from importlib import resources

import pytest
import torch
from diffusers import UNet2DModel, UniPCMultistepScheduler

from genrep.cli import invoke
from genrep.datasets_manifest import read_manifest
from genrep.files import sha256_file
from genrep.generate.cli import cli
from genrep.generate.diffusion.export import make_scheduler
from genrep.generate.diffusion.sample import make_sampler
from genrep.generate.diffusion.trainer import fit_diffusion
from genrep.generate.weights.cache import describe_folder
from genrep.generate.weights.load import load_generator

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def run(config, data):
    """The folder of a run on other data than the package's."""
    return fit_diffusion(config(total_images=16), replace(data(), name="buttons", licence="CC BY 4.0"))


@pytest.mark.slow
def test_the_sheets_are_sampled_as_the_folder_is(run):
    """And both as the library's own network and scheduler do, with guidance written out."""
    unet = UNet2DModel.from_pretrained(run / "unet", use_safetensors=True, torch_dtype=torch.float32).eval()
    z = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.tensor([0, 1, 0, 1])
    scheduler = UniPCMultistepScheduler.from_pretrained(run / "scheduler")
    scheduler.set_timesteps(4)
    x = z
    with torch.no_grad():
        for t in scheduler.timesteps:
            told, untold = unet(x, t, y).sample, unet(x, t, torch.full_like(y, 2)).sample
            x = scheduler.step(untold + 1.5 * (told - untold), t, x).prev_sample
        loaded = load_generator(weights=run, steps=4, guidance=1.5).synthesize(z, y)
        sheets = make_sampler(unet, make_scheduler(), null_class=True, guidance=1.5, steps=4).synthesize(z, y)
    assert loaded.shape == (4, 3, 8, 8)
    for made in (loaded, sheets):
        torch.testing.assert_close(made, x.expand(-1, 3, -1, -1), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_dataset_of_ones_own_run_tells_of_it(run, tmp_path, capsys):
    command = ["dataset", "--gen", "diffusers", "--weights", str(run), "--steps", "2", "--num-pairs", "4"]
    assert invoke(cli, [*command, "--processes", "1", "--device", "cpu", "--out", str(tmp_path / "set")]) == 0
    manifest = read_manifest(tmp_path / "set")
    weights = manifest.build["weights"]
    assert (weights["name"], weights["data"], weights["licence"]) == ("flow-buttons", "buttons", "CC BY 4.0")
    assert weights["source"] == "genrep-generate fit-diffusion on buttons"
    assert manifest.build["licence"] == "CC BY 4.0" and manifest.classes == ["even", "odd"]


@pytest.mark.slow
def test_facts_of_other_weights_are_not_believed(run):
    assert describe_folder(run)["licence"] == "CC BY 4.0"
    facts = json.loads((run / "generator.json").read_text())
    for text in (json.dumps({**facts, "sha256": "0" * 64}), "[]", "{"):
        (run / "generator.json").write_text(text)
        assert describe_folder(run) == {"source": "a local folder", "licence": "unknown"}
    (run / WEIGHTS).unlink()
    assert describe_folder(run) == {"source": "a local folder", "licence": "unknown"}


def test_the_one_that_ships_is_what_its_record_says():
    folder = resources.files("genrep.generate.weights")
    path = folder / "flow_fashion_cond" / WEIGHTS
    facts = json.loads((folder / "flow_fashion_cond.json").read_text())
    assert facts["sha256"] == sha256_file(path) and path.stat().st_size <= 8_000_000
    generator = load_generator("flow_fashion_cond")
    assert (generator.num_classes, generator.image_shape, generator.latent.shape) == (10, (32, 32), (1, 32, 32))
    assert sum(value.numel() for value in generator.networks.parameters()) == facts["parameters"]
    z = torch.randn(10, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        images = generator.synthesize(z, torch.arange(10))
    assert images.shape == (10, 3, 32, 32) and torch.equal(images[:, 0], images[:, 2])
    assert -1.5 < float(images.min()) < -0.9 and 0.5 < float(images.max()) < 1.5
    frame = torch.ones(32, 32, dtype=torch.bool)
    frame[2:30, 2:30] = False
    assert float(images[:, :, frame].mean()) == pytest.approx(-1, abs=0.05)  # 28 pixels, padded
