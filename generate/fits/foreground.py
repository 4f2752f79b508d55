"""``fit-foreground`` (GenView, Li et al. 2024): which patches of an encoder's map are foreground, learned from images.

The direction is the first principal component of the features of all patches of the sample images: the eigenvector of the
largest eigenvalue of their covariance, in float64, image by image in the order of the set, so that a rerun gives the same
bytes. Of the two sides of the threshold the foreground is the one that takes a larger share of the patches at the centre
of the images than of those at their borders.

The threshold is Otsu's: of all cuts of the sorted projections the one with the largest variance between the two sides. It
suits two groups of any sizes; the middle between least and largest projection would follow two single patches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_device, to_device
from genrep.encoders import load_encoder
from genrep.encoders.architectures import in_words
from genrep.encoders.loaded import OWN
from genrep.encoders.networks import Encoder
from genrep.errors import DataError, WeightsError
from genrep.files import require_writable
from genrep.images.reading import read_rgb
from genrep.images.sets import is_small, list_split, load_images, require_images
from genrep.progress import Progress, note
from genrep.seeding import derive

from ..views.foreground import STEP, noise_levels
from ..views.foreground_network import MAX_SIZE, Foreground, ForegroundFacts, Patches, load_foreground, save_foreground
from .config import ForegroundConfig
from .pictures import save_foregrounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from genrep.encoders import EncoderFacts

    Floats = NDArray[np.float64]

LEAST_PATCHES = 3  # of a map's side: a ring around a centre
SHOWN = 24  # images of the sheet


class Sample:
    """Some images of a set, drawn by the seed: the central square of each. Those that cannot be read are left out."""

    def __init__(self, config: ForegroundConfig) -> None:
        require_images(config.data)
        self.pixels: NDArray[np.uint8] | None = None
        if is_small(config.data):
            found = load_images(config.data, config.root, config.split, download=config.download)
            self.pixels, self.name, self.licence = found.images, config.data, found.licence
            self.of, self.sha256 = (
                len(found.images),
                hashlib.sha256(np.ascontiguousarray(found.images).data).hexdigest(),
            )
        else:
            listing = list_split(config.data, config.root, config.split)
            self.paths = [listing.base / name for name in listing.names]
            self.name, self.licence = listing.name, "unknown"
            self.of, self.sha256 = len(self.paths), listing.digest
        order = np.random.RandomState(derive("foreground", config.seed) % 2**32).permutation(self.of)
        self.rows: list[int] = np.sort(order[: config.num_images]).tolist()
        self.unreadable: list[str] = []

    def images(self) -> Iterator[NDArray[np.uint8]]:
        """The images that can be read, in order. Shape: ``(S, S, 3)``, each of its own size."""
        for row in list(self.rows):
            image = self.image(row)
            if image is not None:
                yield image

    def image(self, row: int) -> NDArray[np.uint8] | None:
        """One image of the set; None if it cannot be read, which is remembered."""
        if self.pixels is not None:
            return self.pixels[row]
        try:
            picture = np.array(read_rgb(self.paths[row]))
        except DataError as error:
            self.unreadable.append(str(error))
            self.rows.remove(row)
            return None
        side = min(picture.shape[:2])
        top, left = ((length - side) // 2 for length in picture.shape[:2])
        return np.ascontiguousarray(picture[top : top + side, left : left + side])


@dataclass(frozen=True, kw_only=True)
class ForegroundResult:
    """What a fit found and left behind."""

    path: Path
    sheet: Path
    encoder: str  # in words
    patches: tuple[int, int]  # of the map: rows, columns
    size: int  # pixels
    threshold: float
    images: int
    unreadable: int
    explained: float  # part of the patches' variance along the direction
    ratio: list[int]  # images by the step of their ratio: [0, .2), …, [.8, 1]


def fit_foreground(config: ForegroundConfig) -> ForegroundResult:
    """Fit direction and threshold on sample images, and write the file and its sheet.

    Raises:
        DataError: the images are missing, or none can be read.
        WeightsError: the encoder cannot be used.
        ResumeError: the file cannot be written.
    """
    require_writable(config.out.parent)
    config.out.parent.mkdir(parents=True, exist_ok=True)
    device = pick_device(config.device)
    loaded = load_encoder(config.encoder, size=config.size)
    patches = patches_of(config, loaded.module, loaded.facts).to(device)
    for line in loaded.notes:
        note(f"encoder: {line}")
    sample = Sample(config)
    with Progress(2 * len(sample.rows), "image", "patches of images, read twice") as progress:
        mean, direction, explained = principal(features_of(sample, patches, progress))
        projections = project(features_of(sample, patches, progress), mean, direction)
    if sample.unreadable:
        note(f"{len(sample.unreadable)} images cannot be read and are left out; the first: {sample.unreadable[0]}")
    cut = otsu(projections)
    if not is_central(projections, cut):
        direction, projections, cut = -direction, -projections, -cut
    threshold = cut if config.threshold == "auto" else float(config.threshold)
    notes = "; ".join(loaded.notes)
    facts = ForegroundFacts(
        data=sample.name,
        data_licence=sample.licence,
        data_sha256=sample.sha256,
        encoder=Path(config.encoder).name,
        encoder_sha256=loaded.sha256,
        images=str(len(sample.rows)),
        notes=f"the encoder's licence is that of its file{'; ' if notes else ''}{notes}",
    )
    save_foreground(config.out, patches.cpu(), mean, direction, threshold, facts)
    ratios = (projections > threshold).mean(axis=(1, 2))
    sheet = config.out.with_suffix(".png")
    _draw(sheet, config.out, sample, ratios, device)
    return ForegroundResult(
        path=config.out,
        sheet=sheet,
        encoder=in_words(vars(loaded.facts)),
        patches=(projections.shape[1], projections.shape[2]),
        size=patches.size,
        threshold=threshold,
        images=len(sample.rows),
        unreadable=len(sample.unreadable),
        explained=explained,
        ratio=np.bincount((noise_levels(ratios) / STEP).astype(int), minlength=5).tolist(),
    )


def patches_of(config: ForegroundConfig, module: torch.nn.Module, facts: EncoderFacts) -> Patches:
    """The encoder up to its patches' features, whose map must have a centre and a border. Raises WeightsError."""
    if facts.stem == OWN or not isinstance(module, Encoder):
        raise WeightsError.naming(
            "{encoder} {}: is code, which no file can hold; wanted a run or anyone's checkpoint", config.encoder
        )
    if facts.size > MAX_SIZE:
        raise WeightsError.naming(
            "{encoder} {}: takes images of {} pixels; give {size}, at most {}", config.encoder, facts.size, MAX_SIZE
        )
    side = module.side_multiple
    if facts.size % side:
        raise WeightsError.naming(
            "{encoder} {}: its patches have {} pixels, and images {}; give a {size} that is a multiple",
            config.encoder,
            side,
            facts.size,
        )
    patches = Patches(module, facts).cpu()
    rows = patches(torch.zeros(facts.size, facts.size, 3, dtype=torch.uint8)).shape[1]
    if rows < LEAST_PATCHES:
        strides = {"imagenet": 32, "cifar": 8}
        least = (LEAST_PATCHES - 1) * strides[facts.stem] + 1 if facts.stem in strides else LEAST_PATCHES * side
        raise WeightsError.naming(
            "{encoder} {}: {} pixels give {}x{} patches, wanted at least 3x3; give {size} {} or more",
            config.encoder,
            facts.size,
            rows,
            rows,
            least,
        )
    return patches


