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
from ..recipes.conditions import Conditions, Material, check_classes, class_count, make_conditions, select_classes
from ..recipes.prompts import read_prompts
from ..recipes.recipe import Recipe, framed_shape, latent_spec, load_recipe
from ..sources.pairs import Inputs, Maker, OnDevice
from ..views import View, parse_view
from ..views.base import Draw
from ..views.random import NoView
from ..weights.load import open_generator
from .config import PreviewConfig
from .panels import Panel, make_panels, norms, positives, shifts
from .sheet import Sheet, SheetLayout, make_layout

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    _Made = tuple[NDArray[np.uint8], dict[str, float]]

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
    renderer = Renderer.open(recipe, generator, device, config)
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
        distances=config.at,
    )
    return Shown(panel=panel, z=z, distances=norms(shifts(anchors, z)))


def _draw(
    layout: SheetLayout, renderer: Renderer, anchors: NDArray[np.float32], shown: tuple[Shown, ...]
) -> NDArray[np.uint8]:
    sheet = Sheet(layout)
    for row, image in enumerate(renderer.anchors(anchors)):
        sheet.put(image, renderer.names[row], layout.anchor_places(row))
    for number, item in enumerate(shown):
        for column in range(item.z.shape[1]):
            view = item.panel.view
            for row, (image, drawn) in enumerate(renderer.positives(view, anchors, item.z[:, column], column)):
                label = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in drawn.items())
                label = label or show_distance(float(item.distances[row, column]))
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
    conditions: Conditions
    seed: int
    names: tuple[str, ...]  # (A,), of the pairs

    @classmethod
    def open(cls, recipe: Recipe, generator: Generator, device: torch.device, config: PreviewConfig) -> Renderer:
        """Raises RecipeError if the generator has no such classes, or needs instance features or prompts and has none."""
        selection = select_classes(config.classes, class_count(generator))
        material = Material(prompts=None if config.prompts is None else read_prompts(config.prompts))
        conditions = make_conditions(selection.numbers, generator, material)
        labels = conditions.label(np.arange(config.num_anchors, dtype=np.int64))
        if material.prompts is not None:
            known = material.prompts.groups
        else:
            known = class_names(recipe, selection, class_count(generator))
        names = []
        for i, label in enumerate(labels.tolist()):
            kind = known[label] if label >= 0 else ""
            names.append(f"{i}: class {kind}" if kind.isdecimal() else f"{i}: {kind}" if kind else f"pair {i}")
        return cls(
            recipe=recipe,
            generator=generator,
            device=device,
            conditions=conditions,
            seed=config.seed,
            names=tuple(names),
        )

    def anchors(self, z: NDArray[np.float32]) -> Iterator[NDArray[np.uint8]]:
        """Pixels ``(h, w, 3)`` of the anchors, one after the other.

        Raises:
            GeneratorError: the generator raised, or gave no images in range; names the pair.
        """
        yield from (image for image, _ in self._images(0, NoView(), {0: z}))

    def positives(
        self, view: View, anchors: NDArray[np.float32], z: NDArray[np.float32], number: int
    ) -> Iterator[_Made]:
        """Pixels of positive ``number`` of the anchors, whose latents are ``z``, and what the view drew; as ``anchors``."""
        yield from self._images(number + 1, view, {0: anchors, number + 1: z})

    def _images(self, number: int, view: View, z: dict[int, NDArray[np.float32]]) -> Iterator[_Made]:
        for start in range(0, len(z[0]), BATCH):
            rows = slice(start, start + BATCH)
            indices = np.arange(len(z[0]), dtype=np.int64)[rows]
            y, draw = self.conditions.y(indices), Draw(seed=self.seed, indices=indices, k=number - 1)
            changes = view.changes_prompt and y is not None and number
            inputs = Inputs(
                indices=indices,
                labels=self.conditions.label(indices),
                y=y,
                z={key: values[rows] for key, values in z.items()},
                prompts={number: self.conditions.other_prompts(y, view, draw)} if changes and y is not None else {},
                parameters={number: view.parameters(draw)} if number and not view.needs_images else {},
            )
            images, drawn = self._made(inputs, view, number)
            for row, image in enumerate(images.cpu().numpy()):
                yield image, {name: float(values[row]) for name, values in drawn.items()}

    @torch.no_grad()
    def _made(self, inputs: Inputs, view: View, number: int) -> tuple[Tensor, dict[str, NDArray[Any]]]:
        first, name = int(inputs.indices[0]), self.recipe.name
        maker = Maker(
            generator=self.generator,
            views=view,
            conditions=self.conditions,
            recipe=self.recipe,
            seed=self.seed,
            device=self.device,
        )
        given = OnDevice(maker, inputs)
        try:
            found: object = given.images(number)
        except GeneratorError:
            raise
        except Exception as error:
            raise GeneratorError(
                f"generator {name}: pairs from {first}: raised {type(error).__name__}: {error}"
            ) from error
        images = check_images(found, given.z[0], self.generator, f"generator {name}: pairs from {first}")
        require_sane(largest_values(images), lambda row: f"generator {name}: pair {first + row}")
        levels = to_uint8(images, self.recipe.uint8, self.recipe.crop, self.recipe.resize)
        return levels, given.parameters(number) if number else {}
