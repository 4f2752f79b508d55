"""Settings that several protocols share, the encoder that they name, and the config of knn.

Each setting is a function that makes a config's field. ``--encoder`` and ``--random-init`` are checked and opened in one way
for all commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.encoders import ACTIVATIONS, DEVICES, KNN_NEIGHBOURS, KNN_TEMPERATURE, PRECISIONS, STEMS
from genrep.encoders.options import NAMES, arch_setting, patch_size_setting, pool_setting, transformer_model
from genrep.errors import ConfigError, WeightsError
from genrep.images.sets import SETS
from genrep.progress import note
from genrep.settings import MOST_SEED, config, setting

from .transforms import Transform

if TYPE_CHECKING:
    from genrep.encoders import LoadedEncoder

ENCODER_METAVAR = "RUN|FILE[#NETWORK]|MODULE:FACTORY"
ENCODER_HELP = (
    "Encoder: a run's folder; the checkpoint of a ResNet (torchvision, timm, transformers, detectron2, GenRep, COP-Gen, MoCo, "
    "SimSiam, BYOL, Lightning) or of a vision transformer (timm, DINO, DINOv2, DINOv3, MoCo v3, MAE, StableRep, SynCLR, CLIP, "
    "OpenCLIP, transformers), its folder or its index of shards; or package.module:factory. #NETWORK chooses one of several "
    "networks in a file."
)


@config
class EncoderChoice:
    """Which encoder is measured: the settings that every protocol's config begins with."""

    encoder: str | Path | None = setting(default=None, metavar=ENCODER_METAVAR, help=ENCODER_HELP)
    network: str | None = setting(
        default=None,
        metavar="NAME",
        help="Which of several networks in the encoder's file to take, by the beginning of its tensors' names or a part of it, "
        "such as student.  [default: the one that its authors evaluate]",
    )
    random_init: bool = setting(default=False, help="Measure an untrained encoder of --arch and --stem instead.")
    arch: str | None = arch_setting(
        None, help=f"With --random-init: architecture of the encoder, {NAMES} Required there."
    )
    stem: str = setting(
        default="imagenet",
        choices=STEMS,
        help="With --random-init: first layers of a ResNet. imagenet: a 7x7 convolution of stride 2 and "
        "max pooling; cifar: a 3x3 convolution.",
    )
    patch_size: int | None = patch_size_setting(help="With --random-init: side of a vision transformer's patches.")
    global_pool: str | None = pool_setting("as it was trained, or as its authors evaluate it")
    heads: int | None = setting(
        default=None,
        least=1,
        most=256,
        metavar="NUMBER",
        help="Number of heads of another's vision transformer, which its tensors do not tell.  [default: as the configuration "
        "beside its file says, else one for 64 channels, or the usual number of its authors]",
    )
    act_layer: str | None = setting(
        default=None,
        choices=ACTIVATIONS,
        help="Activation of another's vision transformer, which its tensors do not tell.  [default: as the configuration "
        "beside its file says, else its authors' usual one]",
    )

    def check_choice(self) -> None:
        """Check these settings, for a config's ``__post_init__``. Opens nothing. Raises ConfigError."""
        naming = ConfigError.naming
        if (self.encoder is None) != self.random_init:
            raise naming("{encoder} or {random_init}: give exactly one of the two")
        if self.random_init and self.arch is None:
            raise naming("{random_init}: requires {arch}, for instance {arch} resnet18")
        if self.encoder is not None:
            for name in ("arch", "patch_size"):
                if (found := getattr(self, name)) is not None:
                    raise naming(
                        f"{{{name}}} {{}}: is read from the encoder's file; give it only with {{random_init}}", found
                    )
            return
        for name in ("network", "heads", "act_layer"):
            if (found := getattr(self, name)) is not None:
                raise naming(f"{{{name}}} {{}}: requires {{encoder}}", found)

    def transformer(self) -> dict[str, Any]:
        """What ``EncoderFacts.model`` says of these settings."""
        return transformer_model(self.patch_size, self.global_pool)


