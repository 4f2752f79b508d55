"""Which images of a sample the network sees."""

from __future__ import annotations

from genrep.pixel_views import VIEW_NAMES
from genrep.settings import config, setting

POSITIVES = ("stored", "anchor", "random", "all")


def number_range(text: str) -> tuple[float, float]:
    """Two numbers. Raises ValueError."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise ValueError(f"{text!r}: wanted two numbers with a comma between, such as .2,1") from None
    return low, high


@config
class ViewSettings:
    """Positives and pixel views."""

    positive: str | None = setting(
        default=None,
        choices=POSITIVES,
        help="Source of the second view: the stored positive, the anchor itself, one of several stored "
        "positives drawn anew each epoch, or all of them as further views.  [default: stored; anchor if "
        "the dataset stores no positives]",
    )
    pixel_views: str = setting(
        default="simclr",
        choices=VIEW_NAMES,
        help="Pixel augmentations of all views. simclr: random crop, flip, colour jitter, grayscale; "
        "no-color: crop and flip; no-crop: simclr without crop; simclr-blur: simclr and blur; infomin: "
        "InfoMin's; mnist: small rotations, shifts and zooms; none: no augmentation; stablerep: simclr-blur with loss of "
        "detail; mocov3, dino, synclr: those of that method, which differ from view to view.",
    )
    crop_scale: tuple[float, float] | None = setting(
        default=None,
        metavar="LOW,HIGH",
        parse=number_range,
        help="Range of the areas of random crops, as parts of the image's.  [default: that of --pixel-views, simclr .2,1]",
    )
    local_crops: int = setting(
        default=0,
        least=0,
        most=64,
        help="Local crops of the image of each view, for dino, ibot, synclr and lejepa. DINO's 8 of an image of two views "
        "are 4.",
    )
    local_size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of local crops.  [default: 3/7 of --crop, as 96 of 224]",
    )
    local_scale: tuple[float, float] | None = setting(
        default=None,
        metavar="LOW,HIGH",
        parse=number_range,
        help="Range of the areas of local crops, as parts of the image's.  [default: that of --pixel-views, mostly .05,.4]",
    )
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the images that the network sees.  [default: the stored size up to 64, else 112]",
    )
    centre: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the central square that pixel views without a random crop show, resized to --crop.  "
        "[default: --crop's]",
    )
