"""Which images of a sample the network sees."""

from __future__ import annotations

from genrep.pixel_views import PIXEL_VIEWS
from genrep.settings import config, setting

POSITIVES = ("stored", "anchor", "random", "all")


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
        choices=PIXEL_VIEWS,
        help="Pixel augmentations of all views. simclr: random crop, flip, colour jitter, grayscale; "
        "no-color: crop and flip; no-crop: simclr without crop; simclr-blur: simclr and blur; infomin: "
        "InfoMin's; mnist: small rotations, shifts and zooms; none: no augmentation.",
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
