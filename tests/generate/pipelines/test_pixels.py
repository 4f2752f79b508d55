"""Networks on pixels: equal to the library's pipelines to the last bit on the same noise."""

from __future__ import annotations

from functools import partial

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from pipeline_checks import SCHEDULING, drawing, from_steps, latents, noise, shown
from tiny_pipelines import write_flow, write_pixels

from genrep.errors import GeneratorError, RecipeError

# The library takes arrays of tensors in a way that NumPy 2 is about to end.
pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def test_ddim(written, opened):
    folder, pipeline = written(write_pixels)
    generator = opened(folder, steps=4)
    z = latents(generator, 3)
    with drawing("diffusers.pipelines.ddim.pipeline_ddim", z):
        wanted = pipeline(batch_size=3, num_inference_steps=4, output_type="pt").images
    images = generator.synthesize(z)
    assert torch.equal(shown(images), wanted)
    assert images.shape == (3, 3, 16, 16) and not generator.draws_noise and generator.num_classes == 0
    assert images.abs().max() > 1 or not torch.equal(images, images.clamp(-0.5, 0.5))


def test_ddim_with_noise_in_its_steps(written, opened):
    folder, pipeline = written(write_pixels)
    generator = opened(folder, steps=4, eta=0.7)
    assert generator.draws_noise
    z, source = latents(generator, 3), noise(3)
    start = drawing("diffusers.pipelines.ddim.pipeline_ddim", z)
    with start, drawing(f"{SCHEDULING}ddim", from_steps(source)):
        wanted = pipeline(batch_size=3, num_inference_steps=4, eta=0.7, output_type="pt").images
    assert torch.equal(shown(generator.synthesize(z, noise=source)), wanted)
    with pytest.raises(GeneratorError, match=r"draws noise in its steps: give noise="):
        generator.synthesize(z)


@pytest.mark.parametrize("variance", ["fixed_small", "learned_range"])
def test_ddpm(written, opened, variance):
    channels = 6 if variance == "learned_range" else 3
    scheduler = partial(DDPMScheduler, num_train_timesteps=50, variance_type=variance)
    folder, pipeline = written(write_pixels, pipeline="DDPMPipeline", scheduler=scheduler(), out_channels=channels)
    generator = opened(folder, steps=5)
    z, source = latents(generator, 2), noise(2)
    start = drawing("diffusers.pipelines.ddpm.pipeline_ddpm", z)
    with start, drawing(f"{SCHEDULING}ddpm", from_steps(source)):
        wanted = pipeline(batch_size=2, num_inference_steps=5, output_type="pt").images
    assert torch.equal(shown(generator.synthesize(z, noise=source)), wanted)


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("classes", [None, 10])
def test_consistency(written, opened, steps, classes):
    folder, pipeline = written(
        write_pixels,
        pipeline="ConsistencyModelPipeline",
        scheduler=CMStochasticIterativeScheduler(num_train_timesteps=40),
        num_class_embeds=classes,
    )
    generator = opened(folder, steps=steps)
    assert generator.draws_noise == (steps > 1) and generator.num_classes == (classes or 0)
    z, source = latents(generator, 3), noise(3)
    y = [1, 7, 9] if classes else None
    with drawing(f"{SCHEDULING}consistency_models", from_steps(source)):
        wanted = pipeline(batch_size=3, class_labels=y, num_inference_steps=steps, latents=z, output_type="pt").images
    labels = torch.tensor(y) if classes else None
    images = generator.synthesize(z, labels, noise=source if steps > 1 else None)
    assert torch.equal(shown(images), wanted)


def plain_flow(unet, z, labels, null, guidance, steps):
    """Euler steps along the flow from noise at time 1 to images at time 0, written from its equation."""
    times = FlowMatchEulerDiscreteScheduler()
    times.set_timesteps(steps)
    x = z
    for number, t in enumerate(times.timesteps):
        flow = unet(x, t, class_labels=labels).sample
        if guidance > 1:
            free = unet(x, t, class_labels=torch.full_like(labels, null)).sample
            flow = free + guidance * (flow - free)
        x = x + (times.sigmas[number + 1] - times.sigmas[number]) * flow
    return x


