"""Datasets of real pipelines, by the whole way: batches of any size, noise in the steps, prompts, real anchors."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from PIL import Image
from pipeline_checks import shown
from tiny_pipelines import write_pixels, write_stable_diffusion, write_unclip

from genrep import datasets_manifest
from genrep.generate import BuildConfig, build_dataset, load_generator
from genrep.seeding import ANCHOR, StepNoise

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]


def build(out, weights, **options):
    settings = {"num_pairs": 5, "shard_size": "3", "device": "cpu", "processes": 1, "seed": 3, "encoding": "raw"}
    build_dataset(BuildConfig(gen="diffusers", weights=weights, out=out, **{**settings, **options}))
    return datasets_manifest.open(out)


def test_pairs_are_those_of_seed_and_index_in_any_batch(written, tmp_path):
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=50)
    folder, _ = written(write_pixels, pipeline="DDPMPipeline", scheduler=scheduler)
    one = build(tmp_path / "one", folder, steps=3, batch_size=1, views="angular:std=.2")
    many = build(tmp_path / "many", folder, steps=3, batch_size=4, views="angular:std=.2")
    assert one.manifest.id == many.manifest.id
    generator = load_generator(weights=folder, steps=3)
    for index in range(5):
        first, second = one[index], many[index]
        for name in ("anchor", "positive"):
            difference = np.abs(first[name].astype(int) - second[name].astype(int))
            assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    z = torch.from_numpy(generator.latent.sample(3, np.arange(4, 5))).reshape(1, *generator.latent.shape)
    with torch.no_grad():
        made = shown(generator.synthesize(z, noise=StepNoise(3, np.arange(4, 5), ANCHOR)))[0]
    assert np.abs(one[4]["anchor"] / 255 - made.permute(1, 2, 0).numpy()).max() < 0.01
    assert {"diffusers", "transformers"} <= one.manifest.build["packages"][0].keys()


def test_prompts_and_real_anchors(written, tmp_path):
    (tmp_path / "prompts.txt").write_text("cat\ta cat\ncat\ta small cat\n")
    (tmp_path / "anchors").mkdir()
    for number in range(3):
        values = np.random.RandomState(number).randint(0, 255, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"anchors/{number}.png")
    prompts, anchors = str(tmp_path / "prompts.txt"), str(tmp_path / "anchors")
    texts, images = written(write_stable_diffusion)[0], written(write_unclip)[0]
    found = build(tmp_path / "texts", texts, prompts=prompts, views="prompts", steps=2)
    assert found[0]["anchor"].shape == (16, 16, 3) and (found[0]["anchor"] != found[0]["positive"]).any()
    told = {"num_pairs": 3, "prompts": prompts, "anchors": anchors, "steps": 2}
    edited = build(tmp_path / "edited", texts, views="sdedit:strength=.3-.9", **told)
    varied = build(tmp_path / "varied", images, views="unclip:noise_level=200", **told)
    told.pop("prompts")  # the image says what is to be seen
    alone = build(tmp_path / "alone", images, views="unclip:noise_level=200", **told)
    assert "prompt" not in alone[0]
    for dataset in (edited, varied, alone):
        assert (dataset[1]["anchor"] == np.array(Image.open(tmp_path / "anchors/1.png"))).all()
        assert (dataset[1]["positive"] != dataset[1]["anchor"]).any()
        datasets_manifest.require_valid(dataset.folder, level="full")
