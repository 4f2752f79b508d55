"""Networks on latents: DiT, Stable Diffusion, its consistency models and turbo, Stable unCLIP, FLUX.2 [klein]."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import diffusers
from pipeline_checks import SCHEDULING, drawing, from_steps, latents, noise, shown
from tiny_pipelines import quiet, write_dit, write_flux2, write_stable_diffusion, write_unclip

from genrep.errors import GeneratorError, RecipeError, WeightsError

PROMPTS = ["a cat", "two dogs on a mat", "a cat"]

# The library takes arrays of tensors in a way that NumPy 2 is about to end.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")]


@pytest.mark.parametrize("guidance", [1, 4])
def test_dit(written, opened, guidance):
    folder, pipeline = written(write_dit)
    generator = opened(folder, steps=3, guidance=guidance)
    z, y = latents(generator, 2), [1, 999]
    with drawing("diffusers.pipelines.dit.pipeline_dit", z):  # it takes no latents
        wanted = pipeline(y, guidance_scale=guidance, num_inference_steps=3, output_type="pt").images
    assert generator.num_classes == 1000 and generator.image_shape == (8, 8)
    assert torch.equal(shown(generator.synthesize(z, torch.tensor(y))), wanted)


def of_prompts(pipeline, prompts, z, **arguments):
    """The library's images, each prompt encoded alone."""
    text = torch.cat([pipeline.encode_prompt(prompt, "cpu", 1, False)[0] for prompt in prompts])
    negative = pipeline.encode_prompt(arguments.pop("negative_prompt", ""), "cpu", 1, False)[0]
    return pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=negative.expand(len(prompts), -1, -1),
        latents=z,
        output_type="pt",
        **arguments,
    ).images


@pytest.mark.parametrize("guidance", [0, 1, 2.0, 7.5])
def test_stable_diffusion(written, opened, guidance):
    folder, pipeline = written(write_stable_diffusion)
    generator = opened(folder, steps=3, guidance=guidance)
    z = latents(generator, 3)
    wanted = of_prompts(pipeline, PROMPTS, z, num_inference_steps=3, guidance_scale=guidance)
    images = generator.synthesize(z, PROMPTS)
    assert generator.takes_prompts and generator.num_classes == 0 and generator.latent.shape == (4, 8, 8)
    assert torch.equal(shown(images), wanted)
    together = pipeline(PROMPTS, num_inference_steps=3, guidance_scale=guidance, latents=z, output_type="pt").images
    assert (shown(images) - together).abs().max() < 1e-5  # text encoded in one batch


def test_a_negative_prompt_and_another_size(written, opened):
    folder, pipeline = written(write_stable_diffusion)
    generator = opened(folder, steps=2, guidance=3, negative_prompt="blurred", height=8, width=24)
    z = latents(generator, 3)
    told = {"num_inference_steps": 2, "guidance_scale": 3, "height": 8, "width": 24}
    assert torch.equal(
        shown(generator.synthesize(z, PROMPTS)), of_prompts(pipeline, PROMPTS, z, negative_prompt="blurred", **told)
    )
    assert not torch.equal(shown(generator.synthesize(z, PROMPTS)), of_prompts(pipeline, PROMPTS, z, **told))
    with pytest.raises(GeneratorError, match="height 9, width 16: wanted multiples of 2"):
        opened(folder, height=9)


def euler(**settings):
    return diffusers.EulerDiscreteScheduler(**settings, timestep_spacing="trailing")


def solver(**settings):
    return diffusers.DPMSolverMultistepScheduler(**settings, algorithm_type="sde-dpmsolver++")


def ancestor(**settings):
    return diffusers.DDPMScheduler(**settings, clip_sample=False)


def velocity(**settings):
    return diffusers.DDIMScheduler(**settings, prediction_type="v_prediction", clip_sample=False)


@pytest.mark.parametrize(
    ("make", "steps", "module"),
    [
        (euler, 1, ""),  # as SD-Turbo
        (velocity, 3, ""),  # as Stable Diffusion 2
        (diffusers.PNDMScheduler, 4, ""),
        (diffusers.HeunDiscreteScheduler, 3, ""),
        (diffusers.DPMSolverMultistepScheduler, 4, ""),
        (diffusers.UniPCMultistepScheduler, 4, ""),
        (diffusers.LMSDiscreteScheduler, 3, ""),
        (diffusers.LCMScheduler, 3, "lcm"),
        (diffusers.TCDScheduler, 3, ""),  # eta 0, as that pipeline has it
        (diffusers.EulerAncestralDiscreteScheduler, 3, "euler_ancestral_discrete"),
        (ancestor, 3, "ddpm"),
        (solver, 4, "dpmsolver_multistep"),
        (diffusers.SASolverScheduler, 3, "sasolver"),
    ],
)
def test_schedulers(written, opened, make, steps, module):
    folder, pipeline = written(write_stable_diffusion, scheduler=make)
    generator = opened(folder, steps=steps, guidance=2.0)
    assert generator.draws_noise == bool(module)
    z, source = latents(generator, 3), noise(3)
    told = {"num_inference_steps": steps, "guidance_scale": 2.0}
    if module:
        with drawing(SCHEDULING + module, from_steps(source)):
            wanted = of_prompts(pipeline, PROMPTS, z, **told)
    else:
        wanted = of_prompts(pipeline, PROMPTS, z, **told)
    assert torch.equal(shown(generator.synthesize(z, PROMPTS, noise=source if module else None)), wanted)


