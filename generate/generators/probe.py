"""Is what a generator returns what the protocol promises? One line for each thing that it can get wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.errors import GeneratorError

from .base import Generator

if TYPE_CHECKING:
    import torch
    from torch import Tensor

LARGEST_VALUE = 100.0  # of a sane image; published networks overshoot [-1, 1], seeded random weights reach 17


def check_images(images: object, z: Tensor, generator: Generator, where: str) -> Tensor:
    """Return the images if they are float ``(B, 3, H, W)`` on the latents' device. ``where`` begins the error's line.

    Raises:
        GeneratorError: otherwise.
    """
    import torch

    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise GeneratorError(f"{where}: synthesize gave {found}, wanted a float tensor")
    wanted = (len(z), 3, *generator.image_shape)
    if tuple(images.shape) != wanted:
        raise GeneratorError(f"{where}: images of shape {tuple(images.shape)}, wanted {wanted}")
    if images.device.type != z.device.type:
        raise GeneratorError(f"{where}: images on {images.device}, wanted {z.device} where the latents are")
    return images


def largest_values(images: Tensor) -> Tensor:
    """Largest absolute value of each image, NaN if it holds one. Shape: ``(B, 3, H, W) -> (B,)``."""
    return images.detach().float().abs().amax(dim=(1, 2, 3))


def first_insane(largest: Tensor) -> tuple[int, float] | None:
    """Row and value of the first of ``largest_values`` that is not finite or exceeds LARGEST_VALUE; None if all are sane."""
    import torch

    bad = torch.nonzero(~(largest <= LARGEST_VALUE))  # also true for NaN
    return (int(bad[0]), float(largest[int(bad[0])])) if len(bad) else None


def probe(generator: Generator, name: str, device: str | torch.device) -> None:
    """Two latents through a generator that nobody knows yet, before a dataset is begun.

    Raises:
        GeneratorError: it raised, or its images have another shape, kind, device or range than promised.
    """
    import torch

    where = f"--gen {name}"
    z, y = _inputs(generator, device)
    try:
        with torch.no_grad():
            images: object = generator.synthesize(z, y)
    except Exception as error:
        raise GeneratorError(
            f"{where}: synthesize raised {type(error).__name__} for z {tuple(z.shape)} on {z.device}: {error}"
        ) from error
    sane = check_images(images, z, generator, where)
    if (insane := first_insane(largest_values(sane))) is not None:
        raise GeneratorError(
            f"{where}: image values up to {insane[1]}, wanted finite and nominally in [-1, 1] (at most {LARGEST_VALUE:.0f})"
        )


def require_gradient(generator: Generator, name: str, device: str | torch.device) -> None:
    """What is learned through a generator (walks, navigators) needs the images' gradient with respect to z.

    Raises:
        GeneratorError: it does not arrive.
    """
    import torch

    z, y = _inputs(generator, device)
    z.requires_grad_(True)
    with torch.enable_grad():
        try:
            found: object = generator.synthesize(z, y)
        except Exception as error:
            raise GeneratorError(
                f"--gen {name}: synthesize raised {type(error).__name__} for a z that requires its gradient: {error}"
            ) from error
        images = check_images(found, z, generator, f"--gen {name}")
        if not images.requires_grad:
            raise GeneratorError(
                f"--gen {name}: its images carry no gradient back to z (no_grad, detach or numpy inside?); this needs it"
            )
        (gradient,) = torch.autograd.grad(images.float().square().sum(), z, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        found = "none" if gradient is None else "not finite"
        raise GeneratorError(f"--gen {name}: the gradient of its images with respect to z is {found}; this needs it")


def _inputs(generator: Generator, device: str | torch.device) -> tuple[Tensor, Tensor | None]:
    import numpy as np
    import torch

    z = torch.from_numpy(generator.latent.sample(0, np.arange(2))).to(device)
    y = torch.zeros(2, dtype=torch.int64, device=device) if generator.num_classes else None
    return z, y
