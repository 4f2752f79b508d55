"""Where the noise lives: pixels, an autoencoder's latents, or those of FLUX.2 in patches of 2 x 2."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Space(Protocol):
    """From images to what a network denoises, and back."""

    shape: tuple[int, ...]  # of one sample
    image_shape: tuple[int, int]

    def encode(self, images: Tensor) -> Tensor:
        """Shape: ``(B, 3, H, W)`` in [-1, 1] -> ``(B, *shape)``."""
        ...

    def decode(self, sample: Tensor) -> Tensor:
        """Shape: ``(B, *shape) -> (B, 3, H, W)``, not clamped."""
        ...


class PixelSpace:
    """Images themselves; one channel is gray."""

    def __init__(self, channels: int, height: int, width: int) -> None:
        self.shape: tuple[int, ...] = (channels, height, width)
        self.image_shape = (height, width)

    def encode(self, images: Tensor) -> Tensor:
        """See ``Space.encode``."""
        return images if self.shape[0] == 3 else images.mean(dim=1, keepdim=True)

    def decode(self, sample: Tensor) -> Tensor:
        """See ``Space.decode``."""
        return sample if self.shape[0] == 3 else sample.expand(-1, 3, -1, -1)


def vae_factor(vae: Any) -> int:
    """Pixels to a latent's component along a side."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


class AutoencoderSpace:
    """Latents of an autoencoder; images are encoded to the mean of their distribution.

    ``scaled``: how the sample is divided by the scaling factor, which pipelines do in two ways that round differently.
    """

    def __init__(self, vae: Any, image_shape: tuple[int, int], unscaled: Callable[[Tensor, float], Tensor]) -> None:
        factor = vae_factor(vae)
        self.vae, self.image_shape, self.unscaled = vae, image_shape, unscaled
        channels = int(vae.config.latent_channels)
        self.shape: tuple[int, ...] = (channels, image_shape[0] // factor, image_shape[1] // factor)

    def encode(self, images: Tensor) -> Tensor:
        """See ``Space.encode``."""
        return self.vae.encode(images).latent_dist.mode() * self.vae.config.scaling_factor

    def decode(self, sample: Tensor) -> Tensor:
        """See ``Space.decode``."""
        return self.vae.decode(self.unscaled(sample, self.vae.config.scaling_factor), return_dict=False)[0]


class PatchSpace:
    """Latents of FLUX.2's autoencoder: patches of 2 x 2 stacked as channels, normalised by the statistics in its weights."""

    def __init__(self, vae: Any, image_shape: tuple[int, int]) -> None:
        side = 2 * vae_factor(vae)
        self.vae, self.image_shape = vae, image_shape
        channels = 4 * int(vae.config.latent_channels)
        self.shape: tuple[int, ...] = (channels, image_shape[0] // side, image_shape[1] // side)

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        norm = self.vae.bn
        mean = norm.running_mean.view(1, -1, 1, 1).to(like.device, like.dtype)
        spread = (norm.running_var.view(1, -1, 1, 1) + self.vae.config.batch_norm_eps).sqrt()
        return mean, spread.to(like.device, like.dtype)

    def encode(self, images: Tensor) -> Tensor:
        """See ``Space.encode``."""
        latents = self.vae.encode(images).latent_dist.mode()
        batch, channels, height, width = latents.shape
        latents = latents.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
        latents = latents.reshape(batch, 4 * channels, height // 2, width // 2)
        mean, spread = self._statistics(latents)
        return (latents - mean) / spread

    def decode(self, sample: Tensor) -> Tensor:
        """See ``Space.decode``."""
        mean, spread = self._statistics(sample)
        latents = sample * spread + mean
        batch, channels, height, width = latents.shape
        latents = latents.reshape(batch, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
        latents = latents.reshape(batch, channels // 4, 2 * height, 2 * width)
        return self.vae.decode(latents, return_dict=False)[0]
