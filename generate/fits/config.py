"""Settings of fit-steer, fit-navigator, measure-delta, compare-navigator, fit-filter and fit-foreground."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from genrep.encoders import PRECISIONS, STEMS
from genrep.encoders.architectures import RESNETS, resnet
from genrep.errors import ConfigError, RecipeError, one_of
from genrep.pixel_views import PIXEL_VIEWS
from genrep.settings import MOST_SEED, config, setting

from ..plans.config import (
    device,
    download,
    features,
    generator,
    generator_options,
    root,
    truncation,
    weights,
)

LOG_EVERY = "Steps between lines of metrics.jsonl."


def frozen_generator() -> Any:
    """The setting ``gen`` of a fit."""
    return generator("Generator, which stays unchanged: a recipe's name, a recipe file or a Python factory.")


def run_folder() -> Any:
    """The setting ``out`` of a fit."""
    return setting(metavar="DIR", help="Folder of the run.")


def count(default: int | None, metavar: str | None = None, help: str | None = None, least: int = 1, **said: Any) -> Any:
    """A setting that is a whole number."""
    return setting(default=default, least=least, metavar=metavar, help=help, show_range=False, **said)


def positive(default: float | None, help: str, **said: Any) -> Any:
    """A setting that is a positive number."""
    return setting(default=default, above=0, help=help, show_range=False, **said)


def seed(help: str = "Seed of the run.", **said: Any) -> Any:
    """The setting ``seed``."""
    return count(0, help=help, least=0, most=MOST_SEED, **said)


@config
class SteerConfig:
    """Settings of a fit of walks; lengths are counted in samples; a sample is one z with one composed transform.

    The defaults are GenRep's (Jahanian et al. 2022, section 3.2 and the released code).
    """

    gen: str = frozen_generator()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    out: Path = run_folder()
    samples: int = count(160_000, "IMAGES", "Images to train on.")
    batch_size: int = count(32, "IMAGES", "Images per step.")
    lr: float = positive(1e-3, "Learning rate of Adam.")
    seed: int = seed()
    device: str = device()
    checkpoint_samples: int = count(20_000, "IMAGES", "Images between checkpoints.")
    log_every: int = count(50, "STEPS", LOG_EVERY)
    measure_images: int = count(
        256, "N", "Images to measure the effects of the walks on; 0 skips the measurement.", least=0
    )

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights and features enter by their digests."""
        free = {"out", "weights", "features", "device", "samples", "checkpoint_samples", "measure_images"}
        return {name: value for name, value in vars(self).items() if name not in free}


POLICIES = {name: PIXEL_VIEWS[name] for name in ("simclr", "no-color", "no-crop", "none")}  # differentiable ones
WALKS = ("mlp", "linear")
INITS = ("torch", "small")
# What each preset changes in the defaults of NavigatorConfig, which are those of COP-Gen.
PRESETS: dict[str, dict[str, Any]] = {
    "cop-gen": {},
    "hl": {
        "init": "small",
        "lr_walk": 1e-5,  # for walks of the whole latent or of several chunks
        "lr_f": 3e-5,
        "batch_size": 64,
        "samples": 120_000,
        "pixel_views": "none",
        "crop": 112,  # the middle of 128-px images
    },
}
HL_SINGLE: dict[str, Any] = {"lr_walk": 8e-5, "lr_f": 5e-5}  # HL's rates for one chunk, or one group of layers


def word(default: str, known: Iterable[str], metavar: str, help: str) -> Any:
    """A setting of a navigator that is one of some names."""
    return setting(default=default, choices=known, metavar=metavar, help=help)


