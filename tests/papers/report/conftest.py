"""Runs as training and evaluation leave them, without either."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Json = dict[str, Any]
CONFIG: Json = {
    **{"arch": "resnet18", "stem": "imagenet", "objective": "simclr", "pixel_views": "simclr", "positive": "stored"},
    **{"batch_size": 100, "num_views": 2, "epochs": 4, "steps": None, "steps_per_epoch": 100, "total_steps": 400},
    **{"warmup_epochs": 0.0, "warmup_steps": 0, "lr": 0.03, "limit": 1.0, "mix": None, "num_pairs": 10_000},
    **{"online": False, "gen": None, "views": None, "device": "cpu", "processes": 1, "threads": 1, "seed": 0},
    **{"data": [], "dataset_id": "", "out": "somewhere", "versions": {"torch": "2"}, "precision": "fp32"},
}
FROZEN: Json = {"name": "linear", "preset": "frozen", "epochs": 60, "batch_size": 256, "metric": "top-1"}
GENREP: Json = {
    **{"name": "linear", "preset": "genrep", "epochs": 60, "batch_size": 256, "metric": "top-1"},
    **{"features": "pooled, evaluation mode, float32, not standardised", "initialisation": "nn.Linear's", "lr": 2.0},
    **{
        "augmentation": "RandomResizedCrop(112, 0.2-1), horizontal flip",
        "optimiser": "SGD, momentum 0.9, no weight decay",
    },
    **{"test_transform": "Resize(128, bilinear) -> CenterCrop(112)", "schedule": "cosine per epoch to 0.008 of lr"},
    **{"train_images": 126_689, "test_images": 5000, "classes": 100},
}
HL: Json = {
    **{**GENREP, "preset": "hl", "lr": 30.0, "initialisation": "weights N(0, 0.01), bias 0"},
    "schedule": "cosine per epoch to 0.1 of lr",
}


def sha256(text: str) -> str:
    """Hex."""
    return hashlib.sha256(text.encode()).hexdigest()


class Workplace:
    """Writes folders under one root; every method returns what it wrote."""

    frozen, genrep, hl = FROZEN, GENREP, HL

    def __init__(self, root: Path) -> None:
        self.root = root

    def entry(self, value: float, *, protocol: Json = FROZEN, **more: Any) -> Json:
        """An entry of a result file."""
        return {
            **{"dataset": "fashion_mnist", "protocol": protocol, "seed": 0, "metric": "linear_top1_60ep"},
            **{"unit": "percent", "value": value, "n": 10_000, "encoder_sha256": "a" * 64, "seconds": 12.0},
            **{"device": "cpu", "encoder": {"arch": "resnet18", "stem": "imagenet", "trained": True}},
            **more,
        }

    def results(self, name: str, *entries: Json, file: str = "linear.json") -> Path:
        """A folder with results."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(json.dumps(entries))
        return folder

    def run(self, name: str, value: float, *, sets: tuple[Path, ...] = (), lines: int = 40, **config: Any) -> Path:
        """A training's folder, with one result."""
        folder = self.results(name, self.entry(value, encoder_sha256=sha256(name)))
        ids = [json.loads((one / "manifest.json").read_text())["id"] for one in sets]
        facts = {**CONFIG, "data": [str(one) for one in sets], "dataset_id": "+".join(ids), **config}
        (folder / "config.json").write_text(json.dumps(facts))
        curve = [{"step": 10 * k, "loss": 5 / k, "images_per_s": 1000.0} for k in range(1, lines + 1)]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve) + '{"step": 4')
        return folder

    def shards(self, name: str, *, views: Json | None = None, num_pairs: int = 10_000) -> Path:
        """A dataset's manifest; without views of real images."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        made = {"generator": {"name": "stylegan2_fashion"}, "views": views, "num_positives": 1}
        recipe = made if views else {"source": {"name": "fashion_mnist"}, "num_positives": 0}
        recipe |= {"num_pairs": num_pairs, "seed": 0, "pairs_per_shard": 500}
        manifest = {"id": sha256(name), "recipe": recipe, "build": {"seconds": 25.0, "device": ["cpu"]}}
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    def gaussian(self, std: float, num_pairs: int = 10_000) -> Path:
        """A dataset of Gaussian views."""
        views = {"name": "gaussian", "std": std, "truncation": 2.0}
        return self.shards(f"gaussian-{std}-{num_pairs}", views=views, num_pairs=num_pairs)


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    """See ``Workplace``."""
    return Workplace(tmp_path)


def parse_tables(markdown: str) -> dict[str, list[list[str]]]:
    """Cells of each table by the heading that it stands under."""
    tables: dict[str, list[list[str]]] = {}
    heading = ""
    for line in markdown.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| ") and not line.startswith("| ---"):
            tables.setdefault(heading, []).append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
    return tables


@pytest.fixture
def tables_of() -> Callable[[str], dict[str, list[list[str]]]]:
    """See ``parse_tables``."""
    return parse_tables
