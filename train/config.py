"""What a run of ``genrep-train`` is asked for. ``plan.py`` resolves it against the dataset and the machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genrep.encoders import ARCHS, DEVICES, PRECISIONS, STEMS
from genrep.pixel_views import PIXEL_VIEWS

POSITIVES = ("stored", "anchor", "random")
DEFAULT_EPOCHS = 20  # GenRep on ImageNet-1k


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of a SimCLR run on a dataset of pairs; the numbers are GenRep's. None: see ``plan.resolve``."""

    data: Path
    out: Path
    arch: str = "resnet18"
    stem: str = "imagenet"
    epochs: int | None = None  # this or steps
    steps: int | None = None  # updates
    batch_size: int = 256  # pairs
    lr: float = 0.03  # at batch size 256; the run's peak is in proportion to its batch size
    weight_decay: float = 1e-4  # on every parameter
    momentum: float = 0.9
    temperature: float = 0.1
    warmup_epochs: float | None = None
    positive: str | None = None  # one of POSITIVES: the second view is of a stored positive, of the anchor itself, …
    pixel_views: str = "simclr"
    crop: int | None = None  # side in pixels of the images that the network sees
    limit: float = 1.0  # fraction of the pairs, chosen by the seed
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    workers: int | None = None  # threads that read ahead
    checkpoint_every: int = 1  # epochs
    log_every: int = 10  # steps
    collapse_std: float = 0.1  # relative std of the embeddings (infonce.relative_std) that counts as collapsed
    collapse_steps: int = 500  # so many steps below it end the run

    def __post_init__(self) -> None:
        """Raises ValueError, naming the option."""
        choices = {
            "arch": tuple(ARCHS),
            "stem": STEMS,
            "positive": (None, *POSITIVES),
            "pixel_views": tuple(PIXEL_VIEWS),
            "device": DEVICES,
            "precision": PRECISIONS,
        }
        for name, known in choices.items():
            value = getattr(self, name)
            if value not in known:
                raise ValueError(f"{option(name)} {value!r}: wanted one of {', '.join(str(k) for k in known if k)}")
        if self.epochs is not None and self.steps is not None:
            raise ValueError(f"--epochs {self.epochs} and --steps {self.steps}: give one of the two")
        for name, low in {
            "epochs": 1,
            "steps": 1,
            "batch_size": 2,
            "crop": 1,
            "workers": 1,
            "checkpoint_every": 1,
        }.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"{option(name)} {value}: wanted at least {low}")
        for name in ("lr", "temperature"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{option(name)} {getattr(self, name)}: wanted a positive number")
        for name in ("weight_decay", "warmup_epochs"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise ValueError(f"{option(name)} {value}: wanted a number that is not negative")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"--momentum {self.momentum}: wanted 0 to below 1")
        if not 0 < self.limit <= 1:
            raise ValueError(f"--limit {self.limit}: wanted above 0, at most 1")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"--seed {self.seed}: wanted 0 to 2^63 - 1")


def option(name: str) -> str:
    """A field's option on the command line."""
    return "--" + name.replace("_", "-")
