"""How good a generator of small images is, in the features of a classifier of the real training images.

Real test images measured against real training images give the floor that no generator can be expected to beat.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_device
from genrep.distances import DENSITY_NEIGHBOURS, NEIGHBOURS, compare
from genrep.errors import DataError, GeneratorError
from genrep.files import require_writable, sha256_file, write_json
from genrep.images.sets import load_images, require_images
from genrep.seeding import StepNoise, derive

from ..generators.base import Generator
from ..generators.calls import synthesize
from ..pixels import framed, to_uint8
from ..recipes.recipe import latent_spec, load_recipe
from ..weights.cache import GAN_WEIGHTS
from ..weights.load import load_generator, open_generator
from .classifier import EPOCHS, FEATURES, Classifier, extract, train_classifier
from .config import MeasureGanConfig

BATCH = 250  # images that are generated together


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A generator that is measured, and how its output becomes pixels."""

    generator: Generator
    pixels: Callable[[Tensor], Tensor]  # (B, 3, H, W) float -> uint8 (B, h, w, 3)
    facts: dict[str, Any]  # for the result


def measure_gan(config: MeasureGanConfig) -> dict[str, Any]:
    """Measure a generator against real images and write the result as json.

    Compares ``num_images`` real training images with as many generated ones, and with (at most as many) real test images.

    Raises:
        DataError: the real images have no labels or no test split, or are not of the generated images' size.
        RecipeError, WeightsError, GeneratorError: the generator cannot be opened.
    """
    started = time.monotonic()
    require_writable(config.out.parent)
    require_images(config.data)
    seed, device = config.seed, str(pick_device(config.device))
    measured = open_measured(config, device)
    train, test = (
        load_images(config.data, config.root, split, download=config.download) for split in ("train", "test")
    )
    if len(train.classes) < 2:
        raise DataError.naming("{data} {}: the features need labelled images of at least two classes", config.data)
    images, classes = sample_images(measured, config.num_images, seed, device)
    if images.shape[1:] != train.images.shape[1:]:
        raise DataError.naming(
            "{data} {}: images of {} pixels, the generator makes {}",
            config.data,
            "x".join(map(str, train.images.shape[1:3])),
            "x".join(map(str, images.shape[1:3])),
        )
    network = train_classifier(train, seed, device)
    order = np.random.default_rng(derive("quality-real", seed)).permutation(len(train.images))[: config.num_images]
    real = extract(network, torch.from_numpy(train.images[order]), device)
    held_out = torch.from_numpy(test.images[: config.num_images])
    labels = torch.from_numpy(test.labels[: config.num_images])
    result: dict[str, Any] = {
        "protocol": f"features of a {FEATURES}-d classifier of the training images, {EPOCHS} epochs; k = {NEIGHBOURS}, of "
        f"density and coverage {DENSITY_NEIGHBOURS}",
        "data": train.name,
        "num_images": config.num_images,
        "num_test_images": len(held_out),
        "seed": seed,
        **measured.facts,
        "classifier_test_top1": agreement(network, held_out, labels, device),
        "generated": compare(real, extract(network, images, device)),
        "real_test": compare(real, extract(network, held_out, device)),
    }
    if measured.generator.num_classes:
        result["generated_class_agreement"] = agreement(network, images, classes, device)
    result["seconds"] = round(time.monotonic() - started, 1)
    write_json(config.out, result)
    return result


def open_measured(config: MeasureGanConfig, device: str) -> Measured:
    """The generator of the settings: a recipe's, or without one what the weights are recognised as."""
    options = config.generator_options()
    if config.gen is None:
        assert config.weights is not None  # checked by the settings
        file = config.weights / GAN_WEIGHTS if (config.weights / GAN_WEIGHTS).is_file() else config.weights
        generator = load_generator(weights=file, device=device, **options)
        facts = {"weights_sha256": sha256_file(file)} if file.is_file() else {}
        return Measured(generator=generator, pixels=lambda images: to_uint8(images, "127.5x+128"), facts=facts)
    recipe = load_recipe(config.gen)
    loaded = open_generator(recipe, config.weights, device, options)
    loaded.generator.latent = latent_spec(recipe, loaded.generator.latent)
    sha256 = loaded.weights_facts.get("sha256")
    return Measured(
        generator=loaded.generator,
        pixels=lambda images: to_uint8(framed(images, recipe.crop, recipe.resize), recipe.uint8),
        facts={
            "generator": recipe.name,
            "options": options,
            "weights_digest": loaded.weights_digest,
            **({} if sha256 is None else {"weights_sha256": sha256}),
        },
    )


@torch.no_grad()
def sample_images(measured: Measured, count: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Images of the generator's own law, uint8 ``(count, H, W, 3)``, and their classes ``(count,)``, -1 = none."""
    generator = measured.generator
    if getattr(generator, "takes_prompts", False):
        raise GeneratorError.naming("{gen}: takes prompts; the features here are of classes, and a class has no prompt")
    images, classes = [], []
    for start in range(0, count, BATCH):
        indices = np.arange(start, min(start + BATCH, count))
        z = torch.from_numpy(generator.latent.sample(seed, indices)).to(device)
        y = torch.from_numpy(indices % generator.num_classes) if generator.num_classes else None
        shown = None if y is None else y.to(device)
        images.append(measured.pixels(synthesize(generator, z, shown, StepNoise(seed, indices))).cpu())
        classes.append(y if y is not None else torch.full((len(indices),), -1))
    return torch.cat(images), torch.cat(classes)


@torch.no_grad()
def agreement(network: Classifier, images: Tensor, labels: Tensor, device: str) -> float:
    """How often the classifier says the label. Shapes: uint8 ``(N, H, W, 3)``, ``(N,)``."""
    right = [
        (network(i.to(device)).argmax(1).cpu() == t).double() for i, t in zip(images.split(500), labels.split(500))
    ]
    return float(torch.cat(right).mean())