def test_a_latent_consistency_model(written, opened):
    """The network takes the guidance as a number."""
    folder, pipeline = written(write_stable_diffusion, scheduler=diffusers.LCMScheduler, time_cond_proj_dim=8)
    generator = opened(folder, steps=3, guidance=6.0)
    z, source = latents(generator, 3), noise(3)
    with drawing(f"{SCHEDULING}lcm", from_steps(source)):
        wanted = of_prompts(pipeline, PROMPTS, z, num_inference_steps=3, guidance_scale=6.0)
    assert torch.equal(shown(generator.synthesize(z, PROMPTS, noise=source)), wanted)
    other = opened(folder, steps=3, guidance=2.0).synthesize(z, PROMPTS, noise=source)
    assert not torch.equal(shown(other), wanted)


def test_the_pipeline_of_latent_consistency_models(written, opened, tmp_path):
    """Its own defaults: 4 steps, guidance 8.5."""
    _, model = written(write_stable_diffusion, scheduler=diffusers.LCMScheduler, time_cond_proj_dim=8)
    with quiet():
        pipeline = diffusers.LatentConsistencyModelPipeline(**model.components, requires_safety_checker=False)
        pipeline.save_pretrained(tmp_path / "model")
    pipeline.set_progress_bar_config(disable=True)
    generator = opened(tmp_path / "model")
    assert generator.schedule.steps == 4 and generator.draws_noise
    z, source = latents(generator, 2), noise(2)
    text = torch.cat([pipeline.encode_prompt(prompt, "cpu", 1, False)[0] for prompt in PROMPTS[:2]])
    with drawing(f"{SCHEDULING}lcm", from_steps(source)):
        wanted = pipeline(prompt_embeds=text, latents=z, output_type="pt").images
    assert torch.equal(shown(generator.synthesize(z, PROMPTS[:2], noise=source)), wanted)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(written, opened, dtype):
    """As the library reads a folder in that format, except that its tensors then lie in aligned memory."""
    folder, _ = written(write_stable_diffusion)
    kind = getattr(torch, dtype)
    with quiet():
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=kind, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        part.requires_grad_(False)
        for parameter in part.parameters():
            parameter.data = parameter.data.clone()
    generator = opened(folder, steps=2, guidance=2.0, dtype=dtype)
    z = latents(generator, 3)
    wanted = of_prompts(pipeline, PROMPTS, z.to(kind), num_inference_steps=2, guidance_scale=2.0)
    images = generator.synthesize(z, PROMPTS)
    assert images.dtype == torch.float32
    assert torch.equal(shown(images.to(kind)), wanted)


def noised_embeddings(pipeline, source):
    """The pipeline's own function, with the noise that the caller of ours gives."""
    own = type(pipeline).noise_image_embeddings

    def noise_image_embeddings(image_embeds, noise_level, generator=None):
        fresh = torch.from_numpy(source(-1, image_embeds.shape[1]))
        return own(pipeline, image_embeds, int(noise_level), noise=fresh)

    return noise_image_embeddings


@pytest.mark.parametrize("level", [0, 200, 999])
def test_unclip(written, opened, monkeypatch, level):
    folder, pipeline = written(write_unclip)
    generator = opened(folder, steps=3)
    z, source = latents(generator, 2), noise(2)
    images = torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
    monkeypatch.setattr(pipeline, "noise_image_embeddings", noised_embeddings(pipeline, source))
    pixels = generator.embedder.pixels(images)
    wanted = pipeline(
        image=pixels, prompt=["", ""], num_inference_steps=3, noise_level=level, latents=z, output_type="pt"
    ).images
    made = generator.vary(images, z, noise_level=torch.full((2,), level), noise=source)
    assert torch.equal(shown(made), wanted)
    assert generator.takes_prompts and generator.draws_noise and not hasattr(generator, "edit")


def test_unclip_sees_images_as_the_library_does(written, opened):
    from PIL import Image

    folder, pipeline = written(write_unclip)
    generator = opened(folder, steps=1)
    values = (torch.rand(2, 3, 40, 48, generator=torch.Generator().manual_seed(0)) * 255).byte()
    pictures = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in values]
    wanted = pipeline.feature_extractor(images=pictures, return_tensors="pt").pixel_values
    found = generator.embedder.pixels(values.float() / 127.5 - 1)
    assert (found - wanted).abs().max() * 0.27 * 255 < 1.1  # the library rounds to bytes twice


