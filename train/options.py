"""The options of ``genrep-train``, in the order of its help text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from genrep.cli import settings_of
from genrep.encoders import ARCHS, DEVICES, STEMS
from genrep.option_types import COUNT, PATH, PATH_TEXT, Choice, IntRange
from genrep.pixel_views import PIXEL_VIEWS

from .config import (
    DEFAULT_EPOCHS,
    OPTIMIZERS,
    POSITIVES,
    PRECISIONS,
    SCHEDULES,
    TARGET_SCHEDULES,
    TrainConfig,
)
from .objectives import OBJECTIVES

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULTS = {name: field.default for name, field in TrainConfig.__dataclass_fields__.items()}
of_config = settings_of(TrainConfig)
ABOVE_0 = click.FloatRange(min=0, min_open=True)
FROM_0 = click.FloatRange(min=0)
PART = click.FloatRange(min=0, max=1)


def setting(flag: str, text: str, kind: Any = None, metavar: str | None = None) -> Callable[[Any], Any]:
    """An option of the config's field of this name."""
    if isinstance(DEFAULTS[flag.partition("/")[0].strip("-").replace("-", "_")], bool):
        return of_config(flag, is_flag=True, help=text)
    return of_config(flag, type=kind, metavar=metavar, help=text)


def choice(names: Any) -> Choice:
    """One of these names."""
    return Choice(list(names))


