"""The inverter (GenRep, Tables 1 and 3-5) predicts an image's latent, the classifier (Table 6) its class."""

from __future__ import annotations

from math import prod

import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import TrainingError

from .base import Objective, Output, Setup, full, full_precision, unit
from .heads import ClassHead, require_labels


def require_latents(objective: str, setup: Setup) -> tuple[int, ...]:
    """The shape of z_anchor. Raises TrainingError."""
    if setup.latent_shape is None:
        raise TrainingError.naming(
            "{objective} {}: the dataset stores no latents; wanted the field z_anchor", objective
        )
    return setup.latent_shape


class Inverter(Objective):
    """Mean squared error, over samples and components, between a linear layer on the features and z.

    Image and latent are both the anchor's. (GenRep's code pairs the neighbour's image with the anchor's z unless it is run
    with --numcontrast 0.) With ``class_head`` the cross-entropy of the label is added with weight 1.
    """

    name = "inverter"
    fields: tuple[str, ...] = ("z_anchor",)

    def __init__(self, setup: Setup, *, class_head: bool = False) -> None:
        super().__init__()
        self.latent_head = nn.Linear(setup.width, prod(require_latents(self.name, setup)))
        self.class_head = ClassHead(setup.width, require_labels(self.name, setup)) if class_head else None
        if class_head:
            self.fields = ("z_anchor", "label")

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        features = encoder(images)
        predicted = self.latent_head(features)
        with full_precision(predicted):
            loss = F.mse_loss(full(predicted), batch["z_anchor"].flatten(1).to(full(predicted).dtype))
        metrics = {"latent_loss": loss.detach()}
        if self.class_head is not None:
            class_loss, metrics["accuracy"] = self.class_head(features, batch["label"])
            metrics["class_loss"] = class_loss.detach()
            loss = loss + class_loss
        return Output(loss, metrics, unit(features.detach())[None])


class Classifier(Objective):
    """Cross-entropy on the anchor's label. (GenRep's code has 1000 outputs whatever the classes; here one per class.)"""

    name = "classifier"
    fields = ("label",)

    def __init__(self, setup: Setup) -> None:
        super().__init__()
        self.head = ClassHead(setup.width, require_labels(self.name, setup))

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        features = encoder(images)
        loss, accuracy = self.head(features, batch["label"])
        return Output(loss, {"accuracy": accuracy}, unit(features.detach())[None])
