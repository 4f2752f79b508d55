"""``genrep-generate preview``: from settings to a PNG."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from genrep import seeding
from genrep.encoders.devices import pick_device
from genrep.errors import RecipeError
from genrep.files import require_writable
from genrep.images.sheet import save_png

from ..generators.base import LatentSpec
from ..recipes.classes import check_classes
from ..recipes.recipe import framed_shape, latent_spec, load_recipe
from ..views import parse_view
from ..weights.load import open_generator
from .config import PreviewConfig
from .drawing import Sheet
from .images import ImageSource
from .latents import norms, positives, shifts
from .layout import Layout, make_layout
from .panels import Panel, make_panels

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A panel with its latents."""

    panel: Panel
    z: NDArray[np.float32]  # (A, K, d), or (A, K, G, d) on G groups of W layers
    distances: NDArray[np.float64]  # (A, K), Euclidean, over all groups together


@dataclass(frozen=True, kw_only=True)
class Preview:
    """A sheet, and what it shows."""

    path: Path
    sheet: NDArray[np.uint8]  # (H, W, 3)
    layout: Layout  # where in the sheet
    anchors: NDArray[np.float32]  # (A, d)
    shown: tuple[Shown, ...]  # from left to right
    left_out: tuple[str, ...] = ()  # views that are not for this generator, and why


def preview_views(config: PreviewConfig) -> Preview:
    """Draw anchors and the positives of one or more views, write the PNG, and return it.

    Anchor i and its positives have latents, class and pixels of pair i of a dataset with the same generator, view and
    seed (and no filter), before its encoding; with ``distances`` the anchors have.

    Raises:
        RecipeError: the options name no generator, or no view of it.
        GeneratorError, WeightsError: the generator or a learned view cannot be used.
    """
    device = pick_device(config.device, RecipeError)
    recipe = load_recipe(config.gen)
    for text in config.views:
        parse_view(text).files()  # before the generator's weights are downloaded
    check_classes(config.classes)
    require_writable(config.out.parent, "--out")
    generator = open_generator(recipe, config.weights, device, config.generator_options()).generator
    latent = latent_spec(recipe, generator.latent)
    panels, left_out = make_panels(config, recipe, generator, latent)
    source = ImageSource.open(recipe, generator, device, classes=config.classes, count=config.num_anchors)
    anchors = latent.sample(config.seed, np.arange(config.num_anchors, dtype=np.int64))
    shown = tuple(_show(panel, anchors, latent, config) for panel in panels)
    layout = make_layout(
        framed_shape(recipe, generator.image_shape),
        [(panel.title, *panel.part) for panel in panels],
        shown[0].z.shape[1],
        config.num_anchors,
        title=f"{recipe.name}, seed {config.seed}. Below each positive: its distance |z' - z|.",
        most_columns=config.columns,
    )
    config.out.parent.mkdir(parents=True, exist_ok=True)
    # A generator's own noise comes from torch's stream, which is left as it was.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seeding.derive("preview", config.seed))
        pixels = _draw(layout, source, anchors, shown)
    save_png(config.out, pixels)
    return Preview(path=config.out, sheet=pixels, layout=layout, anchors=anchors, shown=shown, left_out=left_out)


def _show(panel: Panel, anchors: NDArray[np.float32], latent: LatentSpec, config: PreviewConfig) -> Shown:
    z = positives(
        panel,
        anchors,
        latent,
        seed=config.seed,
        num_positives=config.num_positives,
        distances=config.distances,
    )
    return Shown(panel=panel, z=z, distances=norms(shifts(anchors, z)))


def _draw(
    layout: Layout, source: ImageSource, anchors: NDArray[np.float32], shown: tuple[Shown, ...]
) -> NDArray[np.uint8]:
    sheet = Sheet(layout)
    for row, image in enumerate(source.images(anchors)):
        sheet.put(image, source.names[row], layout.anchor_places(row))
    for number, item in enumerate(shown):
        for column in range(item.z.shape[1]):
            for row, image in enumerate(source.images(anchors, item.panel.view, item.z[:, column])):
                label = show_distance(float(item.distances[row, column]))
                sheet.put(image, label, [layout.place(number, column, row)])
    return sheet.pixels()


def show_distance(distance: float) -> str:
    """Three digits of it, or all that it has before the point."""
    return f"{distance:.0f}" if distance >= 100 else f"{distance:.3g}"