OPTIONS = [
    click.option("--out", required=True, type=PATH, metavar="DIR", help="Folder of the run."),
    click.option(
        "--preset",
        metavar="NAME|FILE",
        type=PATH_TEXT,
        help="Settings of a paper's row, or of a TOML file; options given beside it come first.",
    ),
    # Samples
    click.option(
        "--data",
        multiple=True,
        type=PATH,
        metavar="DIR",
        help="A dataset, or a folder of images. Given several times, all are one.",
    ),
    setting("--mix", "Of two --data: replace this part of the first by images of the second.", PART, "FRACTION"),
    setting("--limit", "Train on a part, chosen by the seed.", click.FloatRange(0, 1, min_open=True), "FRACTION"),
    setting(
        "--shuffle-window",
        "For sets larger than memory: shards, or bytes like 64GB, that may be in use at a time.  [default: all]",
        None,
        "SHARDS|BYTES",
    ),
    setting(
        "--image-size",
        "Before all else cut whole pictures (of image folders, and of datasets whose images vary in size) to central "
        "squares of this side.  [default: views are cut from the whole pictures]",
        COUNT,
        "PIXELS",
    ),
    setting("--partial", "Take datasets of which shards are missing."),
    setting("--online", "Make the samples while training, by --gen on the same device."),
    setting(
        "--gen",
        "Generator of --online: a recipe's name, a TOML file or module:factory; or the autoencoder's.",
        PATH_TEXT,
    ),
    setting("--weights", "Weights of --gen.  [default: the recipe's]", PATH, "PATH"),
    setting("--views", "With --online: T_z, as genrep-generate dataset takes it.  [default: the recipe's]", PATH_TEXT),
    setting(
        "--filter", "With --online: keep what this discriminator finds best.", PATH_TEXT, "[keep=PART,weights=]FILE"
    ),
    setting("--classes", "With --online, as in genrep-generate dataset.", PATH_TEXT),
    setting("--truncation", "Of --gen.  [default: the recipe's]", ABOVE_0),
    setting("--features", "With --online: instance features (IC-GAN).", PATH_TEXT, "FILE"),
    setting("--num-positives", "With --online: positives of each anchor.", COUNT),
    setting("--steps-per-epoch", "With --online.", COUNT, "STEPS"),
    # Network
    setting("--arch", "torchvision's ResNet.", choice(ARCHS)),
    setting("--stem", "imagenet: 7x7 of stride 2 and pooling; cifar: 3x3, for small images.", choice(STEMS)),
    setting("--zero-init-residual/--no-zero-init-residual", "Begin with residual branches at zero (SimSiam)."),
    # Objective
    setting("--objective", "What the encoder is trained to do.", choice(OBJECTIVES)),
    setting("--temperature", "Of contrastive objectives.  [default: the objective's]", ABOVE_0),
    setting("--base-temperature", "Scale the loss by temperature / this, as GenRep's code does with 0.07.", ABOVE_0),
    setting("--weight-sigma", "Of dclw.", ABOVE_0),
    setting("--target-momentum", "Of the moving average in byol and negative-feature-transform.", PART),
    setting("--target-schedule", "Of byol's momentum.", choice(TARGET_SCHEDULES)),
    setting("--queue-size", "Embeddings in the queue of nnclr and negative-feature-transform.", COUNT),
    click.option("--class-head/--no-class-head", default=None, help="inverter, autoencoder: predict the class too."),
    setting("--latent-weight", "Of the autoencoder's latent term.", FROM_0),
    setting("--pixel-weight", "Of the autoencoder's pixel term.", FROM_0),
    # Length and optimiser
    setting("--epochs", f"Passes over the data.  [default: {DEFAULT_EPOCHS}]", COUNT),
    setting("--steps", "Updates, instead of --epochs.", COUNT),
    setting("--batch-size", "Pairs per update, over all processes.", IntRange(min=2), "PAIRS"),
    setting("--accumulate", "Gradients of a batch in so many parts; not where samples are compared.", COUNT, "PARTS"),
    setting("--optimizer", "LARS and AdamW leave biases and batch norm without decay.", choice(OPTIMIZERS)),
    setting(
        "--lr",
        "Peak rate at batch 256; scaled in proportion to --batch-size.  [default: .03 sgd, .3 lars, 1.5e-4 adamw]",
        ABOVE_0,
    ),
    setting("--weight-decay", "[default: 1e-4 sgd, 1e-6 lars, .1 adamw]", FROM_0),
    setting("--momentum", "Of SGD and LARS.", click.FloatRange(0, 1, max_open=True)),
    setting("--schedule", "cosine moves at every step.", choice(SCHEDULES)),
    setting("--lr-floor", "Part of the peak that the cosine ends at.", PART),
    setting(
        "--warmup-epochs",
        "Linear warm-up before the cosine.  [default: 0; above batch 256: 10, at most a tenth of the run]",
        FROM_0,
        "EPOCHS",
    ),
    # Views
    setting(
        "--positive",
        "What the second view is of: the stored positive, the anchor itself, one of several stored positives drawn anew "
        "each epoch, or all of them as further views.  [default: stored, or anchor where the set stores none]",
        choice(POSITIVES),
    ),
    setting("--pixel-views", "Pixel augmentations of all views.", choice(PIXEL_VIEWS)),
    setting(
        "--crop",
        "Side of the images that the network sees.  [default: the stored size up to 64, else 112]",
        COUNT,
        "PIXELS",
    ),
    setting(
        "--centre",
        "Side of the central square that pixel views without a random crop show, resized to --crop.  [default: --crop's]",
        COUNT,
        "PIXELS",
    ),
    # Run
    setting("--seed", "Of initialisation, order and views.", IntRange(min=0)),
    setting("--device", "auto: the GPU if there is one.", choice(DEVICES)),
    setting("--precision", "auto: bf16 where the device computes in it natively.", choice(PRECISIONS)),
    setting("--compile/--no-compile", "Compile the encoder, and on a GPU the pixel views."),
    setting("--sync-batchnorm/--no-sync-batchnorm", "Batch norm over the batches of all processes."),
    setting("--workers", "Threads that read ahead.  [default: the cores but one, at most 8]", COUNT),
    setting("--checkpoint-every", "A checkpoint to resume from.", COUNT, "EPOCHS"),
    setting("--checkpoint-minutes", "And one within an epoch, when the last is so old.", ABOVE_0, "MINUTES"),
    setting("--keep-checkpoints", "So many of the last ones.", COUNT),
    setting("--log-every", "A line in metrics.jsonl.", COUNT, "STEPS"),
    setting("--knn-every", "Measure kNN on --knn-data, and keep the best encoder by it.", COUNT, "EPOCHS"),
    setting("--knn-data", "Labelled images for --knn-every: a dataset's name or a folder.", PATH_TEXT, "NAME|DIR"),
    setting("--knn-root", "Where a named dataset of --knn-data lies.", PATH, "DIR"),
]


def all_options(command: Command) -> Command:
    """Every option of the command."""
    for one in reversed(OPTIONS):
        command = one(command)
    return command
