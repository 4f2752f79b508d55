"""What holds for every pipeline: its noise is the caller's, rows do not see each other, gradients reach z, devices are kept."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from fake_device import FakeDevice
from pipeline_checks import latents, noise
from tiny_pipelines import write_dit, write_flow, write_flux2, write_pixels, write_stable_diffusion, write_unclip

from genrep.errors import GeneratorError, GenRepError
from genrep.generate.generators.diffusers.allowed import SCHEDULERS
from genrep.generate.generators.diffusers.denoisers.base import rows_of
from genrep.generate.generators.diffusers.generator import VaryingGenerator
from genrep.generate.generators.diffusers.loop import StepDraws, sample_rows, whole
from genrep.generate.generators.diffusers.schedules import make_schedule
from genrep.seeding import StepNoise

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]

DRAWING = {
    "CMStochasticIterativeScheduler",
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LCMScheduler",
    "SASolverScheduler",
}


def refuse(*arguments, **keywords):
    raise AssertionError("a global generator was asked")


@contextmanager
def no_global_noise(monkeypatch):
    """Nothing may ask PyTorch for random numbers, and its state stays."""
    before = torch.get_rng_state()
    with monkeypatch.context() as patch:
        for name in ("randn", "randn_like", "rand", "rand_like", "normal", "randint"):
            patch.setattr(torch, name, refuse)
        yield
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_takes_its_noise_from_the_caller(written, opened, monkeypatch, name):
    flow, consistency = name.startswith("FlowMatch"), name.startswith("CM")
    source = getattr(diffusers, name)() if flow or consistency else None
    if flow:
        folder, _ = written(write_flow, scheduler=source)
    elif consistency:
        folder, _ = written(write_pixels, pipeline="ConsistencyModelPipeline", scheduler=source)
    else:
        folder, _ = written(write_pixels)
    with no_global_noise(monkeypatch):
        check_noise(opened(folder, steps=4, **({} if source else {"scheduler": name})), name)


def check_noise(generator, name):
    """Opening is over; sampling follows."""
    assert type(generator.schedule.scheduler).__name__ == name
    assert generator.draws_noise == (name in DRAWING)
    z, asked = latents(generator, 2), []

    def recorded(step, size):
        asked.append((step, size))
        return noise(2)(step, size)

    images = generator.synthesize(z, noise=recorded)
    assert torch.isfinite(images).all()
    assert all(size == 3 * 16 * 16 for _, size in asked)
    steps = [step for step, _ in asked]
    assert steps == sorted(set(steps)) and bool(steps) == generator.draws_noise
    if generator.draws_noise:
        assert torch.equal(images, generator.synthesize(z, noise=noise(2)))
        assert not torch.equal(images, generator.synthesize(z, noise=StepNoise(8, np.arange(2))))
        with pytest.raises(GeneratorError, match="give noise="):
            generator.synthesize(z)


def test_the_library_is_left_as_it_was(written, opened):
    from diffusers.schedulers import scheduling_ddpm
    from diffusers.utils.torch_utils import randn_tensor

    generator = opened(written(write_pixels)[0], steps=3, scheduler="DDPMScheduler")
    step = diffusers.DDPMScheduler.step
    generator.synthesize(latents(generator, 1), noise=noise(1))
    assert scheduling_ddpm.randn_tensor is randn_tensor and diffusers.DDPMScheduler.step is step
    assert "randn_tensor" in step.__code__.co_names


class Globally(diffusers.DDIMScheduler):
    """A scheduler that draws noise past ``randn_tensor``."""

    def step(self, model_output, timestep, sample, return_dict=True):
        return (sample + torch.randn(sample.shape),)


class Twice(diffusers.DDPMScheduler):
    """A scheduler that draws noise twice in a step."""

    def step(self, model_output, timestep, sample, return_dict=True):
        return (randn_tensor(sample.shape) + randn_tensor(sample.shape),)


class Broken(diffusers.DDIMScheduler):
    """A scheduler that cannot take a step."""

    def step(self, model_output, timestep, sample, return_dict=True):
        raise IndexError("no such step")


randn_tensor = refuse


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        (Globally, "w: Globally draws noise from a global generator, which cannot be repeated"),
        (Twice, "w: Twice draws noise twice in a step"),
        (Broken, "w: Broken with 3 steps: no such step"),
    ],
)
def test_schedulers_whose_noise_cannot_be_taken_are_refused(scheduler, message):
    before = torch.get_rng_state()
    with pytest.raises(GenRepError, match=message):
        make_schedule(scheduler(), 3, eta=None, channels=(3, 3), device="cpu", where="w")
    assert torch.equal(torch.get_rng_state(), before)


def kinds():
    return [
        pytest.param(write_pixels, {"steps": 4}, None, id="ddim"),
        pytest.param(write_pixels, {"steps": 4, "scheduler": "DDPMScheduler"}, None, id="ddpm"),
        pytest.param(write_flow, {"steps": 4}, None, id="flow"),
        pytest.param(write_dit, {"steps": 3}, "classes", id="dit"),
        pytest.param(write_stable_diffusion, {"steps": 3, "guidance": 2.0}, "prompts", id="stable diffusion"),
        pytest.param(write_unclip, {"steps": 3}, "prompts", id="unclip"),
        pytest.param(
            write_flux2, {"height": 16, "width": 16, "steps": 2}, "prompts", id="flux2", marks=pytest.mark.slow
        ),
    ]


def conditions(kind, count):
    """Classes or prompts of rows."""
    if kind == "classes":
        return torch.arange(count) * 100
    return ["a cat", "dog", "", "a cat on a mat"][:count] if kind == "prompts" else None


def part(y, row):
    return None if y is None else y[row : row + 1]


@pytest.mark.parametrize(("write", "options", "kind"), kinds())
def test_a_row_does_not_depend_on_its_batch(written, opened, write, options, kind):
    generator = opened(written(write)[0], **options)
    z, y = latents(generator, 4), conditions(kind, 4)
    together = generator.synthesize(z, y, noise=noise(4))
    for row in (0, 3):
        alone = generator.synthesize(z[row : row + 1], part(y, row), noise=noise(1, first=row))
        assert (alone[0] - together[row]).abs().max() < 2e-4  # 1e-4 of the range
    assert not torch.equal(together[0], together[3])


@pytest.mark.parametrize(("write", "options", "kind"), kinds())
def test_gradients_reach_the_latents(written, opened, write, options, kind):
    """Against a difference quotient in double precision along one direction."""
    generator = opened(written(write)[0], **options)
    generator.networks.double()
    generator.dtype = torch.float64
    for cache in [vars(generator.denoiser).get("prompts")]:
        if cache is not None:
            cache.kept.clear()
    z, y = latents(generator, 1).double(), conditions(kind, 1)
    direction = latents(generator, 1, first=5).double()
    direction /= direction.norm()

    def value(shift):
        made = generator.space.decode(generator_samples(generator, z + shift * direction, y))
        return made.square().mean()

    with torch.enable_grad():
        shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(value(shift), shift)
    # Flow matching steps in float32; DDIM clips, which a wide quotient would see.
    step = 1e-2 if type(generator.schedule.scheduler).__name__.startswith("Flow") else 1e-4
    quotient = (value(torch.tensor(step)) - value(torch.tensor(-step))) / (2 * step)
    assert slope.isfinite() and slope != 0
    assert abs(slope - quotient) < 1e-2 * abs(quotient)


def generator_samples(generator, z, y):
    """The samples before they are decoded, in double precision."""
    found = generator.denoiser.conditions(y, len(z), z.device)
    groups = whole(generator.schedule, z * generator.schedule.sigma)
    return sample_rows(
        generator.schedule,
        groups,
        lambda sample, t, rows: generator.denoiser.predict(sample, t, rows_of(found, rows)),
        StepDraws(noise(len(z))),
    )


@pytest.mark.parametrize(("write", "options", "kind"), kinds())
def test_nothing_is_forgotten_on_the_cpu(written, opened, monkeypatch, write, options, kind):
    """With fake tensors of a device "cuda", as tests/test_devices.py tries the other families.

    All but the schedulers' steps, which look at values.
    """
    generator = opened(written(write)[0], **options)
    device = FakeDevice(monkeypatch)
    with device:
        device.move(generator.networks)
        z = torch.empty(2, *generator.latent.shape, device="cuda")
        y = torch.zeros(2, dtype=torch.int64, device="cuda") if kind == "classes" else conditions(kind, 2)
        found = generator.denoiser.conditions(y, 2, z.device)
        images = torch.empty(2, 3, *generator.image_shape, device="cuda")
        if isinstance(generator, VaryingGenerator):
            level, fresh = torch.zeros(2, dtype=torch.int64, device="cuda"), torch.empty(2, 16, device="cuda")
            monkeypatch.setattr(Tensor, "__bool__", lambda self: True)  # of the check of levels
            found["image"] = generator.embedder(images, level, fresh)
        drawn = StepDraws(noise(2)).draw(0, None, z.shape, generator.dtype, z.device)
        output = generator.denoiser.predict(z + drawn, torch.tensor(5.0), found)
        assert output.device.type == "cuda" and output.shape == z.shape
        made = generator.space.decode(z)
        assert made.device.type == "cuda" and made.shape == images.shape
        assert generator.space.encode(images).device.type == "cuda"
