"""Which samples a run is trained on: stored ones, or images made during training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genrep.settings import config, setting


@config
class SampleSettings:
    """Where the samples come from."""

    out: Path = setting(metavar="DIR", help="Folder of the run: encoder, checkpoints, metrics and settings.")
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
