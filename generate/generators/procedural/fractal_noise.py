"""Noise whose spectrum falls as 1 / f^a, the statistical models "Spectrum" and "Spectrum + Color" of Baradad et al. 2021.

A latent is white noise of the image's size in three channels, followed by a few normal numbers. The noise is filtered so that
amplitudes fall as ``1 / (|fx|^a + |fy|^b)``. The mean of a and b is uniform between the options ``flattest`` and ``steepest``,
and half their difference is normal. With the model "spectrum_color" the three channels are then mixed by a random matrix, so
that colours of an image are correlated as they are in photographs. Each channel gets a mean and a deviation of photographs.

Images are differentiable in all numbers.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..base import LatentSpec
from . import options
from .arithmetic import exp, fold, natural_colours, uniform

WEIGHTLESS = True
LAW = 1  # raise it when a latent's image changes
OPTIONS = frozenset({"height", "width", "model", "flattest", "steepest"})
MODELS = ("spectrum", "spectrum_color")
DIFFERENCE = 0.05  # deviation of half the difference of the two exponents: the paper's 3 / 60
CHUNKS = (2, 9, 6)  # exponents, mixing of the channels, their means and deviations


def open_plain(
    *,
    device: str | torch.device = "cpu",
    height: int = 64,
    width: int = 64,
    model: str = "spectrum_color",
    flattest: float = 0.5,
    steepest: float = 3.5,
) -> FractalNoise:
    """The generator.

    Args:
        device: where the tables lie.
        height: of the images, in pixels.
        width: of the images, in pixels.
        model: "spectrum" (channels independent of each other) or "spectrum_color".
        flattest: least exponent of the amplitudes.
        steepest: largest exponent of the amplitudes.

    Raises RecipeError for a value that is none of these.
    """
    least = options.number("flattest", flattest, 0.0, 6.0)
    return FractalNoise(
        options.image_shape(height, width),
        mixed=options.choice("model", model, MODELS) == "spectrum_color",
        exponents=(least, options.number("steepest", steepest, least, 6.0)),
        device=device,
    )


class FractalNoise:
    """See the module."""

    num_classes = 0

    def __init__(
        self, shape: tuple[int, int], *, mixed: bool, exponents: tuple[float, float], device: str | torch.device
    ) -> None:
        self.image_shape = shape
        self.mixed = mixed
        self.exponents = exponents
        self.log_frequencies = tuple(_log_frequencies(size).to(device) for size in shape)  # of rows, of columns
        noise = 3 * shape[0] * shape[1]
        # Chunks: the noise, the exponents, the mixing of channels, their means and deviations. A view may move one alone.
        self.latent = LatentSpec(dim=noise + sum(CHUNKS), chunks=(noise, *CHUNKS))

    def slopes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The exponents along x and y that normal numbers stand for. Shape: ``(B, 2) -> (B,), (B,)``."""
        least, most = self.exponents
        middle = least + (most - least) * uniform(z[:, 0])
        difference = z[:, 1] * DIFFERENCE
        return (middle + difference).clamp(0.0, 8.0), (middle - difference).clamp(0.0, 8.0)

    def amplitudes(self, slope_x: Tensor, slope_y: Tensor) -> Tensor:
        """The filter, whose mean square over all frequencies is 1 and whose mean is 0. Shape: ``(B,) -> (B, H, W)``."""
        rows, columns = self.log_frequencies
        fall_y, fall_x = exp(slope_y[:, None] * rows), exp(slope_x[:, None] * columns)  # |fy|^b (B, H), |fx|^a (B, W)
        fall_y, fall_x = fall_y * _not_first(rows), fall_x * _not_first(columns)
        both = fall_y[:, :, None] + fall_x[:, None, :]
        mean = torch.zeros_like(both, dtype=torch.bool)
        mean[:, 0, 0] = True
        filters = torch.where(mean, torch.zeros_like(both), 1.0 / torch.where(mean, torch.ones_like(both), both))
        power = fold((filters * filters).flatten(1)) / filters[0].numel()
        return filters / torch.sqrt(power)[:, None, None]

    def synthesize(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """See ``Generator.synthesize``."""
        height, width = self.image_shape
        noise, slopes, mixing, statistics = z.float().split([3 * height * width, *CHUNKS], dim=1)
        images = self.filtered(noise.unflatten(1, (3, height, width)), self.amplitudes(*self.slopes(slopes)))
        if self.mixed:
            rows = mixing.unflatten(1, (3, 3))
            rows = rows / torch.sqrt(fold(rows * rows) + 1e-12)[:, :, None]  # each channel keeps unit deviation
            images = sum(rows[:, :, k, None, None] * images[:, k : k + 1] for k in range(3))
        return natural_colours(images, statistics)

    def filtered(self, noise: Tensor, filters: Tensor) -> Tensor:
        """White noise with these amplitudes. Shapes: ``(B, 3, H, W)``, ``(B, H, W)``."""
        half = filters[:, None, :, : self.image_shape[1] // 2 + 1]

        def one(noise: Tensor, half: Tensor) -> Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(noise) * half, s=self.image_shape)

        if noise.device.type != "cpu":
            return one(noise, half)
        # One after the other: libraries choose the order of additions by the number of transforms.
        return torch.stack([one(*each) for each in zip(noise, half)])


def _log_frequencies(size: int) -> Tensor:
    """Logarithms of the frequencies of a row of pixels, in cycles per pixel; 0 for the frequency 0. Shape: ``(size,)``."""
    frequencies = [min(i, size - i) / size for i in range(size)]
    return torch.tensor([math.log(f) if f else 0.0 for f in frequencies], dtype=torch.float32)


def _not_first(values: Tensor) -> Tensor:
    """0 at the frequency 0, else 1."""
    return (torch.arange(len(values), device=values.device) > 0).float()
