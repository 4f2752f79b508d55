"""A linear probe from a config to an entry of ``linear.json``."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrep.encoders import EncoderFacts, LoadedEncoder, build_encoder, load_encoder
from genrep.encoders.devices import pick_device
from genrep.errors import DataError, ResumeError
from genrep.files import locked_folder
from genrep.pixel_views import IMAGENET_MEAN, IMAGENET_STD
from genrep.real_images import NAMED, RealImages, load_images

from .config import LR_RULE, LinearConfig
from .features import extract_features
from .probe import MOMENTUM, Split, default_lr, fit_linear
from .results import Entry, add, find, read_results

RESULT_FILE = "linear.json"


@dataclass(frozen=True, kw_only=True)
class LinearResult:
    """An entry of the result file."""

    path: Path
    entry: Entry
    already_done: bool = False


def evaluate_linear(config: LinearConfig) -> LinearResult:
    """Train a linear classifier on a frozen encoder's features of the training images, and test it on the test images.

    Raises:
        GenRepError: the encoder or the images cannot be read, or ``out`` holds this result for another encoder.
    """
    started = time.monotonic()
    device = pick_device(config.device)
    encoder = pick_encoder(config)
    path = config.out / RESULT_FILE
    with locked_folder(config.out):
        train, test = (_load(config, encoder.facts, split) for split in ("train", "test"))
        entry: Entry = {
            "dataset": config.dataset if config.dataset in NAMED else train.name,
            "protocol": protocol(config, train, test),
            "seed": config.seed,
        }
        old = find(read_results(path), entry)
        if old is not None and not config.force:
            return LinearResult(path=path, entry=_same_encoder(old, encoder, path), already_done=True)
        splits = [
            Split(
                features=extract_features(encoder.module, encoder.facts, data.images, device, label=f"{name} features"),
                labels=torch.from_numpy(data.labels),
            )
            for name, data in (("train", train), ("test", test))
        ]
        entry |= measure(config, splits[0], splits[1], num_classes=len(train.classes))
        entry |= {
            "n": len(test.labels),
            "encoder": {"arch": encoder.facts.arch, "stem": encoder.facts.stem, "trained": not config.random_init},
            "encoder_sha256": encoder.sha256,
            "normalise": {"mean": list(encoder.facts.mean), "std": list(encoder.facts.std)},
            "device": device.type,
            "seconds": round(time.monotonic() - started, 1),
            "versions": {"torch": torch.__version__},
        }
        add(path, entry)
    return LinearResult(path=path, entry=entry)


def protocol(config: LinearConfig, train: RealImages, test: RealImages) -> dict[str, Any]:
    """Everything that must agree for two results to stand in one column."""
    return {
        "name": "linear",
        "features": "pooled, evaluation mode, float32, not standardised",
        "augmentation": "none: whole images for training and test",
        "image_shape": list(train.images.shape[1:3]),
        "train_images": len(train.labels),
        "test_images": len(test.labels),
        "classes": len(train.classes),
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "optimiser": f"SGD, momentum {MOMENTUM}, no weight decay",
        "schedule": "cosine per epoch to 0.008 of lr",
        "lr": config.lr if config.lr is not None else f"{LR_RULE:g} / mean squared length of the training features",
        "reported": "last epoch",
    }


def measure(config: LinearConfig, train: Split, test: Split, *, num_classes: int) -> Entry:
    """Train the heads and state their results; the one at ``lr`` is the result, chosen without the test images."""
    lr = config.lr if config.lr is not None else default_lr(train.features)
    curves = fit_linear(
        train,
        test,
        num_classes=num_classes,
        lrs=(lr, *config.lr_grid),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    return {
        "metric": f"linear_top1_{config.epochs}ep",
        "unit": "percent",
        "value": curves[0].last,
        "best_value": curves[0].best,  # the best epoch on the test images: not a result
        "lr": lr,
        "lr_grid": [{"lr": curve.lr, "value": curve.last, "best_value": curve.best} for curve in curves[1:]],
    }


def pick_encoder(config: LinearConfig) -> LoadedEncoder:
    """The encoder of ``--encoder``, or an untrained one of ``--arch`` with this seed."""
    if config.encoder is not None:
        return load_encoder(config.encoder)
    assert config.arch is not None
    module = build_encoder(config.arch, config.stem, config.seed).eval()
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    facts = EncoderFacts(arch=config.arch, stem=config.stem, size=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
    return LoadedEncoder(module=module, facts=facts, path=Path("random-init"), sha256=digest.hexdigest())


def _load(config: LinearConfig, facts: EncoderFacts, split: str) -> RealImages:
    """Named datasets at their own size, folders at ``--size`` or the size that the encoder was trained at."""
    trained_at = None if config.random_init else facts.size
    data = load_images(
        config.dataset,
        config.root,
        split,
        size=None if config.dataset in NAMED else config.size or trained_at,
        download=config.download,
    )
    if (data.labels < 0).any() or len(data.classes) < 2:
        raise DataError(f"--dataset {config.dataset}: its {split} images have no labels of two or more classes")
    return data


def _same_encoder(entry: Entry, encoder: LoadedEncoder, path: Path) -> Entry:
    if entry.get("encoder_sha256") != encoder.sha256:
        there = str(entry.get("encoder_sha256"))[:12]
        raise ResumeError(
            f"{path}: holds this result for another encoder ({there}…, this one is {encoder.sha256[:12]}…); "
            "wanted another --out, or --force to replace it"
        )
    return entry