@pytest.mark.parametrize("guidance", [1, 1.5, 3])
def test_flow_matching_with_a_null_class(written, opened, guidance):
    folder, unet = written(write_flow, classes=10)
    generator = opened(folder, steps=4, guidance=guidance)
    assert generator.num_classes == 10 and generator.latent.shape == (3, 16, 16)
    z, y = latents(generator, 3), torch.tensor([0, 4, 9])
    wanted = plain_flow(unet, z, y, 10, guidance, 4)
    assert (generator.synthesize(z, y) - wanted).abs().max() < 1e-5
    unconditional = generator.synthesize(z)
    assert (unconditional - plain_flow(unet, z, torch.full_like(y, 10), 10, 1, 4)).abs().max() < 1e-5


def test_flow_matching_without_classes_and_in_gray(written, opened):
    folder, unet = written(write_flow, channels=1)
    generator = opened(folder, steps=3)
    assert generator.latent.shape == (1, 16, 16) and generator.num_classes == 0
    z = latents(generator, 2)
    images = generator.synthesize(z)
    wanted = plain_flow(unet, z, None, None, 1, 3)
    assert images.shape == (2, 3, 16, 16) and (images - wanted).abs().max() < 1e-5


def test_stochastic_flow(written, opened):
    folder, unet = written(write_flow, scheduler=FlowMatchEulerDiscreteScheduler(stochastic_sampling=True))
    generator = opened(folder, steps=3)
    assert generator.draws_noise
    z, source = latents(generator, 2), noise(2)
    x, times = z, FlowMatchEulerDiscreteScheduler()
    times.set_timesteps(3)
    for number, t in enumerate(times.timesteps):
        clean = x - times.sigmas[number] * unet(x, t).sample
        fresh = torch.from_numpy(source(number, z[0].numel())).reshape(z.shape)
        x = (1 - times.sigmas[number + 1]) * clean + times.sigmas[number + 1] * fresh
    assert (generator.synthesize(z, noise=source) - x).abs().max() < 1e-5


def test_conditions_that_are_none(written, opened):
    generator = opened(written(write_flow, classes=10)[0], steps=2)
    z = latents(generator, 2)
    for wrong in (torch.zeros(3, dtype=torch.int64), torch.zeros(2, 10), [1, 2], "cat"):
        with pytest.raises(GeneratorError, match=r"one of 10 classes for each latent, int64 \(2,\)"):
            generator.synthesize(z, wrong)
    with pytest.raises(GeneratorError, match=r"latents of shape \(2, 768\), wanted \(B, 3, 16, 16\)"):
        generator.synthesize(z.flatten(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"height": 32}, "height = 32: the size of a model on pixels is its own"),
        ({"negative_prompt": "x"}, "takes no prompts"),
        ({"guidance": 2}, "guidance = 2: the model has no null class"),
        ({"eta": 0.5, "scheduler": "EulerDiscreteScheduler"}, "EulerDiscreteScheduler takes none"),
        ({"steps": 0}, "steps = 0; wanted a whole number from 1 to 1000"),
        ({"steps": True}, "steps = True"),
        ({"guidance": float("nan")}, "guidance = nan"),
        ({"scheduler": "DDIMSchedule"}, "did you mean DDIMScheduler"),
        ({"dtype": "float64"}, "dtype = 'float64'; known: float32"),
    ],
)
def test_options_that_the_model_has_no_use_for(written, opened, options, message):
    with pytest.raises(RecipeError, match=message):
        opened(written(write_pixels)[0], **options)


def test_another_scheduler(written, opened):
    folder, _ = written(write_pixels)
    ddim, euler = opened(folder, steps=4), opened(folder, steps=4, scheduler="EulerDiscreteScheduler")
    z = latents(ddim, 2)
    assert type(euler.schedule.scheduler).__name__ == "EulerDiscreteScheduler"
    assert not torch.allclose(ddim.synthesize(z), euler.synthesize(z))
    assert isinstance(ddim.schedule.scheduler, DDIMScheduler)
