"""A generator that can be trained through: latents in, images out, gradients back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, RecipeError, phrase

from ..generators.base import Generator
from ..generators.calls import require_plain
from ..generators.probe import check_images, require_gradient
from ..pixels import framed
from ..recipes.recipe import Recipe, framed_shape, latent_spec, load_recipe
from ..weights.load import open_generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def open_decoder(
    gen: str,
    *,
    weights: str | Path | None = None,
    truncation: float | None = None,
    device: str | torch.device = "cpu",
) -> GeneratorDecoder:
    """A recipe's generator, frozen, as a differentiable function of latents.

    Raises:
        RecipeError: no such generator, or one that is conditioned on more than a class.
        WeightsError: its weights are missing, damaged or of another kind.
        GeneratorError: its images carry no gradient back to the latents.
    """
    recipe = load_recipe(gen)
    options: dict[str, Any] = {} if truncation is None else {"truncation": truncation}
    generator = open_generator(recipe, weights, device, options).generator
    if getattr(generator, "needs_instances", False) or getattr(generator, "instances", None) is not None:
        raise RecipeError.naming(
            "{gen} {}: is conditioned on instance features, which a dataset's labels do not name", gen
        )
    require_plain(generator, gen)
    require_gradient(generator, gen, device)
    return GeneratorDecoder(recipe, generator)


class GeneratorDecoder:
    """Calls a generator, crops and shrinks as its recipe says.

    Attributes:
        latent_shape: of one latent.
        num_classes: 0 = labels are not looked at.
        image_shape: (height, width) of the images.
    """

    def __init__(self, recipe: Recipe, generator: Generator) -> None:
        self.recipe, self.generator = recipe, generator
        self.latent_shape: tuple[int, ...] = latent_spec(recipe, generator.latent).shape
        self.num_classes = generator.num_classes
        self.image_shape = framed_shape(recipe, generator.image_shape)

    def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images, nominally in [-1, 1] and never clamped, differentiable in z.

        Shapes: z ``(B, *latent_shape)`` float, labels ``(B,)`` int64 or None -> ``(B, 3, H, W)`` float.

        Raises:
            GeneratorError: latents of another shape, a generator of classes without labels, or whatever it raised.
        """
        where = phrase("{gen} {}", self.recipe.name)
        if tuple(z.shape[1:]) != self.latent_shape:
            raise GeneratorError.naming(
                "{}: latents of shape {}, wanted {}", where, tuple(z.shape[1:]), self.latent_shape
            )
        if self.num_classes and labels is None:
            raise GeneratorError.naming(
                "{}: makes images of {} classes, and the dataset has no labels", where, self.num_classes
            )
        try:
            found: object = self.generator.synthesize(z, labels if self.num_classes else None)
        except Exception as error:  # whatever a stranger's generator raises
            raise GeneratorError.naming("{}: raised {}: {}", where, type(error).__name__, error) from error
        return framed(check_images(found, z, self.generator, where), self.recipe.crop, self.recipe.resize)