@config
class NavigatorConfig:
    """Settings of an adversarial fit of T against an InfoNCE estimator f; lengths are counted in anchors.

    The defaults are COP-Gen's (Li et al. 2022, section 3.3 and the released code); ``of_preset`` has HL's. Losses that
    these papers print are τ / .07 times ours (``genrep.infonce``), 1.43 times at τ = .1.
    """

    gen: str = frozen_generator()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    out: Path = run_folder()
    chunks: str | None = setting(
        default=None, metavar="A-B", text=True, help="Chunks of a hierarchical latent that T moves.  [default: all]"
    )
    layers: str | None = setting(
        default=None, metavar="A-B", text=True, help="StyleGAN2: layers whose w T moves.  [default: none, T moves z]"
    )
    walk: str = word(
        "mlp",
        WALKS,
        "mlp|linear",
        "Shape of T: mlp has a ReLU between its two layers, linear has none.  [default: mlp]",
    )
    reduction: int = count(1, help="Factor by which the hidden layer of T is narrower than its input.  [default: 1]")
    # U(±1 / sqrt F), F the latent components that T moves; or weights N(0, .01), biases U(±.001)
    init: str = word(
        "torch",
        INITS,
        "torch|small",
        "Initial weights of T: torch as in COP-Gen, small so that T "
        "starts near zero (HL).  [default: torch; hl: small]",
    )
    max_distance: float | None = positive(
        None, "Longest shift |T(z)|; longer ones are projected onto this radius.  [default: no limit]", metavar="DELTA"
    )
    supervised: bool = setting(
        default=False, help="Treat images of the same class as positives of each other (SupCon)."
    )
    # the papers' only constraint
    samples: int = count(200_000, "ANCHORS", "Anchors to train on.  [default: 200000; hl: 120000]")
    # HL's 1.05 is .735 here
    stop_at_loss: float | None = positive(
        None, "Stop earlier, once the loss of f has fallen and then risen to this (HL).  [default: never]"
    )
    batch_size: int = count(176, "PAIRS", "Pairs per step.  [default: 176; hl: 64]", least=2)
    lr_walk: float = positive(
        1e-5, "Learning rate of Adam for T.  [default: 1e-05; hl with one chunk or group of layers: 8e-05]"
    )
    lr_f: float = positive(
        3e-5,
        "Learning rate of Adam for the estimator f.  [default: 3e-05; hl with one chunk or group of layers: 5e-05]",
    )
    temperature: float = positive(0.1, "Temperature of InfoNCE.  [default: 0.1]")
    pixel_views: str = word(
        "simclr",
        POLICIES,
        "simclr|no-color|no-crop|none",
        "Pixel views (augmentations) of the images that f sees.  [default: simclr; hl: none]",
    )
    crop: int | None = count(
        None, "PIXELS", "Side of the images that f sees, at most the generator's.  [default: the generator's; hl: 112]"
    )
    arch: str = setting(
        default="resnet18",
        metavar="NAME[:width=N]",
        check=resnet,
        offers=lambda: RESNETS,
        help="Architecture of f, a ResNet of torchvision; width: channels of its first stage.  [default: resnet18]",
    )
    stem: str = word(
        "imagenet",
        STEMS,
        "imagenet|cifar",
        "First layers of f: imagenet is 7x7 of stride 2 and pooling, cifar is 3x3.  [default: imagenet]",
    )
    seed: int = seed("Seed of the run.  [default: 0]")
    device: str = device("Device: auto (a GPU if there is one), cpu, cuda, cuda:1, ...  [default: auto]")
    precision: str = word(
        "auto",
        PRECISIONS,
        "auto|fp32|bf16",
        "Precision of f; auto is bf16 on devices with native support.  [default: auto]",
    )
    checkpoint_samples: int = count(
        20_000, "ANCHORS", "Anchors between checkpoints; each also saves T and a strip of images.  [default: 20000]"
    )
    # the window whose mean loss stop_at_loss looks at
    log_every: int = count(20, "STEPS", LOG_EVERY + "  [default: 20]")

    @classmethod
    def of_preset(cls, preset: str, **options: Any) -> NavigatorConfig:
        """The preset's settings under the given options; an option that is None counts as not given.

        Raises:
            ConfigError: an unknown preset, or as the constructor.
        """
        if preset not in PRESETS:
            raise ConfigError.naming("{preset} {!r}: wanted one of {}", preset, one_of(preset, PRESETS))
        given = {name: value for name, value in options.items() if value is not None}
        single = HL_SINGLE if preset == "hl" and _moves_one_part(given) else {}
        return cls(**{**PRESETS[preset], **single, **given})

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        check_parts(self.chunks, self.layers)

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share."""
        free = {"out", "weights", "features", "device", "samples", "stop_at_loss", "checkpoint_samples"}
        return {name: value for name, value in vars(self).items() if name not in free}


def _moves_one_part(options: dict[str, Any]) -> bool:
    """Whether T moves a single chunk or a single group of layers, not several chunks or the whole latent."""
    if options.get("layers") is not None:
        return True
    first, _, last = str(options.get("chunks", "-")).partition("-")
    return first != "" and last in ("", first)


def check_parts(chunks: str | None, layers: str | None) -> None:
    """Check that at most one of ``chunks`` and ``layers`` is given, and that it is a range. Raises ConfigError."""
    if chunks is not None and layers is not None:
        raise ConfigError.naming("{chunks} {} and {layers} {}: give one of the two", chunks, layers)
    for name, text in (("chunks", chunks), ("layers", layers)):
        if text is not None:
            from ..views.base import parse_range  # NumPy

            try:
                parse_range(text, "")
            except RecipeError as error:
                raise ConfigError.naming(f"{{{name}}}{{}}", error) from None


@config
class DeltaConfig:
    """Settings of a Monte-Carlo measurement of learned walks (HL, Table 1)."""

    walks: tuple[Path, ...] = setting(argument=True, metavar="RUN...")  # run folders of fit-navigator, or files
    out: Path = setting(metavar="FILE.json", help="File for the table.")  # the plot lies beside it as FILE.png
    gen: str | None = setting(
        default=None, metavar="NAME", help="Generator whose latents to draw for files that do not name their own."
    )
    anchors: int = count(1_000_000, "N", "Number of anchors to draw.")
    batch_size: int = count(8192, "ANCHORS", "Anchors per batch.")
    seed: int = seed()
    device: str = "auto"

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.walks:
            raise ConfigError.naming("{walks}: wanted at least one run folder or navigator file")
        if self.out.suffix != ".json":
            raise ConfigError.naming("{out} {}: wanted a name that ends in .json", self.out)


@config
class CompareConfig:
    """Settings of a comparison of a run's T with random walks."""

    run: Path = setting(argument=True, metavar="RUN")  # folder of fit-navigator
    walk: Path | None = None  # another file's T
    batches: int = count(20, "N", "Number of batches of new anchors.", least=2)
    batch_size: int | None = None  # the run's
    seed: int = seed()
    device: str = device()


