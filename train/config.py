"""What a run of ``genrep-train`` is asked for. engine/training_plan.py resolves it against the dataset and the machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from genrep.encoders import ARCHS, DEVICES, STEMS
from genrep.errors import ConfigError
from genrep.pixel_views import PIXEL_VIEWS, PixelViews
from genrep.settings import MOST_SEED, config, setting

from .objectives import OBJECTIVES

POSITIVES = ("stored", "anchor", "random", "all")
OPTIMIZERS = ("sgd", "lars", "adamw")
SCHEDULES = ("cosine", "cosine-by-epoch")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
TARGET_SCHEDULES = ("constant", "cosine")
DEFAULT_EPOCHS = 20  # GenRep on ImageNet-1k

# Settings that only some objectives have; None: the objective's own default.
OBJECTIVE_OPTIONS = (
    *("temperature", "base_temperature", "weight_sigma", "target_momentum", "target_schedule", "queue_size"),
    *("class_head", "latent_weight", "pixel_weight"),
)


@config
class TrainConfig:
    """Settings of a run; the defaults are GenRep's. None: see ``plan.resolve``, and for objectives their classes.

    ``TrainConfig(**{**preset("genrep-in1k"), "data": …, "out": …})`` is a paper's row (``presets.py``).
    """

    out: Path = setting(metavar="DIR", help="Folder of the run.")
    # Samples: stored ones, or made while training
    data: Path | Sequence[Path] = setting(
        default=(), metavar="DIR", help="A dataset, or a folder of images. Given several times, all are one."
    )
    mix: float | None = setting(
        default=None,
        least=0,
        most=1,
        metavar="FRACTION",
        help="Of two --data: replace this part of the first by images of the second.",
    )
    limit: float = setting(
        default=1.0, above=0, most=1, metavar="FRACTION", help="Train on a part, chosen by the seed."
    )
    shuffle_window: str | None = setting(
        default=None,
        metavar="SHARDS|BYTES",
        text=True,
        help="For sets larger than memory: shards, or bytes like 64GB, that may be in use at a time.  [default: all]",
    )
    image_size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Before all else cut whole pictures (of image folders, and of datasets whose images vary in size) to central "
        "squares of this side.  [default: views are cut from the whole pictures]",
    )
    partial: bool = setting(default=False, help="Take datasets of which shards are missing.")
    online: bool = setting(default=False, help="Make the samples while training, by --gen on the same device.")
    gen: str | None = setting(
        default=None,
        help="Generator of --online: a recipe's name, a TOML file or module:factory; or the autoencoder's.",
    )
    weights: Path | None = setting(default=None, metavar="PATH", help="Weights of --gen.  [default: the recipe's]")
    views: str | None = setting(
        default=None, help="With --online: T_z, as genrep-generate dataset takes it.  [default: the recipe's]"
    )
    filter: str | None = setting(
        default=None,
        metavar="[keep=PART,weights=]FILE",
        help="With --online: keep what this discriminator finds best.",
    )
    classes: str = setting(default="all", help="With --online, as in genrep-generate dataset.")
    truncation: float | None = setting(default=None, above=0, help="Of --gen.  [default: the recipe's]")
    features: str | None = setting(default=None, metavar="FILE", help="With --online: instance features (IC-GAN).")
    num_positives: int = setting(default=1, least=1, help="With --online: positives of each anchor.")
    steps_per_epoch: int | None = setting(default=None, least=1, metavar="STEPS", help="With --online.")
    # Network
    arch: str = setting(default="resnet18", choices=ARCHS, help="torchvision's ResNet.")
    stem: str = setting(
        default="imagenet",
        choices=STEMS,
        help="imagenet: 7x7 of stride 2 and pooling; cifar: 3x3, for small images.",
    )
    zero_init_residual: bool = setting(
        default=False, negatable=True, help="Begin with residual branches at zero (SimSiam)."
    )
    # Objective; None: the objective's own default
    objective: str = setting(default="simclr", choices=OBJECTIVES, help="What the encoder is trained to do.")
    temperature: float | None = setting(
        default=None, above=0, help="Of contrastive objectives.  [default: the objective's]"
    )
    base_temperature: float | None = setting(
        default=None, above=0, help="Scale the loss by temperature / this, as GenRep's code does with 0.07."
    )
    weight_sigma: float | None = setting(default=None, above=0, help="Of dclw.")
    target_momentum: float | None = setting(
        default=None, least=0, most=1, help="Of the moving average in byol and negative-feature-transform."
    )
    target_schedule: str | None = setting(default=None, choices=TARGET_SCHEDULES, help="Of byol's momentum.")
    queue_size: int | None = setting(
        default=None, least=1, help="Embeddings in the queue of nnclr and negative-feature-transform."
    )
    class_head: bool | None = setting(default=None, help="inverter, autoencoder: predict the class too.")
    latent_weight: float | None = setting(default=None, least=0, help="Of the autoencoder's latent term.")
    pixel_weight: float | None = setting(default=None, least=0, help="Of the autoencoder's pixel term.")
    # Length and optimiser
    epochs: int | None = setting(default=None, least=1, help=f"Passes over the data.  [default: {DEFAULT_EPOCHS}]")
    steps: int | None = setting(default=None, least=1, help="Updates, instead of --epochs.")
    batch_size: int = setting(default=256, least=2, metavar="PAIRS", help="Pairs per update, over all processes.")
    accumulate: int = setting(
        default=1,
        least=1,
        metavar="PARTS",
        help="Gradients of a batch in so many parts; not where samples are compared.",
    )
    optimizer: str = setting(
        default="sgd", choices=OPTIMIZERS, help="LARS and AdamW leave biases and batch norm without decay."
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help="Peak rate at batch 256; scaled in proportion to --batch-size.  [default: .03 sgd, .3 lars, 1.5e-4 adamw]",
    )
    weight_decay: float | None = setting(default=None, least=0, help="[default: 1e-4 sgd, 1e-6 lars, .1 adamw]")
    momentum: float = setting(default=0.9, least=0, below=1, help="Of SGD and LARS.")
    schedule: str = setting(default="cosine", choices=SCHEDULES, help="cosine moves at every step.")
    lr_floor: float = setting(default=1e-3, least=0, most=1, help="Part of the peak that the cosine ends at.")
    warmup_epochs: float | None = setting(
        default=None,
        least=0,
        metavar="EPOCHS",
        help="Linear warm-up before the cosine.  [default: 0; above batch 256: 10, at most a tenth of the run]",
    )
    # Views
    positive: str | None = setting(
        default=None,
        choices=POSITIVES,
        help="What the second view is of: the stored positive, the anchor itself, one of several stored positives drawn anew "
        "each epoch, or all of them as further views.  [default: stored, or anchor where the set stores none]",
    )
    pixel_views: str = setting(default="simclr", choices=PIXEL_VIEWS, help="Pixel augmentations of all views.")
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the images that the network sees.  [default: the stored size up to 64, else 112]",
    )
    centre: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the central square that pixel views without a random crop show, resized to --crop.  "
        "[default: --crop's]",
    )
    # Run
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Of initialisation, order and views.")
    device: str = setting(default="auto", choices=DEVICES, help="auto: the GPU if there is one.")
    precision: str = setting(
        default="auto", choices=PRECISIONS, help="auto: bf16 where the device computes in it natively."
    )
    compile: bool = setting(default=False, negatable=True, help="Compile the encoder, and on a GPU the pixel views.")
    sync_batchnorm: bool = setting(default=False, negatable=True, help="Batch norm over the batches of all processes.")
    workers: int | None = setting(
        default=None, least=1, help="Threads that read ahead.  [default: the cores but one, at most 8]"
    )
    checkpoint_every: int = setting(default=1, least=1, metavar="EPOCHS", help="A checkpoint to resume from.")
    checkpoint_minutes: float = setting(
        default=15.0, above=0, metavar="MINUTES", help="And one within an epoch, when the last is so old."
    )
    keep_checkpoints: int = setting(default=1, least=1, help="So many of the last ones.")
    log_every: int = setting(default=10, least=1, metavar="STEPS", help="A line in metrics.jsonl.")
    knn_every: int | None = setting(
        default=None,
        least=1,
        metavar="EPOCHS",
        help="Measure kNN on --knn-data, and keep the best encoder by it.",
    )
    knn_data: str | None = setting(
        default=None,
        metavar="NAME|DIR",
        help="Labelled images for --knn-every: a dataset's name or a folder.",
    )
    knn_root: Path | None = setting(default=None, metavar="DIR", help="Where a named dataset of --knn-data lies.")
    collapse_std: float = 0.1  # relative std of the embeddings (infonce.relative_std) that counts as collapsed
    collapse_steps: int = 500  # so many steps below it end the run

    def __post_init__(self) -> None:
        """What goes together. Raises ConfigError."""
        from genrep.datasets_manifest import dataset_folder

        data = (self.data,) if isinstance(self.data, Path) else self.data
        object.__setattr__(self, "data", tuple(dataset_folder(one) for one in data))
        _check_together(self)
        if self.shuffle_window is not None:
            _check_window(self.shuffle_window)

    @property
    def folders(self) -> tuple[Path, ...]:
        """``data``, always several."""
        return tuple(self.data)  # type: ignore[arg-type]

    def law_of_views(self) -> PixelViews:
        """The law of the pixel views."""
        return replace(PIXEL_VIEWS[self.pixel_views], centre=self.centre)

    def objective_options(self) -> dict[str, Any]:
        """Those of ``OBJECTIVE_OPTIONS`` that were given."""
        return {name: getattr(self, name) for name in OBJECTIVE_OPTIONS if getattr(self, name) is not None}


_ONLINE_ONLY = ("views", "filter", "features", "steps_per_epoch", "classes", "num_positives")
_STORED_ONLY = ("data", "mix", "shuffle_window", "image_size", "partial")


_NEEDS = {
    **{"weights": "gen", "truncation": "gen"},
    **{"knn_every": "knn_data", "knn_data": "knn_every", "knn_root": "knn_data"},
}
_DEFAULTS = {one.name: one.default for one in fields(TrainConfig)}


def _check_window(window: str) -> None:
    from .data.order import parse_window  # with NumPy, which a help text should not wait for

    try:
        parse_window(window)
    except ValueError as error:
        reason = str(error).removeprefix("shuffle_window ")
        raise ConfigError.naming("{shuffle_window} {}", reason) from error


def _check_together(config: TrainConfig) -> None:
    """Settings that need or exclude each other."""
    naming = ConfigError.naming
    if config.epochs is not None and config.steps is not None:
        raise naming("{epochs} {} and {steps} {}: give one of the two", config.epochs, config.steps)
    if not config.folders and not config.online:
        raise naming("{data}: wanted a dataset, or {online} with {gen}")
    for name in _STORED_ONLY if config.online else _ONLINE_ONLY:
        if getattr(config, name) not in (None, (), False, _DEFAULTS[name]):
            raise naming(f"{{{name}}}: wanted only {'without' if config.online else 'with'} {{online}}")
    if config.online:
        _check_online(config)
    elif config.gen is not None and config.objective != "autoencoder":
        raise naming("{gen} {}: wanted with {online} or {objective} autoencoder", config.gen)
    for name, other in _NEEDS.items():
        if getattr(config, name) is not None and getattr(config, other) is None:
            raise naming(f"{{{name}}} {{}}: wanted {{{other}}} beside it", getattr(config, name))
    if config.mix is not None and len(config.folders) != 2:
        raise naming("{mix} {:g}: wanted {data} twice, found {}", config.mix, len(config.folders))


def _check_online(config: TrainConfig) -> None:
    """What images that are made while a run trains need and exclude."""
    for name in ("gen", "steps_per_epoch"):
        if getattr(config, name) is None:
            raise ConfigError.naming(f"{{online}}: wanted {{{name}}} beside it")
    if config.limit != 1:
        raise ConfigError.naming("{limit} {}: wanted only without {online}", config.limit)
