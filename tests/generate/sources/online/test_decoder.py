"""A generator to learn through: its own images, cropped as stored, with gradients to the latents and to nothing else."""

import pytest
import torch

from genrep.errors import GeneratorError, RecipeError
from genrep.generate import load_generator
from genrep.generate.sources.decoder import open_decoder

CROPPED = """
[generator]
family = "stylegan2"
weights = "package:stylegan2_fashion.safetensors"

[image]
crop = [4, 2, 24, 28]
"""


def latents(count, dim=128, seed=0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def test_images_are_the_generators(folder):
    decode, generator = open_decoder("stylegan2_fashion_cond"), load_generator("stylegan2_fashion_cond")
    z, labels = latents(3), torch.tensor([1, 9, 4])
    assert torch.equal(decode(z, labels), generator.synthesize(z, labels))
    assert (decode.latent_shape, decode.image_shape, decode.num_classes) == ((128,), (32, 32), 10)


def test_images_are_cropped_as_the_recipe_says(folder):
    (folder / "cropped.toml").write_text(CROPPED)
    decode, z = open_decoder("cropped.toml"), latents(2)
    assert decode.image_shape == (24, 28)
    assert torch.equal(decode(z), load_generator("stylegan2_fashion").synthesize(z)[:, :, 4:28, 2:30])


def test_labels_are_not_looked_at_without_classes(folder):
    decode, z = open_decoder("stylegan2_fashion"), latents(2)
    assert torch.equal(decode(z, torch.tensor([-1, -1])), decode(z, None))


def test_gradients_reach_the_latents_and_change_nothing_else(folder):
    decode = open_decoder("stylegan2_fashion")
    z = latents(1).requires_grad_()
    weight = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((decode(z) * weight).sum(), z)
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        plus, minus = ((decode(z + sign * step) * weight).sum() for sign in (1, -1))
    assert float((plus - minus) / 2) == pytest.approx(float((gradient * step).sum()), rel=0.01)
    modules = [part for part in vars(decode.generator).values() if isinstance(part, torch.nn.Module)]
    parameters = [parameter for module in modules for parameter in module.parameters()]
    assert parameters
    assert not any(parameter.requires_grad for parameter in parameters)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda decode: decode(latents(2), None), "images of 10 classes, and the dataset has no labels"),
        (lambda decode: decode(latents(2, dim=5), torch.zeros(2, dtype=torch.int64)), r"latents of shape \(5,\)"),
        (lambda decode: decode(latents(2), torch.zeros(3, dtype=torch.int64)), "stylegan2_fashion_cond: raised"),
    ],
)
def test_what_it_cannot_decode_is_said_in_one_line(folder, call, message):
    with pytest.raises(GeneratorError, match=message):
        call(open_decoder("stylegan2_fashion_cond"))


def test_generators_that_it_cannot_learn_through_are_refused(folder):
    for gen in ("toygen:without_gradient", "toygen:numpy_inside"):
        with pytest.raises(GeneratorError, match=gen):
            open_decoder(gen)
    with pytest.raises(RecipeError, match=r"^gen toygen:instances: is conditioned on instance features"):
        open_decoder("toygen:instances")
