"""Datasets beside real images in the features of one encoder: how near, how varied, how much of it copied.

Every dataset gets the same number of images, and real test images are measured like one more: what a perfect source would get.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from genrep import datasets_manifest
from genrep.devices import pick_device
from genrep.distances import DENSITY_NEIGHBOURS, NEIGHBOURS, compare, nearest, vendi_score
from genrep.encoders import LoadedEncoder
from genrep.errors import DataError, one_of
from genrep.evaluate.frozen import FOLDER, stored_features
from genrep.evaluate.images import whole_batches
from genrep.evaluate.settings import open_encoder
from genrep.evaluate.transforms import Transform
from genrep.features import feature_batches
from genrep.files import digest_json, write_atomic, write_json
from genrep.images.labelled import LabelledImages
from genrep.images.sets import SETS, load_pair
from genrep.seeding import derive

from .config import SourceConfig

RESULT, PAGE = "source.json", "source.md"
CLOSEST = 0.01  # part of the real images that are nearer to another one than the threshold of a copy
COLUMNS = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "vendi": "Vendi score",
    "near_duplicates": "near-duplicates",
    "median_to_real": "median distance to real",
    "near_real": "copies of real",
}
PERCENT = ("near_duplicates", "near_real")


@dataclass(frozen=True, kw_only=True)
class SourceResult:
    """What was measured, and where it is written."""

    rows: dict[str, dict[str, float]]  # by the dataset's path; the last one is of real test images
    protocol: dict[str, Any]
    json: Path
    markdown: Path


def measure_sources(config: SourceConfig) -> SourceResult:
    """Measure every dataset, and write source.json and source.md. Features that are kept are not computed again.

    Raises:
        GenRepError: the encoder, a dataset or the real images cannot be read, or images come in several sizes.
    """
    sets = {str(path): datasets_manifest.open(path) for path in config.sources}
    if config.real not in SETS and not Path(config.real).is_dir():
        raise DataError.naming("{real} {!r}: neither a folder nor one of {}", config.real, one_of(config.real, SETS))
    train, test = load_pair(config.real, config.root, download=config.download)
    count = min(config.images, len(train), len(test), *map(len, sets.values()))
    if count <= DENSITY_NEIGHBOURS:
        raise DataError.naming(
            "{images} {}: so many images has the smallest set; wanted more than {}", count, DENSITY_NEIGHBOURS
        )
    features = Extractor(config)
    every = features.of_real(train)
    real = every[chosen(len(train), count, config.seed)]
    threshold = copy_threshold(real, every)
    rows = {}
    for name, dataset in sets.items():
        found = features.of_dataset(dataset, chosen(len(dataset), count, config.seed))
        rows[name] = figures(real, every, found, threshold)
    held_out = features.of_real(test)[chosen(len(test), count, config.seed)]
    rows[f"{train.name}, test images"] = figures(real, every, held_out, threshold)
    protocol = {
        "images": count,
        "real": f"{train.name}, {train.split}",
        "real_contents": train.inventory.contents_digest,
        "encoder_sha256": features.encoder.sha256,
        "transform": features.transform.describe(),
        "neighbours": {"precision, recall": NEIGHBOURS, "density, coverage": DENSITY_NEIGHBOURS},
        "copy_threshold": threshold,
        "seed": config.seed,
        "datasets": {name: dataset.manifest.digest for name, dataset in sets.items()},
    }
    config.out.mkdir(parents=True, exist_ok=True)
    result = SourceResult(rows=rows, protocol=protocol, json=config.out / RESULT, markdown=config.out / PAGE)
    write_json(result.json, {"protocol": protocol, "rows": rows})
    write_atomic(result.markdown, page(result).encode(), shared=True)
    return result


def chosen(length: int, count: int, seed: int) -> NDArray[np.int64]:
    """``count`` of ``length`` rows in rising order, a function of the seed."""
    draw = np.random.default_rng(derive("source-images", seed))
    return np.sort(draw.permutation(length)[:count])


def copy_threshold(real: Tensor, every: Tensor) -> float:
    """The distance below which 1 % of the real images have another one. ``real`` are some of ``every``."""
    return float(nearest(real, every, 2)[0][:, 1].quantile(CLOSEST))


def figures(real: Tensor, every: Tensor, found: Tensor, threshold: float) -> dict[str, float]:
    """All figures of a set of features. ``real`` are some of ``every``, the real training images. Shapes: ``(N, D)``."""
    to_real = nearest(found, every)[0][:, 0]
    to_own = nearest(found, found, same=True)[0][:, 0]
    return {
        **compare(real, found),
        "vendi": vendi_score(found),
        "near_duplicates": float((to_own < threshold).double().mean()),
        "median_to_real": float(to_real.median()),
        "near_real": float((to_real < threshold).double().mean()),
    }


def page(result: SourceResult) -> str:
    """The table in Markdown."""
    protocol = result.protocol
    lines = [
        "# Datasets beside real images",
        "",
        f"{protocol['images']} images of each, measured against as many of {protocol['real']}, in the features of the encoder "
        f"{protocol['encoder_sha256'][:12]} ({protocol['transform']}). A near-duplicate is nearer to another image of its set "
        f"than {protocol['copy_threshold']:.4g}, and a copy is as near to a real training image: 1 % of the real ones "
        "are as near to another. The last row is what a perfect source would get.",
        "",
        "| dataset | " + " | ".join(COLUMNS.values()) + " |",
        "|---|" + "---:|" * len(COLUMNS),
    ]
    for name, row in result.rows.items():
        cells = [f"{100 * row[key]:.2f} %" if key in PERCENT else f"{row[key]:.4g}" for key in COLUMNS]
        lines.append(f"| {name.replace('|', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


class Extractor:
    """Features of real images and of datasets' anchors, all by one encoder and one transform."""

    def __init__(self, config: SourceConfig) -> None:
        self.config, self.device = config, pick_device(config.device)
        self.encoder: LoadedEncoder = open_encoder(config, seed=config.seed)
        self.transform = Transform(resize=config.size, crop=config.size, bicubic=True)
        self.shape: tuple[int, ...] | None = None

    def of_real(self, data: LabelledImages) -> Tensor:
        """Of all of a split. Shape: ``(N, D)``."""
        key = {"images": data.inventory.contents_digest}
        config = self.config
        return self._stored(
            key,
            len(data),
            lambda: whole_batches(data, self.transform, config.feature_batch, config.workers),
            data.split,
        )

    def of_dataset(self, dataset: datasets_manifest.Dataset, rows: NDArray[np.int64]) -> Tensor:
        """Of the anchors of some pairs. Shape: ``(N, D)``."""
        key = {
            "shards": digest_json([[shard.name, shard.sha256] for shard in dataset.manifest.shards]),
            "rows": digest_json(rows.tolist()),
        }

        def batches() -> Iterator[NDArray[np.uint8]]:
            for start in range(0, len(rows), self.config.feature_batch):
                part = rows[start : start + self.config.feature_batch]
                yield np.stack([self.transform(Image.fromarray(dataset[int(i)]["anchor"])) for i in part])

        return self._stored(key, len(rows), batches, dataset.folder.name)

    def _stored(self, key: dict[str, Any], count: int, batches: Any, label: str) -> Tensor:
        facts, config = self.encoder.facts, self.config
        whole = {
            **key,
            "encoder_sha256": self.encoder.sha256,
            "transform": self.transform.describe(),
            "normalise": [list(facts.mean), list(facts.std)],
            "device": self.device.type,
        }

        def compute() -> Iterator[Tensor]:
            return feature_batches(
                self.encoder.module, facts, self._alike(batches()), self.device, batch_size=config.feature_batch
            )

        folder = config.out / FOLDER if config.cache else None
        return stored_features(folder, whole, count, compute, f"features of {label}")

    def _alike(self, batches: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
        """The batches. Raises DataError where images have another shape than those before, of whichever set."""
        for batch in batches:
            self.shape = self.shape or batch.shape[1:]
            if batch.shape[1:] != self.shape:
                found, wanted = ("x".join(map(str, shape[:2])) for shape in (batch.shape[1:], self.shape))
                raise DataError.naming(
                    "images of {} pixels where others have {}; give {size} to resize them", found, wanted
                )
            yield batch
