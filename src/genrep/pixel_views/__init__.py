"""Pixel views T_x: random crops, flips and colours of a batch of images, in whole-batch tensor operations.

Every sample and view draws its own parameters from a counter-based stream keyed by (seed, epoch, index, view), so that an
image gets the same view whatever else is in its batch, on one process or eight, before and after a resume.

    parameters.draw(views, keys…)  ->  ViewParameters   (NumPy, on the CPU)
    apply.apply_views(images, parameters, …)  ->  tensor  (PyTorch, on the images' device)

This module itself is light: it holds the settings and their names.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "PIXEL_VIEWS", "PixelViews"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class PixelViews:
    """A law of views; the defaults are SimCLR's as GenRep and COP-Gen use them: no blur, no solarisation.

    Source: Jahanian et al. 2022 (GenRep), appendix; the released code's order of operations.
    """

    random_crop: bool = True  # RandomResizedCrop; False: the central square of the output's size
    scale: tuple[float, float] = (0.2, 1.0)  # of the image's area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height
    flip: float = 0.5  # probability
    jitter: float = 0.8  # probability of brightness, contrast, saturation and hue together, in random order
    brightness: float = 0.4  # factors are uniform in 1 ± this
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # shifts are uniform in ± this, in turns of the colour wheel
    grayscale: float = 0.2  # probability


PIXEL_VIEWS = {
    "simclr": PixelViews(),
    "no-color": PixelViews(jitter=0.0, grayscale=0.0),
    "no-crop": PixelViews(random_crop=False),
    "none": PixelViews(random_crop=False, flip=0.0, jitter=0.0, grayscale=0.0),
}
