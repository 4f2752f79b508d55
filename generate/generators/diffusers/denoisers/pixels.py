"""UNet2DModel on pixels: unconditional, or with classes of which the last may be the null class of guidance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from genrep.errors import WeightsError

from .base import class_labels, guided_halves

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .base import Conditions


class PixelDenoiser:
    """See ``Denoiser``."""

    takes_prompts = False

    def __init__(self, unet: Any, guidance: float, *, null_class: bool) -> None:
        embedded = unet.config.num_class_embeds
        if null_class and not (embedded or 0) > 1:
            raise WeightsError("model_index.json says that the last class is the null class, but unet has no classes")
        if unet.config.class_embed_type is not None:
            raise WeightsError(
                f"unet takes conditions of the kind {unet.config.class_embed_type}, wanted classes or none"
            )
        self.unet, self.guidance = unet, guidance
        self.null = embedded - 1 if null_class else None
        self.num_classes = int(embedded or 0) - int(null_class)

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """See ``Denoiser.conditions``."""
        if not self.num_classes:
            return {}
        return {"labels": class_labels(y, count, self.num_classes, self.null, device)}

    def predict(self, sample: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """See ``Denoiser.predict``."""
        import torch

        labels = conditions.get("labels")
        if labels is None or self.null is None or self.guidance <= 1:
            return self.unet(sample, t, class_labels=labels, return_dict=False)[0]
        both = torch.cat([torch.full_like(labels, self.null), labels])
        output = self.unet(torch.cat([sample, sample]), t, class_labels=both, return_dict=False)[0]
        return guided_halves(output, self.guidance)
