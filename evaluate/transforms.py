"""How an image becomes the square that an encoder sees: whole, centrally cropped, or a random crop of training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genrep.pixel_views import PIXEL_VIEWS, PixelViews

from .strong_augmentation import rand_augmented

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class Transform:
    """The transform of test images, and of training images where nothing is random."""

    resize: int | None = None  # pixels of the shorter side; None: as it is
    crop: int | None = None  # side of the central square; None: all of it
    stretch: bool = False  # both sides become ``resize``
    bicubic: bool = False  # else bilinear; both with antialiasing, by Pillow on 8-bit images

    def __call__(self, image: Image) -> Pixels:
        """Shape: ``(H, W, 3)``."""
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        if self.resize is not None:
            mode = InterpolationMode.BICUBIC if self.bicubic else InterpolationMode.BILINEAR
            image = F.resize(image, [self.resize] * (2 if self.stretch else 1), mode)
        if self.crop is not None:
            image = F.center_crop(image, [self.crop])
        return np.asarray(image)

    @property
    def changes_nothing(self) -> bool:
        """Whether images are taken as they are."""
        return self.resize is None and self.crop is None

    def shape(self, stored: tuple[int, int] | None) -> tuple[int, int] | None:
        """Height and width of the images that it makes; None where that depends on the image.

        ``stored``: those of all images, where they are alike.
        """
        if self.crop is not None:
            return self.crop, self.crop
        if self.resize is not None and (self.stretch or (stored is not None and stored[0] == stored[1])):
            return self.resize, self.resize
        return stored if self.resize is None else None

    def describe(self) -> str:
        """For a protocol."""
        if self.changes_nothing:
            return "whole images as stored"
        filter_name = "bicubic" if self.bicubic else "bilinear"
        parts = [] if self.resize is None else [f"Resize({self.resize}, {filter_name})"]
        if self.stretch:
            parts = [f"Resize({self.resize}x{self.resize}, {filter_name})"]
        return " -> ".join([*parts, *([] if self.crop is None else [f"CenterCrop({self.crop})"])])

    def sized(self, size: int | None, crop: int | None) -> Transform:
        """With another shorter side and another crop; a size alone keeps the crop's proportion."""
        if size is not None and crop is None and self.crop is not None and self.resize is not None:
            crop = max(1, round(self.crop * size / self.resize))
        return replace(self, resize=size or self.resize, crop=crop or self.crop)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """The random augmentation of training images: RandomResizedCrop and a flip, or only a flip."""

    scale: tuple[float, float] | None  # of the crop's area; None: no crop, but the test images' transform
    size: int | None = None  # pixels of the crop's side
    bicubic: bool = False  # by Pillow on 8-bit images; else bilinear
    rand_fill: tuple[int, ...] | None = None  # RandAugment with this colour outside; None: no RandAugment
    erasing: float = 0.0  # probability of random erasing

    @property
    def views(self) -> PixelViews:
        """The law of the pixel views: ``no-color`` with this scale, or without a crop."""
        law = PIXEL_VIEWS["no-color"]
        return replace(law, random_crop=False) if self.scale is None else replace(law, scale=self.scale)

    def describe(self) -> str:
        """For a protocol."""
        if self.scale is None:
            return "horizontal flip"
        bicubic = ", bicubic" if self.bicubic else ""
        said = f"RandomResizedCrop({self.size}, {self.scale[0]:g}-{self.scale[1]:g}{bicubic}), horizontal flip"
        said += "" if self.rand_fill is None else ", RandAugment (timm's rand-m9-mstd0.5-inc1)"
        return said + (f", random erasing {self.erasing:g}" if self.erasing else "")


def augmented(image: Image, augmentation: Augmentation, transform: Transform, key: dict[str, int]) -> Pixels:
    """The view of a training image that (seed, epoch, index) determine. Shape: ``(S, S, 3)``."""
    from PIL.Image import Transpose
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    from genrep.pixel_views.parameters import draw

    if augmentation.scale is None:
        image = _pil(transform(image))
    p = draw(
        augmentation.views,
        seed=key["seed"],
        epoch=key["epoch"],
        index=np.array([key["index"]]),
        view=np.zeros(1, dtype=np.int64),
        image_shape=(image.height, image.width),
        size=augmentation.size or min(image.size),
    )
    if augmentation.scale is not None:
        assert augmentation.size is not None
        box = (int(p.top[0]), int(p.left[0]), int(p.height[0]), int(p.width[0]))
        mode = InterpolationMode.BICUBIC if augmentation.bicubic else InterpolationMode.BILINEAR
        image = F.resized_crop(image, *box, [augmentation.size, augmentation.size], mode)
    image = image.transpose(Transpose.FLIP_LEFT_RIGHT) if p.flip[0] else image
    if augmentation.rand_fill is not None:
        image = rand_augmented(image, augmentation.rand_fill, **key)
    return np.asarray(image)


def _pil(pixels: Pixels) -> Any:
    from PIL import Image

    return Image.fromarray(pixels)
