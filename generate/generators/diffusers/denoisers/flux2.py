"""FLUX.2 [klein]: a transformer on patches of latents, with states of a language model as the prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..text import PromptCache, texts
from .base import guided

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import Conditions


class Flux2Denoiser:
    """See ``Denoiser``."""

    takes_prompts = True
    num_classes = 0

    def __init__(self, transformer: Any, prompts: PromptCache, guidance: float, negative: str) -> None:
        self.transformer, self.prompts, self.guidance, self.negative = transformer, prompts, guidance, negative

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """See ``Denoiser.conditions``."""
        found = {"text": self.prompts(texts(y, count))}
        if self.guidance > 1:
            found["negative"] = self.prompts([self.negative]).expand(count, -1, -1)
        return found

    def predict(self, sample: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """See ``Denoiser.predict``."""
        cond = self._one(sample, t, conditions["text"])
        return guided(self._one(sample, t, conditions["negative"]), cond, self.guidance) if self.guidance > 1 else cond

    def _one(self, sample: Tensor, t: Tensor, text: Tensor) -> Tensor:
        batch, channels, height, width = sample.shape
        times = t.expand(batch).to(sample.device, sample.dtype)
        output = self.transformer(
            hidden_states=sample.reshape(batch, channels, height * width).permute(0, 2, 1),
            timestep=times / 1000,
            guidance=None,
            encoder_hidden_states=text,
            txt_ids=places(1, 1, text.shape[1], sample.device).expand(batch, -1, -1),
            img_ids=places(height, width, 1, sample.device).expand(batch, -1, -1),
            return_dict=False,
        )[0]
        return output.permute(0, 2, 1).reshape(batch, channels, height, width)


def places(height: int, width: int, length: int, device: torch.device) -> Tensor:
    """Coordinates (time, row, column, number in the text) of tokens. Shape: ``(1, height * width * length, 4)``."""
    import torch

    sides = (torch.arange(side, device=device) for side in (1, height, width, length))
    return torch.cartesian_prod(*sides).unsqueeze(0)


def shift(tokens: int, steps: int) -> float:
    """The shift of the timesteps that the authors found for so many tokens of an image and steps."""
    many = 0.00016927 * tokens + 0.45666666  # fits of 200 and of 10 steps, as published with the model
    if tokens > 4300:
        return many
    few = 8.73809524e-05 * tokens + 1.89833333
    slope = (many - few) / 190.0
    return slope * steps + (many - 200.0 * slope)
