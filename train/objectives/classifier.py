"""A classifier of the generator's classes (GenRep, Table 6)."""

from __future__ import annotations

from torch import Tensor, nn

from .base import Objective, Output, Setup, unit
from .labels import ClassHead, require_labels


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
