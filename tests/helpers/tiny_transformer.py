"""The least network whose patches can be masked: four patches of 2x2 pixels of a 4x4 image, and a class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genrep.encoders.networks import Features


class TinyTransformer(nn.Module):
    """(N, 3, 4, 4) -> (N, width); tokens see each other through their mean."""

    takes_masks = True
    has_class_token = True

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = self.width = width
        self.patches, self.mix = nn.Linear(12, width), nn.Linear(2 * width, width)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 4)

    def forward(
        self, images: Tensor, *, tokens: bool = False, mask: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor | Features:
        cut = images.unfold(2, 2, 2).unfold(3, 2, 2)  # (N, 3, h, w, 2, 2)
        grid = (cut.shape[2], cut.shape[3])
        x = self.patches(cut.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2))
        if mask is not None:
            assert mask_token is not None
            x = torch.where(mask[:, :, None], mask_token.to(x.dtype), x)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)
        x = self.mix(torch.cat([x, x.mean(dim=1, keepdim=True).expand_as(x)], dim=2)).tanh()
        found = Features(pooled=x[:, 0], cls=x[:, 0], patches=x[:, 1:], grid=grid)
        return found if tokens else found.pooled