def features_of(sample: Sample, patches: Patches, progress: Progress) -> Iterator[Tensor]:
    """Features of each image's patches. Shape: ``(C, h, w)`` float64."""
    device = patches.pixel_mean.device
    for image in sample.images():
        yield patches(to_device(image, device))
        progress.update(1)


def principal(features: Iterator[Tensor]) -> tuple[Tensor, Tensor, float]:
    """Mean and first principal component of all patches, and its part of their variance.

    Both are on the CPU, rounded to float32 as the file keeps them. Shapes: ``(C, h, w)`` each -> ``(C,)``. Raises DataError if
    there is no image, or all patches are alike.
    """
    count, offset = 0, torch.zeros(())
    for one in features:
        rows = one.flatten(1).T
        if not count:
            offset = rows.mean(dim=0)  # what is summed stays small
            total, outer = torch.zeros_like(offset), torch.zeros_like(torch.outer(offset, offset))
        rows = rows - offset
        count, total, outer = count + len(rows), total + rows.sum(dim=0), outer + rows.T @ rows
    if not count:
        raise DataError.naming("{data}: none of the images can be read")
    offset, shift = offset.cpu(), total.cpu() / count
    values, vectors = torch.linalg.eigh(outer.cpu() / count - torch.outer(shift, shift))
    if not float(values[-1]) > 0:
        raise DataError.naming("{data}: all patches of the images are alike, so nothing tells foreground")
    direction = vectors[:, -1]
    direction = direction * direction[direction.abs().argmax()].sign()  # the solver's sign is no fact
    return (offset + shift).float(), direction.float(), float(values[-1] / values.clamp(min=0).sum())


