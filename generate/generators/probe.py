"""Check that a generator returns what the protocol promises, with a one-line error for each possible fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from genrep.errors import GeneratorError, Phrase, phrase
from genrep.progress import note
from genrep.seeding import StepNoise

from .base import Generator
from .calls import synthesize

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .calls import Condition

FIRST, CHUNK, ENOUGH = 2, 8, 64  # images in every probe; then, if no value was negative, per batch and in all
VALUES = 1 << 12  # values kept from a batch of these
ROUNDING = 0.02  # below 0 that images in [0, 1] may get by filters and number formats
OVERSHOOT = 1.5  # a generator in [-1, 1] that reaches this also goes below 0
HALF, NEAR_ZERO = 0.5, 0.1  # images in [0, 1] exceed the one, and a hundredth of their values is below the other
MEND = "if its range is {range}, return {formula}; if it is right, set allow_range = True on the generator"
MEND_OF_UNIT = MEND.format(range="that", formula="2x - 1")
LARGEST_VALUE = 100.0  # in a sane image; published networks overshoot [-1, 1], seeded random weights reach 17


def check_images(images: object, z: Tensor, generator: Generator, where: str | Phrase) -> Tensor:
    """Return the images if they are float ``(B, 3, H, W)`` on the latents' device. ``where`` begins the error's line.

    Raises:
        GeneratorError: otherwise.
    """
    import torch

    if not isinstance(images, torch.Tensor) or not images.is_floating_point():
        found = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise GeneratorError.naming("{}: synthesize gave {}, wanted a float tensor", where, found)
    wanted = (len(z), 3, *generator.image_shape)
    if tuple(images.shape) != wanted:
        raise GeneratorError.naming("{}: images of shape {}, wanted {}", where, tuple(images.shape), wanted)
    if images.device.type != z.device.type:
        raise GeneratorError.naming("{}: images on {}, wanted {} where the latents are", where, images.device, z.device)
    return images


def largest_values(images: Tensor) -> Tensor:
    """Largest absolute value of each image, NaN if it holds one. Shape: ``(B, 3, H, W) -> (B,)``."""
    return images.detach().float().abs().amax(dim=(1, 2, 3))


def first_insane(largest: Tensor) -> tuple[int, float] | None:
    """Row and value of the first of ``largest_values`` that is not finite or exceeds LARGEST_VALUE; None if all are sane."""
    import torch

    bad = torch.nonzero(~(largest <= LARGEST_VALUE))  # also true for NaN
    return (int(bad[0]), float(largest[int(bad[0])])) if len(bad) else None


def require_sane(largest: Tensor, named: Callable[[int], str | Phrase]) -> None:
    """Raise GeneratorError at the first of ``largest_values`` that is not sane; ``named(row)`` says whose image it is."""
    if (insane := first_insane(largest)) is not None:
        raise GeneratorError.naming(
            "{}: image values up to {}, wanted finite and <= {:.0f}", named(insane[0]), insane[1], LARGEST_VALUE
        )


def probe(generator: Generator, name: str, device: str | torch.device) -> None:
    """Probe an unknown generator with a few latents before a dataset is begun.

    Raises:
        GeneratorError: it raised, or its images have another shape, kind, device or range than promised.
    """
    where = phrase("{gen} {}", name)
    images = _synthesized(generator, 0, FIRST, device, where)
    if (insane := first_insane(largest_values(images))) is not None:
        raise GeneratorError.naming(
            "{}: image values up to {}, wanted finite and nominally in [-1, 1] (at most {:.0f}){}",
            where,
            insane[1],
            LARGEST_VALUE,
            _mend_of_bytes(insane[1]),
        )
    if not getattr(generator, "allow_range", False):
        _check_range(generator, images, device, where)


def _synthesized(
    generator: Generator, first: int, count: int, device: str | torch.device, where: str | Phrase
) -> Tensor:
    """The images of pairs ``first`` and up. Raises GeneratorError."""
    import numpy as np
    import torch

    z, y = _inputs(generator, device, first, count)
    try:
        with torch.no_grad():
            images: object = synthesize(generator, z, y, StepNoise(0, np.arange(first, first + count)))
    except Exception as error:
        raise GeneratorError.naming(
            "{}: synthesize raised {} for z {} on {}: {}",
            where,
            type(error).__name__,
            (count, *generator.latent.shape),
            z.device,
            error,
        ) from error
    return check_images(images, z, generator, where)


def _mend_of_bytes(largest: float) -> str:
    return f"; {MEND.format(range='[0, 255]', formula='x / 127.5 - 1')}" if LARGEST_VALUE < largest <= 256 else ""


def _check_range(generator: Generator, images: Tensor, device: str | torch.device, where: Phrase) -> None:
    """Refuse images that begin at 0: nothing is darker than a middle gray, and yet much is just that or exceeds 1.

    In [-1, 1] the value 0 is a gray like any other. A generator of bright images may never go below it, but then has no
    reason to end there; one in [0, 1] has its black there. Two images tell nearly every right generator; only those
    without a negative value are looked at longer. Where that does not settle it, the range is remarked on, not refused.

    Raises GeneratorError.
    """
    import torch

    seen: list[Tensor] = []
    first = 0
    while True:
        values = images.detach().float().cpu().reshape(-1)
        if float(values.min()) < -ROUNDING:
            return
        step = max(1, len(values) // VALUES)
        seen.append(torch.cat([values[::step], torch.stack(values.aminmax())]))
        first += len(images)
        if first >= ENOUGH:
            break
        images = _synthesized(generator, first, min(CHUNK, ENOUGH - first), device, where)
    together = torch.cat(seen)
    largest = float(together.max())
    found = f"no value below 0 and values up to {largest:.3g} in {first} images"
    wanted = "wanted nominally [-1, 1]"
    if largest > OVERSHOOT:
        formula = "x / 127.5 - 1" if largest > LARGEST_VALUE else f"2x / {largest:.3g} - 1, or with its true maximum"
        raise GeneratorError.naming(
            "{}: {}, {}; {}", where, found, wanted, MEND.format(range=f"[0, {largest:.3g}]", formula=formula)
        )
    if largest < HALF:
        return  # nearly one gray: nothing to tell a range by
    if float(together.quantile(0.01)) < NEAR_ZERO:
        raise GeneratorError.naming(
            "{}: {}, {}; {}", where, found, wanted, MEND.format(range="[0, 1]", formula="2x - 1")
        )
    note(f"{where.in_shell()}: {found}: bright images, or the range [0, 1] ({MEND_OF_UNIT})")


def require_gradient(generator: Generator, name: str, device: str | torch.device) -> None:
    """Check that images have a gradient with respect to z, which fits of walks and navigators need.

    Raises:
        GeneratorError: there is no gradient, or it is not finite.
    """
    import torch

    z, y = _inputs(generator, device)
    z.requires_grad_(True)
    with torch.enable_grad():
        try:
            found: object = synthesize(generator, z, y)
        except Exception as error:
            raise GeneratorError.naming(
                "{gen} {}: synthesize raised {} for a z that requires its gradient: {}",
                name,
                type(error).__name__,
                error,
            ) from error
        images = check_images(found, z, generator, phrase("{gen} {}", name))
        if not images.requires_grad:
            raise GeneratorError.naming(
                "{gen} {}: its images carry no gradient back to z (no_grad, detach or numpy inside?), which this command needs",
                name,
            )
        (gradient,) = torch.autograd.grad(images.float().square().sum(), z, allow_unused=True)
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        found = "none" if gradient is None else "not finite"
        raise GeneratorError.naming(
            "{gen} {}: the gradient of its images with respect to z is {}, wanted a finite one", name, found
        )


def _inputs(
    generator: Generator, device: str | torch.device, first: int = 0, count: int = FIRST
) -> tuple[Tensor, Condition]:
    import numpy as np
    import torch

    index = np.arange(first, first + count)
    z = torch.from_numpy(generator.latent.sample(0, index)).to(device)
    if getattr(generator, "takes_prompts", False):
        return z, ("a photograph",) * count
    if not generator.num_classes:
        return z, None
    classes = index // FIRST % generator.num_classes
    if getattr(generator, "instances", None) is not None:  # then y is a row of them, and there may be only one
        classes = np.zeros_like(classes)
    return z, torch.from_numpy(classes).to(device)
