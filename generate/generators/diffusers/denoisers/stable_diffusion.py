"""Stable Diffusion 1.x and 2.x, SD-Turbo, latent consistency models: UNet2DConditionModel with a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..text import PromptCache, texts
from .base import guided_halves

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import Conditions


class PromptDenoiser:
    """See ``Denoiser``."""

    takes_prompts = True
    num_classes = 0

    def __init__(self, unet: Any, prompts: PromptCache, guidance: float, negative: str) -> None:
        self.unet, self.prompts, self.guidance, self.negative = unet, prompts, guidance, negative
        # A distilled network takes the guidance as a number and needs no second pass.
        self.embedding = unet.config.time_cond_proj_dim
        self.doubled = guidance > 1 and self.embedding is None

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """See ``Denoiser.conditions``."""
        import torch

        found = {"text": self.prompts(texts(y, count))}
        if self.doubled:
            found["negative"] = self.prompts([self.negative]).expand(count, -1, -1)
        if self.embedding is not None:
            weights = torch.full((count,), self.guidance - 1)
            found["guidance"] = embedded(weights, int(self.embedding)).to(device, found["text"].dtype)
        return found

    def predict(self, sample: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """See ``Denoiser.predict``."""
        import torch

        text, more = conditions["text"], self.added(conditions)
        if not self.doubled:
            told = {"timestep_cond": conditions.get("guidance"), **more}
            return self.unet(sample, t, encoder_hidden_states=text, return_dict=False, **told)[0]
        both, doubled = torch.cat([conditions["negative"], text]), torch.cat([sample, sample])
        output = self.unet(doubled, t, encoder_hidden_states=both, return_dict=False, **more)[0]
        return guided_halves(output, self.guidance)

    def added(self, conditions: Conditions) -> dict[str, Tensor]:
        """Further arguments of the network."""
        return {}


def embedded(weights: Tensor, width: int) -> Tensor:
    """Sines and cosines of guidance weights (Meng et al. 2023), as latent consistency models take them.

    Shape: ``(B,) -> (B, width)``.
    """
    import torch

    half = width // 2
    rates = torch.exp(torch.arange(half, dtype=torch.float32) * -(torch.log(torch.tensor(10000.0)) / (half - 1)))
    angles = (weights * 1000.0)[:, None] * rates[None, :]
    found = torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)
    return torch.nn.functional.pad(found, (0, width % 2))
