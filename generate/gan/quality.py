"""How good a generator of small images is, in the features of a classifier of the real training images.

Fréchet distance (Heusel et al. 2017) and improved precision and recall (Kynkäänniemi et al. 2019, k = 3). ImageNet features
say little about 28-pixel garments, so a small network is trained on the real training images first; real test images
measured against real training images give the floor that no generator can be expected to beat.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.devices import pick_device
from genrep.errors import DataError
from genrep.files import require_writable, sha256_file, write_json
from genrep.images.labelled import LabelledImages
from genrep.images.sets import load_images, require_images
from genrep.seeding import derive

from ..generators.base import Generator
from ..pixels import to_uint8
from ..weights.cache import GAN_WEIGHTS
from ..weights.load import load_generator
from .config import MeasureGanConfig

FEATURES = 128
EPOCHS = 4
NEIGHBOURS = 3


class Classifier(nn.Module):
    """Four convolutions and a feature layer; 92.3 % of Fashion-MNIST's test images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, width in enumerate((32, 64, 128, 128)):
            before = 3 if i == 0 else (32, 64, 128)[i - 1]
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ]
        self.trunk = nn.Sequential(*layers)
        self.feature = nn.LazyLinear(FEATURES)
        self.out = nn.Linear(FEATURES, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Shape: uint8 ``(B, H, W, 3)`` -> ``(B, FEATURES)``, before the last ReLU."""
        x = images.permute(0, 3, 1, 2).float() / 127.5 - 1
        features: Tensor = self.feature(self.trunk(x).flatten(1))
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits. Shape: uint8 ``(B, H, W, 3)`` -> ``(B, num_classes)``."""
        logits: Tensor = self.out(F.relu(self.features(images)))
        return logits


def train_classifier(data: LabelledImages, seed: int, device: str) -> Classifier:
    """Adam, one-cycle, 4 epochs with one-pixel shifts and no mirroring."""
    torch.manual_seed(derive("quality-classifier", seed))
    network = Classifier(len(data.classes)).to(device)
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    network(images[:2].to(device))  # sizes the lazy layer
    batch = min(256, len(images))
    steps = EPOCHS * (len(images) // batch)
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(images))[: len(images) // batch * batch].view(-1, batch):
            shift = torch.randint(-1, 2, (2,)).tolist()
            loss = F.cross_entropy(network(images[rows].roll(shift, (1, 2)).to(device)), labels[rows].to(device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def extract(network: Classifier, images: Tensor, device: str) -> Tensor:
    """Features of uint8 images, float64. Shape: ``(N, H, W, 3) -> (N, FEATURES)``."""
    return torch.cat([network.features(chunk.to(device)).double().cpu() for chunk in images.split(500)])


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Distance of Gaussians fitted to two sets of features. Shapes: ``(N, D), (M, D)``."""
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = torch.cov(a.T), torch.cov(b.T)
    # tr sqrt(A B) through the symmetric sqrt(A) B sqrt(A), whose eigenvalues are those of A B.
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors @ torch.diag(values.clamp_min(0).sqrt()) @ vectors.T
    trace = torch.linalg.eigvalsh(root @ cov_b @ root).clamp_min(0).sqrt().sum()
    return float(difference.square().sum() + cov_a.trace() + cov_b.trace() - 2 * trace)


def _radii(points: Tensor) -> Tensor:
    """Distance of each point to its k-th neighbour among the others. Shape: ``(N, D) -> (N,)``."""
    chunks = [torch.cdist(chunk, points).kthvalue(NEIGHBOURS + 1, dim=1).values for chunk in points.split(1000)]
    return torch.cat(chunks)


def coverage(manifold: Tensor, points: Tensor) -> float:
    """Fraction of ``points`` inside some neighbourhood ball of ``manifold``. Shapes: ``(N, D), (M, D)``."""
    radii = _radii(manifold)
    inside = [(torch.cdist(chunk, manifold) <= radii).any(dim=1) for chunk in points.split(1000)]
    return float(torch.cat(inside).double().mean())


def compare(real: Tensor, other: Tensor) -> dict[str, float]:
    """Fréchet distance, precision (``other`` inside real's manifold) and recall (real inside ``other``'s)."""
    return {
        "frechet": frechet_distance(real, other),
        "precision": coverage(real, other),
        "recall": coverage(other, real),
    }


@torch.no_grad()
def sample_images(generator: Generator, count: int, seed: int, device: str) -> tuple[Tensor, Tensor]:
    """Images of the generator's own law, uint8 ``(count, H, W, 3)``, and their classes ``(count,)``, -1 = none."""
    images, classes = [], []
    for start in range(0, count, 250):
        indices = np.arange(start, min(start + 250, count))
        z = torch.from_numpy(generator.latent.sample(seed, indices)).to(device)
        y = torch.from_numpy(indices % generator.num_classes) if generator.num_classes else None
        images.append(to_uint8(generator.synthesize(z, None if y is None else y.to(device)), "127.5x+128").cpu())
        classes.append(y if y is not None else torch.full((len(indices),), -1))
    return torch.cat(images), torch.cat(classes)


def _accuracy(network: Classifier, images: Tensor, labels: Tensor, device: str) -> float:
    with torch.no_grad():
        right = [
            (network(i.to(device)).argmax(1).cpu() == t).double() for i, t in zip(images.split(500), labels.split(500))
        ]
    return float(torch.cat(right).mean())


def measure_gan(config: MeasureGanConfig) -> dict[str, Any]:
    """Measure a generator against real images and write the result as json.

    Compares ``num_images`` real training images with as many generated ones, and with (at most as many) real test images.

    Raises:
        DataError: the real images have no labels or no test split.
        WeightsError: the weights cannot be read.
    """
    started = time.monotonic()
    require_writable(config.out.parent)
    require_images(config.data)
    seed, device = config.seed, str(pick_device(config.device))
    weights = config.weights / GAN_WEIGHTS if config.weights.is_dir() else config.weights
    generator = load_generator(weights=weights, device=device)
    train, test = (
        load_images(config.data, config.root, split, download=config.download) for split in ("train", "test")
    )
    if len(train.classes) < 2:
        raise DataError.naming("{data} {}: the features need labelled images of at least two classes", config.data)
    network = train_classifier(train, seed, device)
    order = np.random.default_rng(derive("quality-real", seed)).permutation(len(train.images))[: config.num_images]
    real = extract(network, torch.from_numpy(train.images[order]), device)
    held_out = torch.from_numpy(test.images[: config.num_images])
    images, classes = sample_images(generator, config.num_images, seed, device)
    result: dict[str, Any] = {
        "protocol": f"features of a {FEATURES}-d classifier of the training images, {EPOCHS} epochs; k = {NEIGHBOURS}",
        "data": train.name,
        "num_images": config.num_images,
        "num_test_images": len(held_out),
        "seed": seed,
        "weights_sha256": sha256_file(weights),
        "classifier_test_top1": _accuracy(
            network, held_out, torch.from_numpy(test.labels[: config.num_images]), device
        ),
        "generated": compare(real, extract(network, images, device)),
        "real_test": compare(real, extract(network, held_out, device)),
    }
    if generator.num_classes:
        result["generated_class_agreement"] = _accuracy(network, images, classes, device)
    result["seconds"] = round(time.monotonic() - started, 1)
    write_json(config.out, result)
    return result
