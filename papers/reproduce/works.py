"""The work of a task in numbers: images through networks, pixels decoded and encoded, bytes left on disk.

It is read from the task's own config, so it always agrees with the command. Only estimates use it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from genrep.evaluate.detection.config import PRESETS as DETECTION
from genrep.evaluate.finetune.config import VISSL
from genrep.evaluate.linear.config import LinearConfig
from genrep.evaluate.linear.presets import PRESETS as LINEAR
from genrep.evaluate.transfer import SUITES
from genrep.generate.fits.config import FilterConfig, NavigatorConfig
from genrep.generate.plans.config import BuildConfig, FolderConfig
from genrep.train.config import TrainConfig
from genrep.train.config.optimiser import DEFAULT_EPOCHS

from ..figure3.ways import Figure3Config
from ..report.papers import dataset_facts
from ..tasks.task import Task
from .specs import image_shape

# Images of training and test sets whose releases differ; LSUN's cars: those that the papers took.
IMAGES = {
    "lsun_car": (893_000, 0),
    "sun397_80_20": (87_003, 21_751),
    "birdsnap": (47_386, 2_443),
    "caltech101": (3_030, 5_647),
    "fashion_mnist": (60_000, 10_000),
}
LATENT_BYTES, RAW_UP_TO = 4 * 512, 64  # of a latent, at most; pixels of a side
# Bytes per pixel at quality 90 with full chroma: .4 to .7 at 128 px, .2 at 512 px (docs/encoding.md).
JPEG_BYTES = 0.5
PHOTO = 400 * 350  # pixels of ImageNet's photos, in the mean
WIDER = 4 / 3  # longer over shorter side of a photo
PARAMETERS = {"resnet18": 11.2e6, "resnet34": 21.3e6, "resnet50": 23.5e6, "resnet101": 42.5e6, "resnet152": 58.1e6}
SVMS, SVM_SECONDS = 20 * 26 * 4, 1.0  # classes, costs, folds and all of them; a core's, supposed
START = 30.0  # seconds of a task before its work begins, supposed
CROP = 112  # genrep-train's own, of larger images
SINGLE = ("inverter", "classifier")  # objectives with one view of each sample


@dataclass(kw_only=True)
class Work:
    """The work of a task."""

    images: Counter[str] = field(default_factory=Counter)  # by kind (``dry_run.gflops``)
    decoded: float = 0.0  # pixels of JPEGs
    encoded: float = 0.0
    core_seconds: float = 0.0  # of other work on the CPU
    seconds: float = START
    bytes: float = 0.0  # left in the task's folder


def work_of(task: Task) -> Work:
    """The work of a task. Raises ValueError for an unknown command."""
    if task.verb.name not in WORKS:
        raise ValueError(f"{task.verb.name}: of unknown work")
    return WORKS[task.verb.name](task)


def images_of(dataset: str) -> tuple[int, int]:
    """Training and test images of a set, or of a folder that ``subset`` makes."""
    name = Path(dataset).name
    name = name.rpartition("-")[0] if dataset.startswith("images/") else name
    train, test = IMAGES.get(name, (0, 0))
    facts = dataset_facts(name)
    return facts.get("train_images", train), facts.get("test_images", test)


def _stored(shape: tuple[int, int], count: float) -> tuple[float, float]:
    """Bytes of images, and pixels of JPEGs among them."""
    pixels = count * shape[0] * shape[1]
    return (3 * pixels, 0.0) if max(shape) <= RAW_UP_TO else (JPEG_BYTES * pixels, pixels)


# Data


def _dataset(task: Task) -> Work:
    config: BuildConfig = task.config
    images = config.most_pairs if config.views == "none" else config.most_pairs * (1 + config.num_positives)
    size, encoded = _stored(image_shape(config.gen), images)
    made = images if config.filter is None else 2 * images  # of two candidates one is kept
    return Work(images=Counter({f"generate {config.gen}": made}), encoded=encoded, bytes=size + images * LATENT_BYTES)


def _from_folder(task: Task) -> Work:
    config: FolderConfig = task.config
    count = images_of(config.data)[0]
    size, encoded = _stored(_shape_of(task), count)
    return Work(decoded=count * PHOTO if encoded else 0.0, encoded=encoded, bytes=size)


def _shape_of(data: Task) -> tuple[int, int]:
    """Height and width of a set's stored images, in the mean."""
    if data.verb.name == "dataset":
        return image_shape(data.config.gen)
    config: FolderConfig = data.config
    if config.shorter_side is not None:
        return config.shorter_side, round(WIDER * config.shorter_side)
    return config.shape() or (32, 32)


# Learned views


def _steer(task: Task) -> Work:
    return Work(images=Counter({f"steer {task.config.gen}": task.units}), bytes=1e6)


def _navigator(task: Task) -> Work:
    config: NavigatorConfig = task.config
    seen = config.crop or min(image_shape(config.gen))
    return Work(images=Counter({f"navigator {config.gen} {seen}": task.units}), bytes=200e6)


def _filter(task: Task) -> Work:
    config: FilterConfig = task.config
    count = config.images or images_of(config.data)[0]
    decoded = count * PHOTO if max(image_shape(config.gen)) > RAW_UP_TO else 0.0
    return Work(images=Counter({f"generate {config.gen}": count}), decoded=decoded, bytes=20e6)


