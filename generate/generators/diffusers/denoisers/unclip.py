"""Stable unCLIP: the embedding of an image, noised to a level, beside the prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from genrep.errors import GeneratorError, WeightsError
from genrep.untrusted import shown

from .stable_diffusion import PromptDenoiser

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import Conditions

MAX_SIDE = 1024
PREPROCESSING = {"size", "crop_size", "image_mean", "image_std"}


class UnclipDenoiser(PromptDenoiser):
    """See ``Denoiser``. Without an image its embedding is 0, which guidance leads away from."""

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """See ``Denoiser.conditions``."""
        import torch

        found = super().conditions(y, count, device)
        width = int(self.unet.config.projection_class_embeddings_input_dim)
        return {**found, "image": torch.zeros(count, width, device=device, dtype=found["text"].dtype)}

    def added(self, conditions: Conditions) -> dict[str, Tensor]:
        """The embedding, and that of no image before it where there is guidance."""
        import torch

        image = conditions["image"]
        return {"class_labels": torch.cat([torch.zeros_like(image), image]) if self.doubled else image}


class ImageEmbedder:
    """CLIP's embedding of images with noise of a level on it, and that level itself as sines and cosines."""

    def __init__(self, encoder: Any, normalizer: Any, noising: Any, preprocessing: Mapping[str, Any]) -> None:
        self.encoder, self.normalizer, self.noising = encoder, normalizer, noising
        self.size, self.crop = _side(preprocessing, "size"), _side(preprocessing, "crop_size")
        self.mean, self.std = _colours(preprocessing, "image_mean"), _colours(preprocessing, "image_std")
        self.levels = int(noising.config.num_train_timesteps)
        self.width = int(encoder.config.projection_dim)

    def pixels(self, images: Tensor) -> Tensor:
        """Images as the encoder takes them: shorter side resized, centre cut out, normalised. ``(B, 3, H, W)`` in [-1, 1]."""
        import torch

        height, width = images.shape[2:]
        scale = self.size / min(height, width)
        shape = [self.size if side == min(height, width) else int(side * scale) for side in (height, width)]
        found = images.float()
        for sides in ((height, shape[1]), shape):  # side by side, the range kept in between: as the library resizes
            found = torch.nn.functional.interpolate(found, sides, mode="bicubic", antialias=True).clamp(-1, 1)
        top, left = (shape[0] - self.crop) // 2, (shape[1] - self.crop) // 2
        found = found[:, :, top : top + self.crop, left : left + self.crop] / 2 + 0.5
        mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in (self.mean, self.std))
        return (found - mean) / std

    def __call__(self, images: Tensor, level: Tensor, noise: Tensor) -> Tensor:
        """Shapes: images ``(B, 3, H, W)``, level ``(B,)`` int64, noise ``(B, width)`` -> ``(B, 2 width)``.

        Raises GeneratorError for a level that there is not.
        """
        import torch
        from diffusers.models.embeddings import get_timestep_embedding

        if level.shape != (len(images),) or not bool(((level >= 0) & (level < self.levels)).all()):
            raise GeneratorError(f"noise_level: wanted whole numbers from 0 to {self.levels - 1}, one for each image")
        found = self.encoder(self.pixels(images).to(self.encoder.dtype)).image_embeds
        found = self.normalizer.scale(found)
        found = self.noising.add_noise(found, timesteps=level, noise=noise.to(found.dtype))
        found = self.normalizer.unscale(found)
        times = get_timestep_embedding(
            timesteps=level, embedding_dim=found.shape[-1], flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return torch.cat((found, times.to(found.dtype)), 1)


def _side(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key)
    if isinstance(value, dict):
        value = value.get("shortest_edge", value.get("height"))
    if type(value) is not int or not 1 <= value <= MAX_SIDE:
        raise WeightsError(f"feature_extractor: {key} is {shown(settings.get(key))}, wanted 1 to {MAX_SIDE} pixels")
    return value


def _colours(settings: Mapping[str, Any], key: str) -> list[float]:
    value = settings.get(key)
    if not (isinstance(value, list) and len(value) == 3 and all(type(item) in (int, float) for item in value)):
        raise WeightsError(f"feature_extractor: {key} is {shown(value)}, wanted three numbers")
    return [float(item) for item in value]
