"""How far each parameter of an encoder stands from its output: what learning rates that fall with depth go by."""

from __future__ import annotations

import re

from torch import nn

_STAGE_BLOCK = re.compile(r"layer(\d)\.(\d+)\.")
_BLOCK = re.compile(r"blocks\.(\d+)\.")
_FIRST = ("conv1.", "bn1.", "cls_token", "reg_token", "pos_embed", "mask_token", "patch_embed.", "norm_pre.")


def layers_above(encoder: nn.Module) -> dict[str, int]:
    """The number of layers above each parameter, by its name.

    The embedding of patches, tokens and positions is the lowest layer, each block one more, and what follows the last block
    (the last norm) the highest, as BEiT and MAE count them (Bao et al. 2022; ``util/lr_decay.py`` of MAE). Of a ResNet, the
    stem and each block are a layer.

    >>> from genrep.encoders import build_encoder
    >>> found = layers_above(build_encoder("resnet18:width=4", "cifar", 0))
    >>> found["conv1.weight"], found["layer1.0.conv1.weight"], found["layer4.1.bn2.bias"]
    (9, 8, 1)
    """
    blocks: dict[tuple[int, int], None] = {}
    places: dict[str, tuple[int, int] | None] = {}
    for name, _ in encoder.named_parameters():
        if match := _STAGE_BLOCK.match(name):
            places[name] = (int(match[1]), int(match[2]))
        elif match := _BLOCK.match(name):
            places[name] = (0, int(match[1]))
        else:
            places[name] = (-1, 0) if name.startswith(_FIRST) else None
        if (place := places[name]) is not None and place[0] >= 0:
            blocks.setdefault(place)
    numbers = {place: number for number, place in enumerate(sorted(blocks), start=1)}
    top = len(numbers) + 1
    return {name: top - (top if place is None else numbers.get(place, 0)) for name, place in places.items()}
