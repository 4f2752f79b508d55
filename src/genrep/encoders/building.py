"""From the name of an architecture to a network: ResNets here, vision transformers by ``vision_transformer.build_vit``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from genrep.errors import WeightsError, one_of
from genrep.seeding import derive

from .architectures import PATCH, STEMS, Architecture, architecture
from .networks import WIDTH, Encoder, ResNet, guard_convolutions, seeded


def build_encoder(
    arch: str,
    stem: str,
    seed: int,
    *,
    zero_init_residual: bool = False,
    size: int | None = None,
    model: Mapping[str, Any] | None = None,
    drop_path: float = 0.0,
) -> Encoder:
    """An encoder, with the initialisation of torchvision or timm drawn from ``seed``.

    Shape of its forward: ``(N, 3, H, W) -> (N, encoder.width)``.

    Args:
        arch: as ``architectures.py`` has it.
        stem: of a ResNet. ``imagenet``: torchvision's 7x7 convolution of stride 2 and max-pooling; ``cifar``: 3x3 of stride 1
            and no pooling, for small images (SimCLR, appendix B.9). Of a vision transformer ``imagenet`` (which is not used)
            or ``patch``.
        zero_init_residual: the weight of the last batch norm of every residual branch (bn3 of bottlenecks, bn2 of basic
            blocks) begins at 0, so that every block begins as the identity (Goyal et al. 2017, section 5.1; SimSiam).
        size: of a vision transformer: side in pixels of the images that its positions are made for.  Default 224.
        model: of a vision transformer: what else it is built from, see ``vision_transformer.py``.
        drop_path: of a vision transformer: probability that a branch of the last block is left out, linear over the blocks
            (Huang et al. 2016). Draws from torch's own generator.

    Raises:
        WeightsError: an unknown arch or stem, or a setting that the architecture does not have.
    """
    parsed = architecture(arch)
    if parsed.is_vit:
        from .vision_transformer import build_vit  # timm, which takes seconds to import

        if stem not in ("imagenet", PATCH):
            raise WeightsError.naming("{stem} {}: {arch} {} is a vision transformer, which has patches", stem, arch)
        if zero_init_residual:
            raise WeightsError.naming("{zero_init_residual}: {arch} {} is a vision transformer, which has none", arch)
        with seeded(derive("encoder", seed)):
            return build_vit(parsed, size or 224, model or {}, drop_path=drop_path)
    if stem not in STEMS:
        raise WeightsError(f"stem {stem!r}: wanted one of {one_of(stem, STEMS)}")
    given = {**(model or {}), **({"drop_path": drop_path} if drop_path else {})}
    for name, value in given.items():
        raise WeightsError.naming(f"{{{name}}} {{}}: {{arch}} {{}} is a ResNet, which has none", value, arch)
    with seeded(derive("encoder", seed)):
        encoder = _resnet(parsed, zero_init_residual=zero_init_residual)
        if stem == "cifar":
            encoder.conv1 = nn.Conv2d(3, encoder.conv1.out_channels, kernel_size=3, stride=1, padding=1, bias=False)
            nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
            encoder.maxpool = nn.Identity()
    encoder.fc = nn.Identity()
    guard_convolutions(encoder)
    return encoder


def _resnet(arch: Architecture, *, zero_init_residual: bool) -> ResNet:
    """torchvision's network of this name, of another width if the name says one."""
    made = getattr(torchvision.models, arch.name)
    width = arch.numbers.get("width", WIDTH)
    if width == WIDTH:
        whole: ResNet = made(weights=None, zero_init_residual=zero_init_residual)
        whole.__class__ = ResNet
        return whole
    with torch.device("meta"):  # for its blocks and how many there are
        pattern = made(weights=None)
    network = ResNet.__new__(ResNet)
    nn.Module.__init__(network)
    network._norm_layer, network.inplanes, network.dilation = nn.BatchNorm2d, width, 1
    network.groups, network.base_width = 1, WIDTH  # of the convolutions in blocks
    network.conv1 = nn.Conv2d(3, width, kernel_size=7, stride=2, padding=3, bias=False)
    network.bn1, network.relu = nn.BatchNorm2d(width), nn.ReLU(inplace=True)
    network.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
    for number in range(4):
        blocks = getattr(pattern, f"layer{number + 1}")
        stage = network._make_layer(type(blocks[0]), width << number, len(blocks), stride=1 if number == 0 else 2)
        setattr(network, f"layer{number + 1}", stage)
    network.avgpool = nn.AdaptiveAvgPool2d((1, 1))
    for module in network.modules():  # as torchvision does
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if zero_init_residual and isinstance(module, (BasicBlock, Bottleneck)):
            nn.init.zeros_((module.bn3 if isinstance(module, Bottleneck) else module.bn2).weight)
    return network
