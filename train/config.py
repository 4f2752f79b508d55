"""Settings of ``genrep-train``. engine/training_plan.py resolves them against the dataset and the machine."""

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

    out: Path = setting(metavar="DIR", help="Folder of the run: encoder, checkpoints, metrics and settings.")
    # Samples: stored ones, or made while training
    data: Path | Sequence[Path] = setting(
        default=(),
        metavar="DIR",
        help="Dataset of shards, or folder of images, to train on. Repeat it to train on several as one.",
    )
    mix: float | None = setting(
        default=None,
        least=0,
        most=1,
        metavar="FRACTION",
        help="With two --data: fraction of the first dataset's images to replace by images of the second.  "
        "[default: no replacement]",
    )
    limit: float = setting(
        default=1.0,
        above=0,
        most=1,
        metavar="FRACTION",
        help="Fraction of the samples to train on, chosen by the seed.",
    )
    shuffle_window: str | None = setting(
        default=None,
        metavar="SHARDS|BYTES",
        text=True,
        help="Largest part of the data in use at a time, as a number of shards or a size such as 64GB. For "
        "datasets larger than memory.  [default: all]",
    )
    image_size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Cut whole pictures to central squares of this side before the pixel views. For image folders "
        "and datasets of varying image size.  [default: views are cut from the whole pictures]",
    )
    partial: bool = setting(default=False, help="Accept datasets with missing shards.")
    online: bool = setting(default=False, help="Generate the samples during training with --gen, on the same device.")
    gen: str | None = setting(
        default=None,
        help="Generator for --online or the autoencoder objective: a recipe's name, a TOML file or "
        "module:factory.  [default: none]",
    )
    weights: Path | None = setting(default=None, metavar="PATH", help="Weights file of --gen.  [default: the recipe's]")
    views: str | None = setting(
        default=None,
        help="With --online: latent view, written as for genrep-generate dataset.  [default: the recipe's]",
    )
    filter: str | None = setting(
        default=None,
        metavar="[keep=PART,weights=]FILE",
        help="With --online: filter of pairs, trained by fit-filter. Keeps the fraction PART of the "
        "candidates that it scores highest, half of them if PART is not given.  [default: no filter]",
    )
    weigh: str | None = setting(
        default=None,
        metavar="foreground=FILE[,gamma=G]",
        help="With --online: weights of pairs, written as for genrep-generate dataset.",
    )
    classes: str = setting(
        default="all", help="With --online: classes to generate, written as for genrep-generate dataset."
    )
    prompts: Path | None = setting(
        default=None,
        metavar="FILE",
        help="With --online: prompts of a text-to-image generator, written as for genrep-generate dataset.",
    )
    anchors: str | None = setting(
        default=None,
        metavar="DIR|NAME",
        help="With --online: real images as anchors, an image folder or the name of a set. --views sdedit or unclip makes "
        "their positives.  [default: anchors are generated]",
    )
    root: Path | None = setting(
        default=None,
        metavar="DIR",
        help="Folder that holds the named dataset of --anchors, or that --download puts it in.",
    )
    download: bool = setting(default=False, help="Download the named dataset of --anchors if it is not under --root.")
    split: str = setting(default="train", choices=("train", "test"), help="With --anchors: split to read.")
    truncation: float | None = setting(
        default=None, above=0, help="Truncation of the generator's latents.  [default: the recipe's]"
    )
    guidance: float | None = setting(
        default=None,
        least=0,
        help="With --online: scale of classifier-free guidance of a diffusion model; 1 is none.  [default: the recipe's]",
    )
    sampler_steps: int | None = setting(
        default=None,
        least=1,
        most=10_000,
        help="With --online: steps of a diffusion model's sampler.  [default: the recipe's]",
    )
    features: str | None = setting(
        default=None, metavar="FILE", help="With --online: file of instance features for IC-GAN.  [default: none]"
    )
    num_positives: int = setting(default=1, least=1, help="With --online: positives per anchor.")
    steps_per_epoch: int | None = setting(
        default=None, least=1, metavar="STEPS", help="With --online: updates that count as one epoch. Required there."
    )
    # Network
    arch: str = setting(default="resnet18", choices=ARCHS, help="Architecture of the encoder, a ResNet of torchvision.")
    stem: str = setting(
        default="imagenet",
        choices=STEMS,
        help="First layers of the encoder. imagenet: a 7x7 convolution of stride 2 and max pooling; cifar: a "
        "3x3 convolution, for small images.",
    )
    zero_init_residual: bool = setting(
        default=False, negatable=True, help="Start with all residual branches at zero, as SimSiam does.  [default: no]"
    )
    # Objective; None: the objective's own default
    objective: str = setting(default="simclr", choices=OBJECTIVES, help="Training objective.")
    temperature: float | None = setting(
        default=None,
        above=0,
        help="Temperature of the contrastive objectives.  [default: 0.1; negative-feature-transform: 0.2]",
    )
    base_temperature: float | None = setting(
        default=None,
        above=0,
        help="Multiply the loss by temperature / base temperature. GenRep's code uses 0.07.  [default: no scaling]",
    )
    weight_sigma: float | None = setting(
        default=None, above=0, help="Width sigma of the weights of dclw.  [default: 0.5]"
    )
    target_momentum: float | None = setting(
        default=None,
        least=0,
        most=1,
        help="Momentum of the target network of byol and negative-feature-transform.  [default: 0.996; "
        "negative-feature-transform: 0.999]",
    )
    target_schedule: str | None = setting(
        default=None,
        choices=TARGET_SCHEDULES,
        help="Schedule of byol's target momentum. cosine raises it to 1 at the end of training.  [default: constant]",
    )
    queue_size: int | None = setting(
        default=None,
        least=1,
        help="Number of embeddings in the queue of nnclr and negative-feature-transform.  [default: 98304; "
        "negative-feature-transform: 65536]",
    )
    class_head: bool | None = setting(
        default=None, help="With inverter and autoencoder: also predict the class.  [default: no]"
    )
    latent_weight: float | None = setting(
        default=None, least=0, help="Weight of the latent term in the autoencoder's loss.  [default: 1]"
    )
    pixel_weight: float | None = setting(
        default=None, least=0, help="Weight of the pixel term in the autoencoder's loss.  [default: 1]"
    )
    weight_field: str | None = setting(
        default=None,
        metavar="NAME",
        help="Field of the samples whose number weighs each pair in the loss, such as weight or strength. A batch's weights "
        "are scaled to mean 1.  [default: all pairs weigh the same]",
    )
    # Length and optimiser
    epochs: int | None = setting(
        default=None, least=1, help=f"Number of passes over the data.  [default: {DEFAULT_EPOCHS}]"
    )
    steps: int | None = setting(
        default=None, least=1, help="Number of updates; replaces --epochs.  [default: given by --epochs]"
    )
    batch_size: int = setting(
        default=256, least=2, metavar="PAIRS", help="Pairs per update, summed over all processes."
    )
    accumulate: int = setting(
        default=1,
        least=1,
        metavar="PARTS",
        help="Number of parts to split each batch into; their gradients are averaged. Only for objectives "
        "that do not compare samples.",
    )
    optimizer: str = setting(
        default="sgd",
        choices=OPTIMIZERS,
        help="Optimizer. LARS and AdamW apply no weight decay to biases and batch norm.",
    )
    lr: float | None = setting(
        default=None,
        above=0,
        help="Peak learning rate at batch size 256; scaled in proportion to --batch-size.  [default: .03 sgd, "
        ".3 lars, 1.5e-4 adamw]",
    )
    weight_decay: float | None = setting(
        default=None, least=0, help="Weight decay.  [default: 1e-4 sgd, 1e-6 lars, .1 adamw]"
    )
    momentum: float = setting(default=0.9, least=0, below=1, help="Momentum of SGD and LARS.")
    schedule: str = setting(
        default="cosine",
        choices=SCHEDULES,
        help="Learning-rate schedule: a cosine that changes at every update or once per epoch.",
    )
    lr_floor: float = setting(default=1e-3, least=0, most=1, help="Final learning rate, as a fraction of the peak.")
    warmup_epochs: float | None = setting(
        default=None,
        least=0,
        metavar="EPOCHS",
        help="Epochs of linear warm-up before the cosine.  [default: 0; above batch size 256, 10 or a tenth "
        "of the run, whichever is less]",
    )
    # Views
    positive: str | None = setting(
        default=None,
        choices=POSITIVES,
        help="Source of the second view: the stored positive, the anchor itself, one of several stored "
        "positives drawn anew each epoch, or all of them as further views.  [default: stored; anchor if "
        "the dataset stores no positives]",
    )
    pixel_views: str = setting(
        default="simclr",
        choices=PIXEL_VIEWS,
        help="Pixel augmentations of all views. simclr: random crop, flip, colour jitter, grayscale; "
        "no-color: crop and flip; no-crop: simclr without crop; simclr-blur: simclr and blur; infomin: "
        "InfoMin's; mnist: small rotations, shifts and zooms; none: no augmentation.",
    )
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
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of initialisation, order and views.")
    device: str = setting(default="auto", choices=DEVICES, help="Device to train on. auto: the GPU if there is one.")
    precision: str = setting(
        default="auto",
        choices=PRECISIONS,
        help="Number format of the forward and backward passes. auto: bf16 where the device computes in it "
        "natively, else fp32.",
    )
    compile: bool = setting(
        default=False, negatable=True, help="Compile the encoder and, on a GPU, the pixel views.  [default: no]"
    )
    sync_batchnorm: bool = setting(
        default=False,
        negatable=True,
        help="Compute batch-norm statistics over the batches of all processes. Needs GPUs.  [default: no]",
    )
    workers: int | None = setting(
        default=None,
        least=1,
        help="Number of threads that read and decode ahead.  [default: the number of cores minus one, at most 8]",
    )
    checkpoint_every: int = setting(
        default=1, least=1, metavar="EPOCHS", help="Epochs between checkpoints, from which an interrupted run resumes."
    )
    checkpoint_minutes: float = setting(
        default=15.0,
        above=0,
        metavar="MINUTES",
        help="Minutes after the last checkpoint at which another is written within an epoch.",
    )
    keep_checkpoints: int = setting(default=1, least=1, help="Number of most recent checkpoints to keep.")
    log_every: int = setting(default=10, least=1, metavar="STEPS", help="Steps between lines of metrics.jsonl.")
    knn_every: int | None = setting(
        default=None,
        least=1,
        metavar="EPOCHS",
        help="Epochs between kNN measurements on --knn-data; the best encoder is kept.  [default: none are made]",
    )
    knn_data: str | None = setting(
        default=None,
        metavar="NAME|DIR",
        help="Labelled images for --knn-every: a named dataset or an image folder.",
    )
    knn_root: Path | None = setting(
        default=None,
        metavar="DIR",
        help="Folder that holds the named dataset of --knn-data. Required for a named dataset.",
    )
    collapse_std: float = 0.1  # relative std of the embeddings (infonce.relative_std) that counts as collapsed
    collapse_steps: int = 500  # so many steps below it end the run

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
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
        """The ``OBJECTIVE_OPTIONS`` that were given."""
        return {name: getattr(self, name) for name in OBJECTIVE_OPTIONS if getattr(self, name) is not None}


