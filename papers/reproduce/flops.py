"""Floating-point operations of the networks that tasks run, two for each multiplication with its addition.

Kinds of work have names that a person can write into a file of measured rates:

    train resnet50 112         an image of 112 px through the encoder, forward and backward
    forward resnet50 128       through the frozen encoder
    generate bigbigan          an image of a generator
    steer bigbigan             a sample of fit-steer
    navigator bigbigan 112     an anchor of fit-navigator, with the size of what f sees
    train detector, forward detector      an image of VOC through Faster R-CNN R50-C4

``resnet18-cifar`` is the ResNet with the stem for small images. A backward pass costs two forward passes, or one
where weights get no gradient.
"""

from __future__ import annotations

import re

# Widths and numbers of blocks; the bottleneck of the deeper ones has four times the width.
BLOCKS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
WIDTHS = (64, 128, 256, 512)
# GFLOPs of an image: convolutions and products of the published architectures, as a count over their layers gives them.
GENERATORS = {
    "bigbigan": 42.2,  # BigGAN, 128 px, 96 channels, attention at 64 px
    "biggan_deep_256": 58.8,
    "stylegan2_car": 119.3,  # config F at 512 px
    "stylegan2_car_hl": 119.3,
    "stylegan2_cifar10": 8.0,
    "stylegan2_fashion": 0.0273,
    "stylegan2_fashion_cond": 0.0273,
}
# Faster R-CNN R50-C4: stages up to res4 at 640 x 853 px (the mean of 480 … 800) or 800 x 1067, res5 on 512 or 1,000 regions.
DETECTOR_FORWARD = {
    "train": 6.55 * 640 * 853 / 224**2 + 512 * 1.62,
    "forward": 6.55 * 800 * 1067 / 224**2 + 1000 * 1.62,
}
BACKWARD = 2.0  # forward passes; half of it without gradients of the weights
KIND = re.compile(
    r"(?:(?P<mode>train|forward) (?:detector|(?P<arch>resnet\d+)(?P<stem>-cifar)? (?P<size>\d+))"
    r"|(?P<fit>generate|steer|navigator) (?P<generator>\w+)(?: (?P<seen>\d+))?)"
)


def gflops(kind: str) -> float:
    """GFLOPs of one image, or of one sample of a fit.

    >>> round(gflops("forward resnet50 224"), 1), round(gflops("train resnet50 112"), 1)
    (8.2, 6.5)

    Raises:
        ValueError: no such kind of work, or a generator that is not one of the papers'.
    """
    match = KIND.fullmatch(kind)
    if match is None:
        raise ValueError(f"{kind!r}: wanted work such as 'train resnet50 112' or 'generate bigbigan'")
    times = 1 + BACKWARD if match["mode"] == "train" else 1.0
    if match["arch"] is not None:
        if match["arch"] not in BLOCKS:
            raise ValueError(f"{kind!r}: wanted one of {', '.join(BLOCKS)}")
        return times * resnet_gflops(match["arch"], "cifar" if match["stem"] else "imagenet", int(match["size"]))
    if match["mode"] is not None:
        return times * DETECTOR_FORWARD[match["mode"]]
    if match["generator"] not in GENERATORS:
        raise ValueError(f"{kind!r}: wanted one of {', '.join(GENERATORS)}")
    image = GENERATORS[match["generator"]]
    if match["fit"] == "generate":
        return image
    through = image * (2 + BACKWARD / 2)  # the anchor; the moved one and back to its latent
    if match["fit"] == "steer":
        return through
    # f learns from two views (forward and backward), then judges them (without gradients of its weights).
    return through + 2 * resnet_gflops("resnet18", "imagenet", int(match["seen"] or 128)) * (2 + 1.5 * BACKWARD)


def resnet_gflops(arch: str, stem: str, size: int) -> float:
    """GFLOPs of an image of ``size`` pixels through a ResNet, without its classifier."""
    bottleneck = arch not in ("resnet18", "resnet34")
    side = size if stem == "cifar" else _halved(size)
    total = _conv(3, 64, 3 if stem == "cifar" else 7, side)
    side = side if stem == "cifar" else _halved(side)
    channels = 64
    for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS[arch])):
        out = width * (4 if bottleneck else 1)
        for block in range(blocks):
            before, side = side, _halved(side) if stage and not block else side
            if bottleneck:  # its stride is on the 3x3 convolution
                total += _conv(channels, width, 1, before) + _conv(width, width, 3, side) + _conv(width, out, 1, side)
            else:
                total += _conv(channels, width, 3, side) + _conv(width, out, 3, side)
            total += _conv(channels, out, 1, side) if channels != out else 0.0
            channels = out
    return total / 1e9


def _conv(channels: int, out: int, kernel: int, side: int) -> float:
    return 2.0 * channels * out * kernel**2 * side**2


def _halved(side: int) -> int:
    return -(-side // 2)
