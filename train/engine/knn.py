"""A live signal: how well an encoder's features name the neighbours of labelled images, every few epochs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from genrep.errors import DataError
from genrep.features import extract_features
from genrep.images.labelled import LabelledImages, MissingDataset
from genrep.images.sets import is_small, load_images
from genrep.knn import knn_top1

from .training_plan import TrainingPlan

MOST_TRAINING_IMAGES = 50_000  # in the table that neighbours come from: a signal, not a result


class LiveKnn:
    """Weighted kNN (``genrep.knn``) on the training and test images of ``--knn-data``, whole and without augmentation."""

    def __init__(self, plan: TrainingPlan, device: torch.device) -> None:
        assert plan.config.knn_data is not None
        self.train, self.test = _load(plan.config.knn_data, plan.config.knn_root, plan.crop)
        if (self.train.labels < 0).any() or len(self.train.classes) < 2:
            raise DataError.naming("{knn_data} {}: wanted labelled images of two or more classes", plan.config.knn_data)
        self.facts = plan.encoder_facts()
        self.device = device

    def top1(self, encoder: nn.Module) -> float:
        """Percent of the test images; the encoder is in training mode again afterwards."""
        encoder.eval()
        try:
            train, test = (
                extract_features(encoder, self.facts, data.images, self.device, label=f"kNN, {name} images")
                for name, data in (("train", self.train), ("test", self.test))
            )
        finally:
            encoder.train()
        labels = torch.from_numpy(self.train.labels), torch.from_numpy(self.test.labels)
        return knn_top1(train, labels[0], test, labels[1], num_classes=len(self.train.classes))


def _load(name: str, root: Path | None, crop: int) -> tuple[LabelledImages, LabelledImages]:
    if is_small(name) and root is None:
        raise DataError.naming("{knn_data} {}: give the folder that holds it as {knn_root}", name)
    size = None if is_small(name) else crop
    try:
        return load_images(name, root, "train", size=size), load_images(name, root, "test", size=size)
    except MissingDataset as error:
        fetch = f"genrep-generate from-folder {name} --root {root} --download --out DIR"
        raise DataError.naming(
            "{knn_data} {}: not found (or not whole) under {}; {} fetches it", name, root, fetch
        ) from error
