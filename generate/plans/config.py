"""The settings of a build, from a generator (``dataset``) or from real images (``from-folder``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from genrep.errors import ConfigError, RecipeError
from genrep.option_types import whole_number
from genrep.settings import MOST_SEED, config, setting

MAX_POSITIVES = 64
DEFAULT_PAIRS = 10_000
STORE_LATENTS = ("auto", "yes", "no")
MAX_BATCH_SIZE = 1_000_000
PART = re.compile(r"(\d{1,6})/(\d{1,6})")
SIZE = re.compile(r"(\d{1,4})(?:x(\d{1,4}))?")
CROPS = ("center", "none")


def _batch_size(text: str) -> int | None:
    """The number, or None for ``auto``."""
    if text == "auto":
        return None
    try:
        number = whole_number(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_BATCH_SIZE:
        raise ValueError(f"{text!r} is neither auto nor 1 to {MAX_BATCH_SIZE}")
    return number


def generator(
    help: str = "Generator: a recipe's name (genrep-generate list), a recipe file or a Python factory.", **default: Any
) -> Any:
    """The setting ``gen``."""
    return setting(metavar="NAME|FILE.toml|MODULE:FACTORY", help=help, offers=recipe_names, **default)


def recipe_names() -> list[str]:
    """Those that ship with the package, for a shell to complete."""
    from ..recipes.recipe import known_recipes

    return known_recipes()


def weights(help: str = "Weights file; NETWORK names one of several networks in it.  [default: the recipe's]") -> Any:
    """The setting ``weights``, of the generator."""
    return setting(default=None, metavar="FILE[#NETWORK]", help=help)


def features(help: str = "Instance features for IC-GAN: .npz, .npy or .safetensors.") -> Any:
    """The setting ``features``, of the generator."""
    return setting(default=None, metavar="FILE", help=help)


def truncation(**bounds: Any) -> Any:
    """The setting ``truncation``."""
    return setting(
        default=None, help="Truncation of the generator, such as psi of StyleGAN2.  [default: the recipe's]", **bounds
    )


def training_data() -> Any:
    """The setting ``data``, of the training of a generator."""
    return setting(metavar="NAME|DIR", help="Real images: fashion_mnist, cifar10 or an image folder.")


def training_size() -> Any:
    """The setting ``size``, of the training of a generator."""
    return setting(
        default=None,
        least=4,
        metavar="PIXELS",
        help="Side to which the images of a folder are cropped and resized.  [default: their own]",
    )


def guidance() -> Any:
    """The setting ``guidance``, of a diffusion model."""
    return setting(
        default=None,
        least=0,
        help="Scale of classifier-free guidance of a diffusion model; 1 is none.  [default: the recipe's]",
    )


def steps() -> Any:
    """The setting ``steps``, of a diffusion model's sampler."""
    return setting(
        default=None, least=1, most=10_000, help="Steps of a diffusion model's sampler.  [default: the recipe's]"
    )


def prompts(help: str) -> Any:
    """The setting ``prompts``."""
    return setting(default=None, metavar="FILE", help=help)


def root() -> Any:
    """The setting ``root``, of real images."""
    return setting(
        default=None, metavar="DIR", help="Folder that holds the named dataset, or that --download puts it in."
    )


def download() -> Any:
    """The setting ``download``, of real images."""
    return setting(default=False, help="Download the named dataset if it is not under --root.")


def device(help: str = "Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...", **said: Any) -> Any:
    """The setting ``device``."""
    return setting(default="auto", text=True, help=help, **said)


def generator_options(config: Any) -> dict[str, Any]:
    """Options of the generator that a config's settings give."""
    names = ("features", "truncation", "guidance", "steps")
    given = {name: getattr(config, name, None) for name in names}
    return {name: value for name, value in given.items() if value is not None}


