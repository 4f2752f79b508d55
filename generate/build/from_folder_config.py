"""The settings of ``genrep-generate from-folder``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from genrep.datasets_manifest.schema import MAX_SIDE, MIN_VARYING_SIDE
from genrep.errors import RecipeError
from genrep.errors import one_of

SIZE = re.compile(r"(\d{1,4})(?:x(\d{1,4}))?")
CROPS = ("center", "none")


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """What to make shards of, and how large its images shall be."""

    data: str  # an image folder, or a name: of ``genrep.images.labelled``, imagenet, imagenet100
    out: Path
    root: Path | None = None  # where a named dataset lies
    split: str = "train"
    size: str | None = None  # "256" or "HEIGHTxWIDTH": one size for all
    shorter_side: int | None = (
        None  # whole images, of at most this many pixels on the shorter side; else wants one size
    )
    crop: str = "center"  # "center": the largest central part of that shape; "none": the whole image, stretched
    encoding: str | None = None  # None = raw up to 64 pixels, JPEG above
    shard_size: str | None = None
    strict: bool = False  # an unreadable image is an error
    # From here on: how, not what.
    batch_size: int = 64
    processes: int | None = None
    download: bool = False  # fetch a named dataset that is not under root

    def __post_init__(self) -> None:
        self.shape()
        if self.shorter_side is not None:
            self._check_whole(self.shorter_side)
        if self.crop not in CROPS:
            raise RecipeError(f"--crop {self.crop!r}: wanted one of {one_of(self.crop, CROPS)}")
        if self.processes is not None and self.processes < 1:
            raise RecipeError(f"--processes {self.processes}: wanted at least 1")

    def _check_whole(self, shorter_side: int) -> None:
        if self.size is not None:
            raise RecipeError(f"--size {self.size} with --shorter-side {shorter_side}: wanted one of the two")
        if self.crop != "center":
            raise RecipeError(
                f"--crop {self.crop}: belongs to --size; --shorter-side stores the whole image in its shape"
            )
        if not MIN_VARYING_SIDE <= shorter_side <= MAX_SIDE:
            raise RecipeError(f"--shorter-side {shorter_side}: wanted {MIN_VARYING_SIDE} to {MAX_SIDE} pixels")

    def shape(self) -> tuple[int, int] | None:
        """(height, width) of ``size``. Raises RecipeError if it is none."""
        if self.size is None:
            return None
        match = SIZE.fullmatch(self.size)
        shape = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not all(1 <= side <= MAX_SIDE for side in shape):
            raise RecipeError(f"--size {self.size!r}: wanted pixels, or HEIGHTxWIDTH, from 1 to {MAX_SIDE}")
        return shape
