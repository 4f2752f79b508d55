"""Pixel views T_x: random crops, flips, colours and blurs of a batch of images, in whole-batch tensor operations.

Every sample and view draws its own parameters from a counter-based stream keyed by (seed, epoch, index, view), so that an
image gets the same view whatever else is in its batch, on one process or eight, before and after a resume.

    parameters.draw(views, keys…)  ->  ViewParameters   (NumPy, on the CPU)
    apply.apply_views(images, parameters, …)  ->  tensor  (PyTorch, on the images' device)
    dense.differentiable_views(images, parameters, …)  ->  the same of float images, with a gradient

This module itself is light: it holds the settings and their names.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "PIXEL_VIEWS",
    "SEVERAL_LAWS",
    "VIEW_NAMES",
    "PixelViews",
    "ViewLaws",
    "local_view",
    "view_laws",
]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class PixelViews:
    """A law of views, in the order in which it is applied; the defaults are SimCLR's as GenRep and COP-Gen use them.

    Source: Jahanian et al. 2022 (GenRep), appendix; the released code's order of operations. Blur: Chen et al. 2020
    (SimCLR), appendix A: a kernel of a tenth of the side. RandAugment: Cubuk et al. 2020, with torchvision's fourteen
    operations on 8-bit images, nearest neighbours, and black where an image was moved away.
    """

    random_crop: bool = True  # RandomResizedCrop; False: the central square
    centre: int | None = (
        None  # side in pixels of the central square, which is resized to the output; None: the output's
    )
    scale: tuple[float, float] = (0.2, 1.0)  # of the image's area
    ratio: tuple[float, float] = (3 / 4, 4 / 3)  # width / height
    flip: float = 0.5  # probability
    degrees: float = 0.0  # RandomAffine: the angle is uniform in ± this
    translate: float = 0.0  # shifts are uniform in ± this, in sides, and rounded to pixels
    zoom: tuple[float, float] = (1.0, 1.0)  # uniform
    jitter: float = 0.8  # probability of brightness, contrast, saturation and hue together, in random order
    brightness: float = 0.4  # factors are uniform in 1 ± this
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1  # shifts are uniform in ± this, in turns of the colour wheel
    blur: float = 0.0  # probability
    sigma: tuple[float, float] = (0.1, 2.0)  # of the blur, in pixels; uniform
    rand_operations: int = 0  # RandAugment's n
    rand_magnitude: int = 10  # RandAugment's m, of 30
    grayscale: float = 0.2  # probability
    solarize: float = 0.0  # probability of inverting the values from 128 of 255 on
    downsample: float = 0.0  # probability of losing detail before the crop (StableRep, Tian et al. 2023)
    downsample_to: tuple[int, ...] = (64, 128)  # pixels of the shorter side that detail is kept of; one is drawn

    @property
    def affine(self) -> bool:
        """Whether images are turned, shifted or zoomed as in RandomAffine."""
        return bool(self.degrees or self.translate) or self.zoom != (1.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class ViewLaws:
    """Laws of views that differ: those of the global views, in turns, and that of local crops."""

    views: tuple[PixelViews, ...]
    local: PixelViews

    def of(self, view: int) -> PixelViews:
        """The law of a global view, by its number."""
        return self.views[view % len(self.views)]


LOCAL_SCALE = (0.05, 0.4)  # of the image's area: DINO (Caron et al. 2021), main_dino.py
_LOCAL = 256  # more than there are global views


def local_view(view: int, crop: int) -> int:
    """The number, for the streams of pixel views, of local crop 0, 1, … of the image of a global view."""
    return view + _LOCAL * (crop + 1)


def view_laws(
    name: str,
    *,
    centre: int | None = None,
    scale: tuple[float, float] | None = None,
    local_scale: tuple[float, float] | None = None,
) -> ViewLaws:
    """The laws of a name in ``VIEW_NAMES``; local crops of a single law are of the same one, with another scale.

    Args:
        centre: see ``PixelViews``.
        scale, local_scale: of the crops, instead of the laws' own.
    """
    if name in PIXEL_VIEWS:
        found = ViewLaws(views=(PIXEL_VIEWS[name],), local=replace(PIXEL_VIEWS[name], scale=LOCAL_SCALE))
    else:
        found = SEVERAL_LAWS[name]
    return ViewLaws(
        views=tuple(replace(law, centre=centre, scale=scale or law.scale) for law in found.views),
        local=replace(found.local, scale=local_scale or found.local.scale),
    )


_NO_COLOR = PixelViews(jitter=0.0, grayscale=0.0)
_NONE = replace(_NO_COLOR, random_crop=False, flip=0.0)


def _of_byol(scale: tuple[float, float], local: tuple[float, float]) -> ViewLaws:
    """BYOL's two augmentations (Grill et al. 2020, appendix B), which MoCo v3, DINO and SynCLR take, and DINO's local one."""
    both = PixelViews(scale=scale, saturation=0.2)
    first, second = replace(both, blur=1.0), replace(both, blur=0.1, solarize=0.2)
    return ViewLaws(views=(first, second), local=replace(both, scale=local, blur=0.5))


PIXEL_VIEWS = {  # the law of all views
    "simclr": PixelViews(),
    "no-color": _NO_COLOR,
    "no-crop": PixelViews(random_crop=False),
    "none": _NONE,
    "simclr-blur": PixelViews(blur=0.5),
    "stablerep": PixelViews(scale=(0.08, 1.0), blur=0.5, downsample=0.05),  # its authors' code
    # Tian et al. 2020; strengths and order of their code, RandAugment by torchvision instead of timm.
    "infomin": PixelViews(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur=0.5, rand_operations=2),
    # Li et al. 2022 (COP-Gen), appendix D.
    "mnist": replace(_NONE, degrees=10.0, translate=0.1, zoom=(0.9, 1.1)),
}

SEVERAL_LAWS = {  # laws that differ from view to view
    "mocov3": _of_byol((0.08, 1.0), local=LOCAL_SCALE),  # main_moco.py: --crop-min
    "dino": _of_byol((0.4, 1.0), local=LOCAL_SCALE),  # main_dino.py: --global_crops_scale, --local_crops_scale
    "synclr": _of_byol((0.32, 1.0), local=(0.08, 0.32)),  # its authors' code
}
VIEW_NAMES: Mapping[str, object] = ChainMap(SEVERAL_LAWS, PIXEL_VIEWS)  # type: ignore[arg-type]  # all that view_laws knows