@config
class BuildConfig:
    """Settings of ``genrep-generate dataset``. None leaves the choice to the recipe or the machine."""

    gen: str = generator(default="stylegan2_fashion")
    weights: str | Path | None = weights()
    features: str | Path | None = features("Instance features (and labels) for IC-GAN: .npz, .npy or .safetensors.")
    classes: str = setting(
        default="all",
        metavar="all|0-99|PRESET|FILE",
        help="Classes of a class-conditional generator, taken in turn: numbers, a preset such as imagenet100, or "
        "a file "
        "with a class per line.",
    )
    prompts: Path | None = prompts(
        "Prompts of a text-to-image generator, taken in turn: a prompt per line, GROUP<TAB>PROMPT for groups, or JSON lines."
    )
    anchors: str | None = setting(
        default=None,
        metavar="DIR|NAME",
        help="Real images as anchors, an image folder or the name of a set. --views sdedit or unclip makes their positives.  "
        "[default: anchors are generated]",
    )
    root: Path | None = root()
    download: bool = download()
    split: str = setting(default="train", choices=("train", "test"), help="With --anchors: split to read.")
    truncation: float | None = truncation()
    guidance: float | None = guidance()
    steps: int | None = steps()
    views: str | None = setting(
        default=None,
        metavar="NAME:KEY=VALUE,...",
        help="View that makes the positives.  [default: the recipe's]",
    )
    filter: str | None = setting(
        default=None,
        metavar="keep=PART,weights=FILE",
        help="Fraction of candidates to keep, ranked by the score of a filter from fit-filter.  [default: keep all]",
    )
    weigh: str | None = setting(
        default=None,
        metavar="foreground=FILE[,gamma=G]",
        help="Store a weight for each pair, exp(G q): q is the similarity of the foregrounds of anchor and positive minus that "
        "of their backgrounds, by a file of fit-foreground (GenView); G is 1 if it is not given.  [default: no weights]",
    )
    num_pairs: int | None = setting(
        default=None,
        least=1,
        metavar="PAIRS",
        help="Number of pairs to build.  [default: 10000; with --anchors one for each of them]",
    )
    num_positives: int = setting(
        default=1, least=1, most=MAX_POSITIVES, metavar="K", help="Number of positives per anchor."
    )
    out: Path = setting(default=Path("shards"), metavar="DIR", help="Folder of the dataset.")
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of the latents.")
    shard_size: str | None = setting(
        default=None,
        metavar="PAIRS|BYTES",
        text=True,
        help="Size of a shard, such as 4096 (pairs) or 512MB.  [default: at least 16 shards, at most 512 MB each]",
    )
    encoding: str | None = setting(
        default=None,
        metavar="raw|jpeg:Q[:444]",
        text=True,
        help="Encoding of the images: raw pixels, or JPEG of quality Q, with :444 at full colour resolution.  "
        "[default: raw up to 64 pixels, jpeg:90:444 above]",
    )
    store_latents: str = setting(
        default="auto",
        choices=STORE_LATENTS,
        help="Whether shards hold the latents. no: they are computed again from the recipe when they are read. auto: no for "
        "latents of more than 4096 values.",
    )
    # The settings below decide how pairs are made, not which: none changes a latent.
    batch_size: int | None = setting(
        default=None,
        least=1,
        metavar="auto|IMAGES",
        parse=_batch_size,
        help="Images per forward pass; auto halves it until a batch fits in memory.  [default: auto]",
    )
    device: str = device()
    processes: int | None = setting(
        default=None, least=1, help="Processes, each building a shard at a time.  [default: one per core, one on a GPU]"
    )
    threads: int = setting(default=1, least=1, help="CPU threads per process.")
    encoders: int | None = setting(
        default=None,
        least=0,
        help="Extra processes that encode and write while one process generates.  [default: none; on a GPU up to 8]",
    )
    part: str | None = setting(
        default=None,
        metavar="K/N",
        text=True,
        help="Build only the shards whose number is K modulo N; the N jobs of an array share one --out.  "
        "[default: all shards]",
    )

    def __post_init__(self) -> None:
        if self.encoders and (self.processes or 1) > 1:
            raise ConfigError.naming("{encoders} {}: requires {processes} {}, one generating process", self.encoders, 1)
        parse_part(self.part)

        for name in ("root", "download") if self.anchors is None else ():
            if getattr(self, name):
                raise ConfigError.naming(f"{{{name}}}: belongs to {{anchors}}")

    @property
    def most_pairs(self) -> int:
        """The number of pairs, or what it is if nothing else decides."""
        return self.num_pairs or DEFAULT_PAIRS

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)