def _delta(task: Task) -> Work:
    return Work(core_seconds=2e-5 * task.config.anchors, bytes=0.1e6)  # two layers of T, 10 µs each


# Training


def _training(task: Task) -> Work:
    config: TrainConfig = task.config
    steps = config.steps or (config.epochs or DEFAULT_EPOCHS) * _steps_per_epoch(task)
    views = 1 if config.objective in SINGLE else 2
    images = Counter(
        {f"train {_network(config.arch, config.stem)} {config.crop or CROP}": steps * config.batch_size * views}
    )
    apart = views == 1 or config.positive == "anchor"  # one stored image of each sample is read
    read = steps * config.batch_size * (1 if apart else 2)
    decoded = 0.0
    if config.online:
        images[f"generate {config.gen}"] += round(read * (2 if config.filter else 1))
    else:
        decoded = read * max(_stored(_shape_of(need), 1)[1] for need in task.needs if need.kind == "dataset")
    encoder = 4 * PARAMETERS[config.arch]
    return Work(images=images, decoded=decoded, bytes=encoder * (1 + 2))  # and a checkpoint


def _steps_per_epoch(task: Task) -> float:
    config: TrainConfig = task.config
    if config.steps_per_epoch is not None:
        return config.steps_per_epoch
    first = next(need for need in task.needs if need.kind == "dataset").config
    samples = first.most_pairs if isinstance(first, BuildConfig) else images_of(first.data)[0]
    return samples * config.limit // config.batch_size


def _network(arch: str, stem: str) -> str:
    return arch + ("-cifar" if stem == "cifar" else "")


# Measuring


def _forward(task: Task, size: int, images: float, mode: str = "forward") -> Counter[str]:
    """Images through the encoder that is measured: a training's, an untrained one, or BigBiGAN's, a ResNet-50."""
    run = next((need.config for need in task.needs if need.kind == "run"), task.config)
    return Counter({f"{mode} {_network(run.arch or 'resnet50', run.stem)} {size}": images})


def _probe(task: Task, config: LinearConfig) -> Work:
    """The work of a linear probe. The features are computed in every epoch if crops are random, else once."""
    preset = LINEAR[config.preset]
    train, test = images_of(config.dataset)
    epochs = 1
    if preset.crop_scale or preset.flip:
        epochs = config.epochs or preset.long.get(config.dataset, preset.epochs)
    side = config.size or preset.transform.resize or 32
    crop = config.crop or (config.size and side) or preset.transform.crop or side
    images = len(config.seeds) * (train * epochs + test)
    decoded = images * PHOTO if max(side, crop) > RAW_UP_TO else 0.0
    return Work(images=_forward(task, crop, images), decoded=decoded, bytes=0.1e6)


def _linear(task: Task) -> Work:
    return _probe(task, task.config)


def _transfer(task: Task) -> Work:
    parts = [_probe(task, task.config.probe(dataset)) for dataset in SUITES[task.config.suite].datasets]
    images = sum((part.images for part in parts), Counter[str]())
    return Work(images=images, decoded=sum(part.decoded for part in parts), bytes=0.1e6)


def _knn(task: Task) -> Work:
    images = sum(images_of(task.config.dataset))
    return Work(images=_forward(task, task.config.size or 32, images), bytes=0.1e6)


def _voc07(task: Task) -> Work:
    images = 5011.0
    return Work(
        images=_forward(task, 224, images), decoded=images * PHOTO, core_seconds=SVMS * SVM_SECONDS, bytes=0.1e6
    )


def _detection(task: Task) -> Work:
    preset = DETECTION[task.config.preset]
    shown, tested = float(preset.steps * preset.batch_size), 4952.0
    images = Counter({"train detector": shown, "forward detector": tested + preset.precise_bn * preset.batch_size})
    return Work(images=images, decoded=(shown + tested) * 500 * 375, bytes=4 * 33e6 * 3)


def _finetune(task: Task) -> Work:
    config = task.config
    train, test = images_of(config.dataset)
    part = float(config.subset.stem.removesuffix("percent")) / 100  # SimCLR's lists
    epochs, crop = config.epochs or VISSL.epochs, config.crop or 224
    images = _forward(task, crop, train * part * epochs, "train") + _forward(task, crop, test)
    return Work(images=images, decoded=(train * part * epochs + test) * PHOTO, bytes=0.1e6)


def _figure3(task: Task) -> Work:
    """Turns of so many seconds, for each of five ways and each batch size, after the sets were made."""
    config: Figure3Config = task.config
    sizes = len(config.batch_sizes)
    turns = 5 * sizes * config.rounds
    return Work(seconds=START + turns * (config.seconds + 2) + 60 * sizes, bytes=0.0)


WORKS: dict[str, Callable[[Task], Work]] = {
    "subset": lambda task: Work(bytes=0.1e6),
    "dataset": _dataset,
    "from-folder": _from_folder,
    "fit-steer": _steer,
    "fit-navigator": _navigator,
    "fit-filter": _filter,
    "measure-delta": _delta,
    "train": _training,
    "linear": _linear,
    "transfer": _transfer,
    "knn": _knn,
    "voc07": _voc07,
    "detection": _detection,
    "finetune": _finetune,
    "figure3": _figure3,
}