def channels_setting(what: str) -> Any:
    """The mean or standard deviation of images, for files that do not say how theirs were normalised."""
    return setting(
        default=None,
        metavar="R,G,B",
        parse=_channels,
        help=f"{what} to normalise images by, per channel in [0, 1].  [default: the encoder file's, else ImageNet's]",
    )


def _channels(text: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{text!r}: wanted three numbers R,G,B, e.g. 0.5,0.5,0.5") from None
    return red, green, blue


def dataset_setting() -> Any:
    """A name of ``images.sets.SETS``, or an image folder."""
    return setting(
        flags=("--dataset", "--data"), metavar="NAME|DIR", help=f"Dataset: {', '.join(SETS)}; or an image folder."
    )


def root_setting() -> Any:
    """Where named datasets lie."""
    return setting(
        default=None,
        metavar="DIR",
        help="Folder that holds named datasets, or that --download fetches them to. Required for a named dataset.",
    )


def download_setting() -> Any:
    """Whether named datasets are fetched."""
    return setting(default=False, help="Fetch a named dataset that is not under --root.")


def precision_setting() -> Any:
    """The number format of the frozen encoder's forward passes."""
    return setting(
        default="fp32",
        choices=PRECISIONS,
        help="Number format of the frozen encoder. bf16 is faster on devices with native support (auto picks it there); its "
        "results count as a separate protocol.",
    )


def cache_setting(what: str) -> Any:
    """Whether features are kept in ``out``/features."""
    return setting(
        default=True,
        negatable=True,
        show_default=False,
        help=f"Keep {what} in OUT/features for later runs.  [default: cache]",
    )


def crops_setting() -> Any:
    """Whether training images are augmented."""
    return setting(
        default=True,
        negatable=True,
        show_default=False,
        help="Train on the preset's random crops, of which new features are computed in every pass. --no-crops trains on whole "
        "images, whose features are computed once; its results count as a separate protocol.  [default: crops]",
    )


def seeds_setting() -> Any:
    """The seeds of everything random, with a result for each."""
    return setting(
        default=(0,),
        least=0,
        most=MOST_SEED,
        flags=("--seed", "--seeds"),
        parse=seed_numbers,
        show_default="0",
        metavar="N[,N...]",
        help="Seeds of everything random, --random-init included. Each gives a result of its own.",
    )


def seed_numbers(text: str) -> tuple[int, ...]:
    """``0`` or ``0,1,2``, in the order given."""
    if not all(part.isdecimal() for part in text.split(",")):
        raise ValueError(f"{text!r}: wanted numbers like 0 or 0,1,2")
    return tuple(int(part) for part in text.split(","))


def check_seeds(found: tuple[int, ...]) -> None:
    """Raises ConfigError."""
    if not found or len(set(found)) < len(found):
        raise ConfigError.naming("{seeds} {}: wanted one or more different numbers", ",".join(map(str, found)))


def device_setting(what: str = "Device to compute on. auto: the GPU if there is one.") -> Any:
    """Where networks compute."""
    return setting(default="auto", choices=DEVICES, help=what)


def force_setting(what: str = "Replace earlier results of this dataset, protocol and seed.") -> Any:
    """Whether earlier results are replaced."""
    return setting(default=False, help=what)


def class_names(text: str) -> tuple[str, ...]:
    """``A,B,…``."""
    return tuple(part.strip() for part in text.split(",")) if text else ()


@dataclass(frozen=True, kw_only=True)
class KnnPreset:
    """A paper's rules for nearest neighbours: DINOv2's vote, on the class token where the encoder has one."""

    source: str
    transform: Transform  # in proportion to the pixels that the encoder was trained at
    ks: tuple[int, ...]  # of which --k is the result


# Siméoni et al. 2025 (DINOv3), dinov3/eval/knn.py: k 10, 20, 100, 200, temperature .07, whole images of Resize(256) ->
# CenterCrop(224), the class token after the last norm. The code reports every k; 20 is DINO's (Caron et al. 2021).
KNN_PRESETS = {
    "dinov3": KnnPreset(
        source="DINOv3 (Siméoni et al. 2025), eval/knn.py",
        transform=Transform(resize=256, crop=224, bicubic=True),
        ks=(10, 20, 100, 200),
    )
}


@config
class KnnConfig(EncoderChoice):
    """Settings of a k-nearest-neighbour classifier (Wu et al. 2018), or of a paper's."""

    mean: tuple[float, ...] | None = channels_setting("Mean")
    std: tuple[float, ...] | None = channels_setting("Standard deviation")
    dataset: str = dataset_setting()
    root: Path | None = root_setting()
    download: bool = download_setting()
    size: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Resize the shorter side to this and crop the central square; with --preset one of 7/8 of this side.  [default: "
        "what the encoder was trained at, for photos and image folders; small sets stay as stored; with --preset 8/7 of it]",
    )
    out: Path = setting(metavar="DIR", help="Folder whose knn.json receives the result.")
    preset: str | None = setting(
        default=None,
        choices=KNN_PRESETS,
        help="A paper's protocol. dinov3: the class token, pixels in proportion to 224 of 256, a softmax over the 200 "
        "nearest. The entry holds the accuracies of 10, 20, 100 and 200 neighbours; --k says which is the result.  "
        "[default: Wu et al. 2018, on pooled features]",
    )
    k: int = setting(default=KNN_NEIGHBOURS, least=1, help="Number of nearest neighbours that vote.")
    temperature: float = setting(
        default=KNN_TEMPERATURE,
        above=0,
        help="Temperature of the votes: a neighbour counts exp(cosine similarity / temperature).",
    )
    feature_batch: int = setting(default=256, least=1, metavar="IMAGES", help="Images per forward pass.")
    precision: str = precision_setting()
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    cache: bool = cache_setting("the features")
    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of the weights of --random-init.")
    device: str = device_setting()
    force: bool = force_setting("Replace an earlier result of this dataset, protocol and seed.")

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        if self.preset is not None and self.k not in (ks := KNN_PRESETS[self.preset].ks):
            wanted = ", ".join(map(str, ks))
            raise ConfigError.naming("{k} {}: wanted one of {} with {preset} {}", self.k, wanted, self.preset)


def open_encoder(
    choice: EncoderChoice,
    *,
    seed: int = 0,
    size: int | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
) -> LoadedEncoder:
    """The encoder of ``--encoder``, or an untrained one of ``--arch`` with this seed.

    Notes on stderr say what was assumed about a file, chosen in it or left out of it.

    Args:
        size, mean, std: the images' size and normalisation. They replace the file's, or 224 and ImageNet's where it has none.

    Raises:
        WeightsError: the encoder cannot be read, is incomplete, or holds values that no training leaves.
    """
    from genrep.encoders import load_encoder, random_encoder

    choice.check_choice()
    if choice.encoder is not None:
        source = choice.encoder if choice.network is None else f"{choice.encoder}#{choice.network}"
        loaded = load_encoder(
            source,
            global_pool=choice.global_pool,
            heads=choice.heads,
            act_layer=choice.act_layer,
            size=size,
            mean=mean,
            std=std,
        )
        check_learned(loaded)
        _tell(loaded)
        return loaded
    assert choice.arch is not None
    return random_encoder(choice.arch, choice.stem, seed, model=choice.transformer(), size=size, mean=mean, std=std)


def check_learned(encoder: LoadedEncoder) -> None:
    """Raise WeightsError for weights and statistics that no training leaves: not finite, or absurd (``genrep.runs.sanity``).

    A number measured with them would look like any other.
    """
    from genrep.runs.sanity import absurdity

    module = encoder.module
    statistics = {name: value for name, value in module.named_buffers() if "running_" in name}
    if found := absurdity({**dict(module.named_parameters()), **statistics}):
        raise WeightsError(
            f"{encoder.path}: {found}; wanted a trained encoder: the run that wrote it had diverged, or it is damaged"
        )


def _tell(encoder: LoadedEncoder) -> None:
    left_out = [f"left out: {', '.join(encoder.left_out)}"] if encoder.left_out else []
    for line in (*encoder.notes, *left_out):
        note(f"{encoder.path}: {line}")
