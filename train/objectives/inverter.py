"""GenRep's objectives without contrast: the inverter, the classifier, and the autoencoder of its code.

The inverter (GenRep, Tables 1 and 3-5) predicts an image's latent, the classifier (Table 6) its class; the auto-encoder latents
whose images look like the input.
"""

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


class Autoencoder(Objective):
    """latent_weight · (1 - cos(z, ẑ)) + pixel_weight · MSE(G(ẑ), x), ẑ a linear layer on the anchor's features.

    x is the stored anchor in [-1, 1], before any pixel view, and G the frozen generator that ``setup.decode`` calls with
    ẑ and the labels (None where the dataset has none): its images must have the stored ones' size. With ``class_head`` the
    cross-entropy of the label is added, weighted like the latent. The code's LPIPS term is left out: it needs weights of a
    network trained on labelled real images.
    """

    name = "autoencoder"

    def __init__(
        self, setup: Setup, *, latent_weight: float = 1.0, pixel_weight: float = 1.0, class_head: bool = False
    ) -> None:
        super().__init__()
        self.latent_shape = require_latents(self.name, setup)
        if setup.decode is None:
            raise TrainingError.naming("{objective} {}: requires a generator to decode with; give {gen}", self.name)
        for name, value in {"latent_weight": latent_weight, "pixel_weight": pixel_weight}.items():
            if not 0 <= value < float("inf"):
                raise TrainingError.naming(f"{{{name}}} {{}}: wanted a number that is not negative", value)
        self.decode = setup.decode
        self.latent_weight, self.pixel_weight = latent_weight, pixel_weight
        self.latent_head = nn.Linear(setup.width, prod(self.latent_shape))
        self.class_head = ClassHead(setup.width, require_labels(self.name, setup)) if class_head else None
        self.fields = ("anchor", "z_anchor", "label") if setup.labels else ("anchor", "z_anchor")

    def loss(self, encoder: nn.Module, images: Tensor, batch: dict[str, Tensor], step: int) -> Output:
        features = encoder(images)
        flat = full(self.latent_head(features))
        decoded = self.decode(flat.view(-1, *self.latent_shape), batch.get("label"))
        with full_precision(flat):
            latent_loss = 1 - F.cosine_similarity(flat, batch["z_anchor"].flatten(1).to(flat.dtype)).mean()
            pixel_loss = F.mse_loss(full(decoded), _target(batch["anchor"], decoded))
        loss = self.latent_weight * latent_loss + self.pixel_weight * pixel_loss
        metrics = {"latent_loss": latent_loss.detach(), "pixel_loss": pixel_loss.detach()}
        if self.class_head is not None:
            class_loss, metrics["accuracy"] = self.class_head(features, batch["label"])
            metrics["class_loss"] = class_loss.detach()
            loss = loss + self.latent_weight * class_loss
        return Output(loss, metrics, unit(features.detach())[None])


def _target(anchor: Tensor, decoded: Tensor) -> Tensor:
    """uint8 to [-1, 1]. Shape: ``(B, H, W, 3) -> (B, 3, H, W)``. Raises TrainingError if the generator's size differs."""
    target = anchor.permute(0, 3, 1, 2).to(full(decoded).dtype) / 127.5 - 1
    if target.shape != decoded.shape:
        found, wanted = "x".join(map(str, decoded.shape[1:])), "x".join(map(str, target.shape[1:]))
        raise TrainingError.naming(
            "{gen}: its images are {}, but the dataset's are {}; give the dataset's generator", found, wanted
        )
    return target
