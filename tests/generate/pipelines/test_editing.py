"""SDEdit: an image noised and denoised again, rows of different strength from different steps on."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from pipeline_checks import SCHEDULING, drawing, from_steps, latents, noise, shown
from tiny_pipelines import write_dit, write_flow, write_flux2, write_pixels, write_stable_diffusion

from genrep.errors import GeneratorError
from genrep.generate.generators.diffusers.schedules import Schedule

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]

PROMPTS = ["a cat", "dog", ""]


def pictures(generator, count):
    return torch.rand(count, 3, *generator.image_shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(
    ("make", "module"),
    [
        (None, ""),
        (lambda **settings: diffusers.EulerDiscreteScheduler(**settings), ""),
        (lambda **settings: diffusers.DPMSolverMultistepScheduler(**settings), ""),
        (lambda **settings: diffusers.PNDMScheduler(**settings, skip_prk_steps=True), ""),
        (lambda **settings: diffusers.HeunDiscreteScheduler(**settings), ""),
        (lambda **settings: diffusers.EulerAncestralDiscreteScheduler(**settings), "euler_ancestral_discrete"),
    ],
    ids=["ddim", "euler", "dpm", "pndm", "heun", "ancestral"],
)
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_as_the_librarys_image_to_image(written, opened, make, module, strength):
    folder, pipeline = written(write_stable_diffusion, **({"scheduler": make} if make else {}))
    generator = opened(folder, steps=10, guidance=2.0)
    z, images, source = latents(generator, 3), pictures(generator, 3), noise(3)
    other = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    other.set_progress_bar_config(disable=True)
    clean = pipeline.vae.encode(images).latent_dist.mode() * pipeline.vae.config.scaling_factor
    text = torch.cat([pipeline.encode_prompt(prompt, "cpu", 1, False)[0] for prompt in PROMPTS])
    empty = pipeline.encode_prompt("", "cpu", 1, False)[0].expand(3, -1, -1)
    start = drawing("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_img2img", z)
    begin = generator.schedule.begin(strength)
    steps = drawing(SCHEDULING + (module or "ddim"), from_steps(source, first=begin))
    with start, steps:
        wanted = other(
            prompt_embeds=text,
            negative_prompt_embeds=empty,
            image=clean,
            strength=strength,
            num_inference_steps=10,
            guidance_scale=2.0,
            output_type="pt",
        ).images
    made = generator.edit(images, z, PROMPTS, strength=torch.full((3,), strength), noise=source)
    assert torch.equal(shown(made), wanted)


def kinds():
    return [
        pytest.param(write_pixels, {"steps": 10}, id="ddim"),
        pytest.param(write_pixels, {"steps": 10, "scheduler": "DDPMScheduler"}, id="ddpm"),
        pytest.param(write_pixels, {"steps": 10, "scheduler": "DPMSolverMultistepScheduler"}, id="dpm"),
        pytest.param(write_flow, {"steps": 10}, id="flow"),
        pytest.param(write_dit, {"steps": 10}, id="dit"),
        pytest.param(write_stable_diffusion, {"steps": 10, "guidance": 2.0}, id="stable diffusion"),
        pytest.param(write_flux2, {"height": 16, "width": 16, "steps": 3}, id="flux2", marks=pytest.mark.slow),
    ]


@pytest.mark.parametrize(("write", "options"), kinds())
def test_rows_begin_at_steps_of_their_own(written, opened, write, options):
    generator = opened(written(write)[0], **options)
    z, images = latents(generator, 4), pictures(generator, 4)
    y = [*PROMPTS, "x"] if generator.takes_prompts else torch.arange(4) if generator.num_classes else None
    strength = torch.tensor([0.7, 0.2, 1.0, 0.7])
    together = generator.edit(images, z, y, strength=strength, noise=noise(4))
    for row in range(4):
        part = slice(row, row + 1)
        alone = generator.edit(
            images[part],
            z[part],
            None if y is None else y[part],
            strength=strength[part],
            noise=noise(1, first=row),
        )
        assert (alone[0] - together[row]).abs().max() < 2e-4
    gentle = generator.edit(images, z, y, strength=torch.full((4,), 0.05), noise=noise(4))
    strong = generator.edit(images, z, y, strength=torch.ones(4), noise=noise(4))
    if not generator.networks.keys() & {"vae"}:  # on pixels, what was barely noised stays close
        assert (gentle - images).abs().mean() < 0.5 * (strong - images).abs().mean()


def test_the_flow_begins_between_image_and_noise(written, opened):
    """At time s on the straight way: (1 - s) image + s noise."""
    folder, unet = written(write_flow)
    generator = opened(folder, steps=4)
    z, images = latents(generator, 2), pictures(generator, 2)
    times = diffusers.FlowMatchEulerDiscreteScheduler()
    times.set_timesteps(4)
    x = (1 - times.sigmas[2]) * images + times.sigmas[2] * z
    for number in (2, 3):
        x = x + (times.sigmas[number + 1] - times.sigmas[number]) * unet(x, times.timesteps[number]).sample
    made = generator.edit(images, z, strength=torch.full((2,), 0.5))
    assert (made - x).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("steps", "strength", "begin"),
    [(50, 0.7, 15), (10, 0.7, 3), (10, 0.69999998807, 3), (10, 0.1, 9), (10, 0.001, 9), (10, 1.0, 0), (1, 0.5, 0)],
)
def test_the_first_step(steps, strength, begin):
    """int(steps x strength) steps are taken, as the library's, but 7 of 10 for float32's 0.7 too, and never none."""
    assert Schedule(diffusers.DDIMScheduler(), steps).begin(strength) == begin


def test_what_cannot_be_edited(written, opened):
    generator = opened(written(write_pixels)[0], steps=4)
    z, images = latents(generator, 2), pictures(generator, 2)
    for wrong in ([0.5, 0.0], [0.5, 1.1], [0.5], [0.5, float("nan")]):
        with pytest.raises(GeneratorError, match="strength: wanted a number above 0, at most 1, for each image"):
            generator.edit(images, z, strength=torch.tensor(wrong))
    with pytest.raises(GeneratorError, match=r"images of shape \(2, 3, 8, 8\), wanted \(2, 3, 16, 16\)"):
        generator.edit(images[:, :, :8, :8], z, strength=torch.ones(2))
