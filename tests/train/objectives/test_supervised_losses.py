"""Classifier, inverter and auto-encoder against plain loops; labels of a few classes out of many."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genrep.errors import TrainingError
from genrep.train.objectives import Setup, build_objective

MakeSetup = Callable[..., Setup]
MakeBatch = Callable[[int], dict[str, Tensor]]


def cross_entropy_loop(scores: list[list[float]], classes: list[int | None]) -> float:
    terms = [math.log(sum(math.exp(s) for s in row)) - row[c] for row, c in zip(scores, classes) if c is not None]
    return sum(terms) / max(len(terms), 1)


def test_classes_are_the_places_of_the_recipes_labels(setup: MakeSetup) -> None:
    """Labels 3, 7 and 11 of the recipe are classes 0, 1 and 2; no label and foreign labels are left out."""
    head = build_objective("classifier", setup(labels=(11, 3, 7, 3))).head
    assert head.linear.out_features == 3
    assert head.classes(torch.tensor([3, 7, 11, -1, 0, 8, 999])).tolist() == [0, 1, 2, -1, -1, -1, -1]


def test_classifier_equals_the_loop(setup: MakeSetup, images: Any, batch: MakeBatch, tiny_encoder: nn.Module) -> None:
    classifier = build_objective("classifier", setup())
    pictures, fields = images(1, 7), batch(7)
    fields["label"][2] = -1
    output = classifier.loss(tiny_encoder, pictures, fields, 0)
    scores = classifier.head.linear(tiny_encoder(pictures)).tolist()
    classes = [0, 1, None, 0, 1, 2, 0]
    assert float(output.loss.detach()) == pytest.approx(cross_entropy_loop(scores, classes), rel=1e-5)
    right = sum(row.index(max(row)) == c for row, c in zip(scores, classes) if c is not None)
    assert float(output.metrics["accuracy"]) == pytest.approx(right / 6)


def test_a_batch_without_labels_has_loss_zero_and_no_nan(
    setup: MakeSetup, images: Any, tiny_encoder: nn.Module
) -> None:
    classifier = build_objective("classifier", setup())
    output = classifier.loss(tiny_encoder, images(1, 3), {"label": torch.full((3,), -1)}, 0)
    output.loss.backward()
    assert float(output.loss.detach()) == 0
    assert float(output.metrics["accuracy"]) == 0
    assert all(float(parameter.grad.abs().sum()) == 0 for parameter in tiny_encoder.parameters())


@pytest.mark.parametrize("class_head", [False, True])
def test_inverter_equals_the_loop(
    setup: MakeSetup, images: Any, batch: MakeBatch, tiny_encoder: nn.Module, class_head: bool
) -> None:
    inverter = build_objective("inverter", setup(), class_head=class_head)
    pictures, fields = images(1, 5), batch(5)
    output = inverter.loss(tiny_encoder, pictures, fields, 0)
    features = tiny_encoder(pictures)
    errors = [
        (a - b) ** 2
        for found, wanted in zip(inverter.latent_head(features).tolist(), fields["z_anchor"].flatten(1).tolist())
        for a, b in zip(found, wanted)
    ]
    total = sum(errors) / len(errors)
    assert len(errors) == 5 * 6
    assert float(output.metrics["latent_loss"]) == pytest.approx(total, rel=1e-5)
    if class_head:
        total += cross_entropy_loop(inverter.class_head.linear(features).tolist(), [0, 1, 2, 0, 1])
        assert inverter.fields == ("z_anchor", "label")
    assert float(output.loss.detach()) == pytest.approx(total, rel=1e-5)


def test_the_inverter_asks_for_one_image_and_the_anchors_latent(setup: MakeSetup) -> None:
    """View 0 is the anchor's: image and latent belong together (GenRep's code mixed the neighbour's image in)."""
    inverter = build_objective("inverter", setup())
    assert (inverter.num_views, inverter.fields) == (1, ("z_anchor",))


def test_autoencoder_equals_the_loop(setup: MakeSetup, images: Any, batch: MakeBatch, tiny_encoder: nn.Module) -> None:
    seen = {}

    def decode(latents: Tensor, labels: Tensor | None) -> Tensor:
        seen.update(shape=tuple(latents.shape), labels=labels)
        return latents.flatten(1)[:, :4].view(-1, 1, 1, 4).expand(-1, 3, 4, 4)

    autoencoder = build_objective("autoencoder", setup(decode=decode), latent_weight=0.5, pixel_weight=2.0)
    pictures, fields = images(1, 3), batch(3)
    output = autoencoder.loss(tiny_encoder, pictures, fields, 0)
    found = autoencoder.latent_head(tiny_encoder(pictures)).tolist()
    latent, pixel = 0.0, 0.0
    for i, z in enumerate(fields["z_anchor"].flatten(1).tolist()):
        dot, lengths = sum(a * b for a, b in zip(found[i], z)), [sum(a * a for a in row) for row in (found[i], z)]
        latent += (1 - dot / math.sqrt(lengths[0] * lengths[1])) / 3
        for y in range(4):
            for x in range(4):
                for c in range(3):
                    stored = int(fields["anchor"][i, y, x, c]) / 127.5 - 1
                    pixel += (found[i][x] - stored) ** 2 / (3 * 4 * 4 * 3)
    assert float(output.loss.detach()) == pytest.approx(0.5 * latent + 2 * pixel, rel=1e-5)
    assert seen["shape"] == (3, 2, 3)
    assert torch.equal(seen["labels"], fields["label"])
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in tiny_encoder.parameters())


def test_the_generator_must_make_images_of_the_datasets_size(
    setup: MakeSetup, images: Any, batch: MakeBatch, tiny_encoder: nn.Module
) -> None:
    autoencoder = build_objective("autoencoder", setup(decode=lambda z, y: torch.zeros(len(z), 3, 8, 8)))
    with pytest.raises(TrainingError, match=r"^gen: its images are 3x8x8, but the dataset's are 3x4x4"):
        autoencoder.loss(tiny_encoder, images(1, 2), batch(2), 0)


@pytest.mark.parametrize(
    ("name", "lacks", "says"),
    [
        ("classifier", {"labels": ()}, "classifier: requires labels"),
        ("supcon", {"labels": ()}, "supcon: requires labels"),
        ("inverter", {"latent_shape": None}, "inverter: the dataset stores no latents"),
        ("autoencoder", {"decode": None}, "autoencoder: requires a generator"),
    ],
)
def test_what_a_dataset_lacks_is_said_at_once(setup: MakeSetup, name: str, lacks: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainingError, match=says):
        build_objective(name, setup(**lacks))
