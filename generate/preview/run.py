"""``genrep-generate preview``: settings become a PNG that shows images as a dataset has them before encoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genrep import seeding
from genrep.devices import pick_device
from genrep.errors import GeneratorError, RecipeError
from genrep.files import require_writable
from genrep.look.sheets import save_png

from ..generators.base import Generator, LatentSpec
from ..generators.probe import check_images, largest_values, require_sane
from ..pixels import to_uint8
from ..plans.resolve import class_names
from ..recipes.conditions import check_classes, class_count, make_conditions, select_classes
from ..recipes.recipe import Recipe, framed_shape, latent_spec, load_recipe
from ..views import View, parse_view
from ..views.base import synthesize_views
from ..weights.load import open_generator
from .config import PreviewConfig
from .panels import Panel, make_panels, norms, positives, shifts
from .sheet import Sheet, SheetLayout, make_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BATCH = 16  # images in a forward pass


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
    layout: SheetLayout  # where in the sheet
    anchors: NDArray[np.float32]  # (A, d)
    shown: tuple[Shown, ...]  # from left to right
    left_out: tuple[RecipeError, ...] = ()  # views that do not fit this generator, and why


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
    require_writable(config.out.parent)
    generator = open_generator(recipe, config.weights, device, config.generator_options()).generator
    latent = latent_spec(recipe, generator.latent)
    panels, left_out = make_panels(config, recipe, generator, latent)
    renderer = Renderer.open(recipe, generator, device, classes=config.classes, count=config.num_anchors)
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
        pixels = _draw(layout, renderer, anchors, shown)
    save_png(config.out, pixels)
    return Preview(path=config.out, sheet=pixels, layout=layout, anchors=anchors, shown=shown, left_out=left_out)


def _show(panel: Panel, anchors: NDArray[np.float32], latent: LatentSpec, config: PreviewConfig) -> Shown:
    z = positives(
        panel,
        anchors,
        latent,
        seed=config.seed,
        num_positives=config.num_positives,
        distances=config.steps,
    )
    return Shown(panel=panel, z=z, distances=norms(shifts(anchors, z)))


def _draw(
    layout: SheetLayout, renderer: Renderer, anchors: NDArray[np.float32], shown: tuple[Shown, ...]
) -> NDArray[np.uint8]:
    sheet = Sheet(layout)
    for row, image in enumerate(renderer.images(anchors)):
        sheet.put(image, renderer.names[row], layout.anchor_places(row))
    for number, item in enumerate(shown):
        for column in range(item.z.shape[1]):
            for row, image in enumerate(renderer.images(anchors, item.panel.view, item.z[:, column])):
                label = show_distance(float(item.distances[row, column]))
                sheet.put(image, label, [layout.place(number, column, row)])
    return sheet.pixels()


def show_distance(distance: float) -> str:
    """The number with three digits, or all of those before the point."""
    return f"{distance:.0f}" if distance >= 100 else f"{distance:.3g}"


@dataclass(frozen=True, kw_only=True)
class Renderer:
    """A generator with the conditions of pairs 0, 1, ... of a dataset."""

    recipe: Recipe
    generator: Generator
    device: torch.device
    y: NDArray[np.int64] | None  # (A,), what the generator gets besides the latents
    names: tuple[str, ...]  # (A,), of the pairs

    @classmethod
    def open(cls, recipe: Recipe, generator: Generator, device: torch.device, *, classes: str, count: int) -> Renderer:
        """Raises RecipeError if the generator has no such classes, or needs instance features and has none."""
        selection = select_classes(classes, class_count(generator))
        conditions = make_conditions(selection.numbers, generator)
        indices = np.arange(count, dtype=np.int64)
        labels, known = conditions.label(indices), class_names(recipe, selection, class_count(generator))
        names = []
        for i, label in enumerate(labels.tolist()):
            kind = known[label] if label >= 0 else ""
            names.append(f"{i}: class {kind}" if kind.isdecimal() else f"{i}: {kind}" if kind else f"pair {i}")
        return cls(recipe=recipe, generator=generator, device=device, y=conditions.y(indices), names=tuple(names))

    def images(
        self, anchors: NDArray[np.float32], view: View | None = None, z: NDArray[np.float32] | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Pixels ``(h, w, 3)`` of the anchors, or with ``view`` of their positives ``z``, one after the other.

        Raises:
            GeneratorError: the generator raised, or gave no images in range; names the pair.
        """
        for start in range(0, len(anchors), BATCH):
            rows = slice(start, start + BATCH)
            found = self._batch(anchors[rows], view, None if z is None else z[rows], rows)
            yield from found.cpu().numpy()

    @torch.no_grad()
    def _batch(
        self, anchors: NDArray[np.float32], view: View | None, z: NDArray[np.float32] | None, rows: slice
    ) -> Tensor:
        where = f"generator {self.recipe.name}: pairs from {rows.start}"
        latents = self._to(anchors)
        y = None if self.y is None else self._to(self.y[rows])
        try:
            if view is None or z is None:
                found: object = self.generator.synthesize(latents, y)
            else:
                found = synthesize_views(self.generator, view, latents, self._to(z), y)
        except GeneratorError:
            raise
        except Exception as error:
            raise GeneratorError(f"{where}: raised {type(error).__name__}: {error}") from error
        images = check_images(found, latents, self.generator, where)
        require_sane(largest_values(images), lambda row: f"generator {self.recipe.name}: pair {rows.start + row}")
        return to_uint8(images, self.recipe.uint8, self.recipe.crop, self.recipe.resize)

    def _to(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device)