def test_unclip_with_levels_of_each_row_and_prompts(written, opened):
    generator = opened(written(write_unclip)[0], steps=2)
    z, source = latents(generator, 2), noise(2)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    made = generator.vary(images, z, PROMPTS[:2], noise_level=torch.tensor([0, 400]), noise=source)
    for row in range(2):
        alone = generator.vary(
            images[row : row + 1],
            z[row : row + 1],
            PROMPTS[row : row + 1],
            noise_level=torch.tensor([(0, 400)[row]]),
            noise=noise(1, first=row),
        )
        assert (made[row] - alone[0]).abs().max() < 1e-4
    assert not torch.equal(made, generator.vary(images, z, noise_level=torch.tensor([0, 400]), noise=source))
    assert generator.synthesize(z, PROMPTS[:2]).shape == (2, 3, 16, 16)  # of the prompt alone
    with pytest.raises(GeneratorError, match="give noise="):
        generator.vary(images, z, noise_level=torch.tensor([0, 400]))
    for wrong in (torch.tensor([0, 1000]), torch.tensor([-1, 0]), torch.tensor([0])):
        with pytest.raises(GeneratorError, match="whole numbers from 0 to 999, one for each image"):
            generator.vary(images, z, noise_level=wrong, noise=source)


@pytest.mark.slow
@pytest.mark.parametrize("distilled", [True, False])
def test_flux2_klein(written, opened, distilled):
    folder, pipeline = written(write_flux2, distilled=distilled)
    options = {"height": 16, "width": 24, **({} if distilled else {"guidance": 3.0, "steps": 4})}
    generator = opened(folder, **options)
    z = latents(generator, 3)
    text = torch.cat([pipeline.encode_prompt(prompt)[0] for prompt in PROMPTS])
    negative = pipeline.encode_prompt("")[0].expand(3, -1, -1)
    wanted = pipeline(
        prompt_embeds=text,
        negative_prompt_embeds=negative,
        guidance_scale=3.0,
        num_inference_steps=4,
        height=16,
        width=24,
        latents=z,
        output_type="pt",
    ).images
    assert generator.schedule.steps == 4 and generator.latent.shape == (16, 4, 6)
    assert torch.equal(shown(generator.synthesize(z, PROMPTS)), wanted)
    if distilled:
        with pytest.raises(RecipeError, match=r"guidance = 2: a distilled model takes none"):
            opened(folder, guidance=2)


def test_prompts_are_encoded_once_and_kept_up_to_a_number_of_bytes(written, opened):
    generator = opened(written(write_stable_diffusion)[0], steps=1, guidance=2.0)
    cache, z = generator.denoiser.prompts, latents(generator, 3)
    first = generator.synthesize(z, PROMPTS)
    assert cache.encoded == 3  # two prompts and the empty one
    assert torch.equal(generator.synthesize(z, PROMPTS), first) and cache.encoded == 3
    one = cache.bytes // 3
    cache.limit = 2 * one
    generator.synthesize(z, ["a", "b", "c"])
    assert cache.bytes == 2 * one and len(cache.kept) == 2
    assert torch.equal(generator.synthesize(z, PROMPTS), first)


def test_prompts_that_were_kept_without_gradients_serve_one_with(written, opened):
    generator = opened(written(write_stable_diffusion)[0], steps=1)
    z = latents(generator, 1)
    with torch.inference_mode():
        generator.synthesize(z, ["a"])
    with torch.enable_grad():
        start = z.clone().requires_grad_(True)
        generator.synthesize(start, ["a"]).sum().backward()
    assert torch.isfinite(start.grad).all() and start.grad.abs().max() > 0


def test_prompts_that_are_none_and_long_ones(written, opened, capsys):
    generator = opened(written(write_stable_diffusion)[0], steps=1)
    z = latents(generator, 2)
    for wrong in (["a"], [1, 2], torch.zeros(2), "ab"):
        with pytest.raises(GeneratorError, match="takes 2 prompts, as many as latents"):
            generator.synthesize(z, wrong)
    assert torch.equal(generator.synthesize(z), generator.synthesize(z, ["", ""]))
    cut = generator.synthesize(z, ["a " * 100, "b " * 100])
    told = capsys.readouterr().err
    assert "cut at 77 tokens" in told and told.count("cut at") == 1
    assert torch.equal(cut, generator.synthesize(z, ["a " * 75, "b " * 75]))


def test_a_tokenizer_that_does_not_fit(copied, opened):
    import json

    folder = copied(write_stable_diffusion)
    path = folder / "text_encoder/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "vocab_size": 100}))
    with pytest.raises(WeightsError, match=r"token_embedding.weight' has shape \(190, 16\), wanted \(100, 16\)"):
        opened(folder)


def test_models_that_take_more_than_a_latent(written, opened):
    with pytest.raises(WeightsError, match="unet has 9 channels, vae 4"):
        opened(written(write_stable_diffusion, in_channels=9)[0])


def test_half_of_the_files_tensors_are_read_as_numbers_of_the_recipe(written, opened, tmp_path):
    """A folder of fp16 weights is opened in float32."""
    folder, _ = written(write_stable_diffusion)
    with quiet():
        half = diffusers.StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float16)
        half.save_pretrained(tmp_path / "half", variant="fp16")
    generator = opened(tmp_path / "half", steps=1)
    assert generator.synthesize(latents(generator, 1), ["a"]).dtype == torch.float32
    assert next(generator.networks["unet"].parameters()).dtype == torch.float32