def parse_part(text: str | None) -> tuple[int, int]:
    """``K/N`` -> (K, N), 0 <= K < N; None is the whole, (0, 1).

    Raises:
        RecipeError: anything else.
    """
    if text is None:
        return 0, 1
    match = PART.fullmatch(text)
    if match is None or not int(match[1]) < int(match[2]):
        raise RecipeError.naming("{part} {!r}: wanted K/N with 0 <= K < N", text)
    return int(match[1]), int(match[2])


@config
class FolderConfig:
    """Settings of ``genrep-generate from-folder``: which images to read, and how large to store them."""

    data: str = setting(argument=True, metavar="DIR|NAME", help="An image folder, or the name of a set.")
    out: Path = setting(metavar="DIR", help="Folder of the dataset.")
    root: Path | None = root()
    download: bool = download()
    split: str = setting(default="train", choices=("train", "test"), help="Split to read.")
    size: str | None = setting(
        default=None,
        metavar="PIXELS|HxW",
        text=True,
        help="Size of the stored images; one number means a square.  [default: the files' own, if all are the same]",
    )
    shorter_side: int | None = setting(
        default=None,
        metavar="PIXELS",
        help="Store whole images in their own shapes, resized so that the shorter side has this many pixels; "
        "smaller images "
        "stay as they are. Training then takes its random crops from the whole image.",
    )
    crop: str = setting(
        default="center",
        choices=CROPS,
        help="With --size: center cuts the largest central part of that shape, none stretches the whole image to it.",
    )
    encoding: str | None = setting(
        default=None,
        metavar="raw|jpeg:Q[:444]",
        text=True,
        help="Encoding of the images: raw pixels, or JPEG of quality Q, with :444 at full colour resolution.  "
        "[default: raw up to 64 pixels, jpeg:90:444 above]",
    )
    shard_size: str | None = setting(
        default=None,
        metavar="IMAGES|BYTES",
        text=True,
        help="Size of a shard, such as 4096 (images) or 512MB.  [default: at least 16 shards, at most 512 MB each]",
    )
    strict: bool = setting(default=False, help="Stop at an unreadable image instead of listing it in unreadable.jsonl.")
    # The settings below decide how the dataset is made, not what it holds.
    processes: int | None = setting(
        default=None, least=1, help="Processes that read and encode images.  [default: one per core]"
    )
    batch_size: int = 64

    def __post_init__(self) -> None:
        self.shape()
        if self.shorter_side is not None:
            self._check_whole(self.shorter_side)

    def _check_whole(self, shorter_side: int) -> None:
        from genrep.datasets_manifest.schema import MAX_SIDE, MIN_VARYING_SIDE

        if self.size is not None:
            raise RecipeError.naming("{size} {} with {shorter_side} {}: wanted one of the two", self.size, shorter_side)
        if self.crop != "center":
            raise RecipeError.naming(
                "{crop} {}: belongs to {size}; {shorter_side} stores the whole image in its shape", self.crop
            )
        if not MIN_VARYING_SIDE <= shorter_side <= MAX_SIDE:
            raise RecipeError.naming(
                "{shorter_side} {}: wanted {} to {} pixels", shorter_side, MIN_VARYING_SIDE, MAX_SIDE
            )

    def shape(self) -> tuple[int, int] | None:
        """(height, width) of ``size``. Raises RecipeError if it is not a size."""
        if self.size is None:
            return None
        from genrep.datasets_manifest.schema import MAX_SIDE

        match = SIZE.fullmatch(self.size)
        shape = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not all(1 <= side <= MAX_SIDE for side in shape):
            raise RecipeError.naming("{size} {!r}: wanted pixels, or HEIGHTxWIDTH, from 1 to {}", self.size, MAX_SIDE)
        return shape