_ONLINE_ONLY = (
    *("views", "filter", "weigh", "features", "steps_per_epoch", "classes", "num_positives"),
    *("prompts", "anchors", "root", "download", "split", "guidance", "sampler_steps"),
)
_STORED_ONLY = ("data", "mix", "shuffle_window", "image_size", "partial")


_NEEDS = {
    **{"weights": "gen", "truncation": "gen"},
    **{"root": "anchors", "download": "anchors"},
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
    """Check settings that need or exclude each other."""
    naming = ConfigError.naming
    if config.epochs is not None and config.steps is not None:
        raise naming("{epochs} {} and {steps} {}: give only one of the two", config.epochs, config.steps)
    if not config.folders and not config.online:
        raise naming("{data}: wanted a dataset, or {online} with {gen}")
    for name in _STORED_ONLY if config.online else _ONLINE_ONLY:
        if getattr(config, name) not in (None, (), False, _DEFAULTS[name]):
            raise naming(f"{{{name}}}: {'cannot be combined with' if config.online else 'requires'} {{online}}")
    if config.online:
        _check_online(config)
    elif config.gen is not None and config.objective != "autoencoder":
        raise naming("{gen} {}: requires {online} or {objective} autoencoder", config.gen)
    for name, other in _NEEDS.items():
        if getattr(config, name) not in (None, False) and getattr(config, other) is None:
            raise naming(f"{{{name}}} {{}}: requires {{{other}}}", getattr(config, name))
    if config.mix is not None and len(config.folders) != 2:
        raise naming("{mix} {:g}: requires {data} twice, found {}", config.mix, len(config.folders))


def _check_online(config: TrainConfig) -> None:
    """Check what images made during training need and exclude."""
    for name in ("gen", "steps_per_epoch"):
        if getattr(config, name) is None:
            raise ConfigError.naming(f"{{online}}: requires {{{name}}}")
    if config.limit != 1:
        raise ConfigError.naming("{limit} {}: cannot be combined with {online}", config.limit)