@config
class FilterConfig:
    """Settings of a discriminator of real against generated images; lengths are counted in real images shown to it."""

    gen: str = frozen_generator()
    data: str = setting(metavar="NAME|DIR", help="Real images: fashion_mnist, cifar10, imagenet or a folder.")
    root: Path | None = root()
    download: bool = download()
    out: Path = run_folder()
    weights: str | Path | None = weights()
    features: Path | None = features()
    truncation: float | None = truncation(above=0, show_range=False)
    # HL's one epoch: each real image once, but for those that are held out
    images: int | None = count(None, "N", "Real images to train on.  [default: each once, one epoch]")
    batch_size: int = count(64, "IMAGES", "Real images per step, with as many generated ones.")
    lr: float = positive(1e-3, "Learning rate of Adam.")
    seed: int = seed()
    device: str = device()
    checkpoint_images: int = count(20_000, "N", "Real images between checkpoints.")
    log_every: int = count(20, "STEPS", LOG_EVERY)

    def generator_options(self) -> dict[str, Any]:
        """Options of the generator that the settings give."""
        return generator_options(self)

    def identity(self) -> dict[str, Any]:
        """The settings that a resumed run must share; weights, features and real images enter by their digests."""
        free = {"data", "out", "root", "download", "weights", "features", "device", "images", "checkpoint_images"}
        return {name: value for name, value in vars(self).items() if name not in free}


@config
class ForegroundConfig:
    """Settings of a fit of what is foreground to an encoder (GenView)."""

    data: str = setting(
        metavar="DIR|NAME", help="Images like those that it will judge: an image folder, or the name of a set."
    )
    root: Path | None = root()
    download: bool = download()
    split: str = setting(default="train", choices=("train", "test"), help="Split to read.")
    encoder: str | Path = setting(
        metavar="RUN|FILE", help="Frozen encoder: a run of genrep-train, or anyone's checkpoint."
    )
    out: Path = setting(
        metavar="FILE.safetensors", help="File of the foreground; a picture lies beside it as FILE.png."
    )
    num_images: int = count(10_000, "N", "Images to learn from, drawn by the seed.")
    size: int | None = count(
        None,
        "PIXELS",
        "Shorter side that images are resized to; the larger, the more patches.  [default: the encoder's]",
        most=1024,
    )
    threshold: str = setting(
        default="auto",
        metavar="auto|NUMBER",
        text=True,
        help="Projection above which a patch is foreground. auto: Otsu's, which parts the patches into two groups.",
    )
    seed: int = seed()
    device: str = device()

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.out.suffix != ".safetensors":
            raise ConfigError.naming("{out} {}: wanted a name that ends in .safetensors", self.out)
        try:
            number = 0.0 if self.threshold == "auto" else float(self.threshold)
        except ValueError:
            number = float("nan")
        if not abs(number) < float("inf"):
            raise ConfigError.naming("{threshold} {!r}: wanted auto or a number", self.threshold)
