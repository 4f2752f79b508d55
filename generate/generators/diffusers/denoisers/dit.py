"""DiT (Peebles and Xie 2023): classes, and a null class after the last."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import class_labels, guided

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import Conditions


class DitDenoiser:
    """See ``Denoiser``. The half of the output that is a variance is left out, and guidance is that of all channels."""

    takes_prompts = False

    def __init__(self, transformer: Any, guidance: float) -> None:
        self.transformer, self.guidance = transformer, guidance
        self.num_classes = self.null = int(transformer.config.num_embeds_ada_norm)
        self.channels = int(transformer.config.in_channels)

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """See ``Denoiser.conditions``."""
        return {"labels": class_labels(y, count, self.num_classes, self.null, device)}

    def predict(self, sample: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """See ``Denoiser.predict``."""
        import torch

        labels = conditions["labels"]
        if self.guidance > 1:
            sample = torch.cat([sample, sample])
            labels = torch.cat([labels, torch.full_like(labels, self.null)])
        times = t.reshape(1).to(sample.device).expand(len(sample))
        output = self.transformer(sample, timestep=times, class_labels=labels, return_dict=False)[0]
        output = output[:, : self.channels]
        if self.guidance <= 1:
            return output
        cond, uncond = output.chunk(2)
        return guided(uncond, cond, self.guidance)