def project(features: Iterator[Tensor], mean: Tensor, direction: Tensor) -> Floats:
    """Projections of all patches. Shape: ``(C, h, w)`` each -> ``(N, h, w)``."""
    found = []
    for one in features:
        centred = one.flatten(1).T - mean.to(one)
        found.append((centred @ direction.to(one)).view(one.shape[1:]).cpu())
    return torch.stack(found).numpy()


def otsu(projections: Floats) -> float:
    """The cut with the largest variance between its sides, in the middle of the two values that it parts (Otsu 1979).

    Raises DataError if all values are the same.
    """
    values = np.sort(projections, axis=None)
    if values[0] == values[-1]:
        raise DataError.naming("{data}: all patches of the images are alike, so nothing tells foreground")
    below = np.arange(1, len(values), dtype=np.float64)
    above = len(values) - below
    sums = np.cumsum(values - values.mean())[:-1]
    between = np.where(values[1:] > values[:-1], sums**2 / (below * above), -1.0)
    best = int(between.argmax())
    return float((values[best] + values[best + 1]) / 2)


def is_central(projections: Floats, cut: float) -> bool:
    """Whether the upper side of the cut takes a larger share at the centre, half of each side, than on the border's ring."""
    above = projections > cut
    rows, columns = above.shape[1:]
    top, left = -(-rows // 4), -(-columns // 4)
    centre = above[:, top : rows - top, left : columns - left].mean()
    ring = np.ones((rows, columns), dtype=bool)
    ring[1:-1, 1:-1] = False
    return bool(centre >= above[:, ring].mean())


def _draw(path: Path, file: Path, sample: Sample, ratios: Floats, device: torch.device) -> None:
    """The sheet: images of all ratios, from the least to the largest."""
    foreground = Foreground(load_foreground(file), device)
    places = np.unique(np.linspace(0, len(ratios) - 1, min(SHOWN, len(ratios))).astype(int))
    shown, rows = [], list(sample.rows)
    for place in np.argsort(ratios, kind="stable")[places].tolist():
        image = sample.image(rows[place])
        if image is None:  # gone meanwhile
            continue
        above = foreground.project(to_device(image, device))[1] > foreground.threshold
        shown.append((image, above.cpu().numpy(), float(ratios[place])))
    save_foregrounds(path, shown, f"{file.name}: images, and what is foreground of them, by its ratio")
