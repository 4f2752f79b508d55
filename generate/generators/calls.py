"""Calls of a generator: flat latents get their shape, and a sampler that draws noise gets it from the pairs' own streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, RecipeError

from .base import Generator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from genrep.seeding import StepNoise

    Condition = Tensor | Sequence[str] | None


def synthesize(generator: Generator, z: Tensor, y: Condition = None, noise: StepNoise | None = None) -> Tensor:
    """``generator.synthesize`` on flat latents.

    Shapes: z ``(B, dim)``; y classes ``(B,)`` or ``(B, C)``, rows of a table ``(B,)``, B texts, or None.

    Raises:
        GeneratorError: its sampler draws noise, and there is none for it here.
    """
    made: Any = generator
    images: Tensor = made.synthesize(shaped(generator, z), y, **_noise(generator, noise))
    return images


def edit(
    generator: Generator,
    how: str,
    images: Tensor,
    z: Tensor,
    y: Condition,
    parameters: Mapping[str, Tensor],
    noise: StepNoise | None,
) -> Tensor:
    """``generator.edit`` or ``generator.vary`` (``how``), with flat noise.

    Shapes: images ``(B, 3, H, W)`` in [-1, 1], z ``(B, dim)``, parameters ``(B,)`` -> ``(B, 3, H, W)``.
    """
    call: Any = getattr(generator, how)
    made: Tensor = call(images, shaped(generator, z), y, **parameters, **_noise(generator, noise))
    return made


def shaped(generator: Generator, z: Tensor) -> Tensor:
    """Latents in the generator's shape. Shape: ``(B, dim) -> (B, *latent.shape)``."""
    shape = generator.latent.shape
    return z if len(shape) == 1 else z.reshape(len(z), *shape)


def _noise(generator: Generator, noise: StepNoise | None) -> dict[str, StepNoise]:
    if not getattr(generator, "draws_noise", False):
        return {}
    if noise is None:
        raise GeneratorError("its sampler draws noise in its steps, and a pair of a dataset alone has it")
    return {"noise": noise}


def require_plain(generator: Generator, name: str) -> None:
    """Refuse, for what learns through images of latents alone, generators that need more. Raises RecipeError."""
    if getattr(generator, "takes_prompts", False):
        raise RecipeError.naming("{gen} {}: takes prompts; this command works on latents and classes", name)
    if getattr(generator, "draws_noise", False):
        raise RecipeError.naming(
            "{gen} {}: its sampler draws noise in its steps, so its images are no function of the latent; this command "
            "needs a deterministic sampler such as DDIM with eta 0",
            name,
        )
