"""What a task has to do, counted: images through networks, pixels decoded and encoded, bytes that it leaves.

Read from the task's own arguments, so that it cannot say another thing than the command does. Only estimates ask for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genrep.encoders import ARCHS
from genrep.train.presets import preset as preset_settings

from ..report.papers import dataset_facts
from .specs import image_shape
from .tasks import Task

# Images of training and test sets whose releases differ; LSUN's cars: those that the papers took.
IMAGES = {
    **{
        "lsun_car": (893_000, 0),
        "sun397_80_20": (87_003, 21_751),
        "birdsnap": (47_386, 2_443),
        "caltech101": (3_030, 5_647),
    },
    **{"fashion_mnist": (60_000, 10_000)},
}
LATENT_BYTES, RAW_UP_TO = 4 * 512, 64  # of a latent, at most; pixels of a side
JPEG_BYTES = (
    0.5  # of a pixel, at quality 90 with all of the chroma: .4 to .7 at 128 px, .2 at 512 px (docs/encoding.md)
)
PHOTO = 400 * 350  # pixels of ImageNet's photos, in the mean
WIDER = 4 / 3  # longer over shorter side of a photo
PARAMETERS = {"resnet18": 11.2e6, "resnet34": 21.3e6, "resnet50": 23.5e6, "resnet101": 42.5e6, "resnet152": 58.1e6}
SVMS, SVM_SECONDS = 20 * 26 * 4, 1.0  # classes, costs, folds and all of them; a core's, supposed
START = 30.0  # seconds of a task before its work begins, supposed
TRAINING = {"arch": "resnet18", "stem": "imagenet", "batch_size": 256, "epochs": 20}  # genrep-train's own
SINGLE = ("inverter", "classifier")  # objectives with one view of each sample


@dataclass(kw_only=True)
class Work:
    """What a task has to do."""

    images: Counter[str] = field(default_factory=Counter)  # by kind (``flops.gflops``)
    decoded: float = 0.0  # pixels of JPEGs
    encoded: float = 0.0
    core_seconds: float = 0.0  # of other work on the CPU
    seconds: float = START
    bytes: float = 0.0  # left in the task's folder


def work_of(task: Task) -> Work:
    """What a task has to do. Raises ValueError for a command that this does not know."""
    command = task.module.partition(":")[2] or task.kind
    given = Given(task.arguments)
    makers = {
        "dataset": _dataset,
        "from-folder": _from_folder,
        "run": _training,
        "fit-steer": _fit,
        "fit-navigator": _fit,
        "fit-filter": _fit,
        "measure-delta": _delta,
        "linear": _linear,
        "knn": _knn,
        "voc07": _voc07,
        "detection": _detection,
        "transfer": _transfer,
        "finetune": _finetune,
        "subset": lambda task, given: Work(bytes=0.1e6),
        "script": _script,
    }
    if command not in makers:
        raise ValueError(f"{task.module}: of unknown work")
    return makers[command](task, given)


class Given:
    """The arguments of a command by name."""

    def __init__(self, words: tuple[str, ...]) -> None:
        self.plain: list[str] = []
        self.named: dict[str, list[str]] = {}
        at = 0
        while at < len(words):
            if not words[at].startswith("--"):
                self.plain.append(words[at])
            elif at + 1 < len(words) and not words[at + 1].startswith("--"):
                self.named.setdefault(words[at][2:].replace("-", "_"), []).append(words[at + 1])
                at += 1
            else:
                self.named[words[at][2:].replace("-", "_")] = [""]
            at += 1

    def text(self, name: str, default: str = "") -> str:
        """Of an option."""
        return self.named.get(name, [default])[-1]

    def number(self, name: str, default: float) -> float:
        """Of an option."""
        return float(self.named[name][-1]) if name in self.named else default

    def __contains__(self, name: str) -> bool:
        return name in self.named


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


def _dataset(task: Task, given: Given) -> Work:
    gen, pairs = given.text("gen"), given.number("num_pairs", 1)
    images = pairs if given.text("views") == "none" else pairs * (1 + given.number("num_positives", 1))
    size, encoded = _stored(image_shape(gen), images)
    made = images if "filter" not in given else 2 * images  # of two candidates one is kept
    return Work(images=Counter({f"generate {gen}": made}), encoded=encoded, bytes=size + images * LATENT_BYTES)


def _from_folder(task: Task, given: Given) -> Work:
    name = given.plain[0] if given.plain[0].startswith("images/") else Path(given.plain[0]).name
    count, shape = images_of(name)[0], _real_shape(name, given)
    size, encoded = _stored(shape, count)
    return Work(decoded=count * PHOTO if encoded else 0.0, encoded=encoded, bytes=size)


def _real_shape(name: str, given: Given) -> tuple[int, int]:
    """Height and width of stored real images, in the mean."""
    if "shorter_side" in given:
        side = int(given.number("shorter_side", 0))
        return side, round(WIDER * side)
    height, _, width = given.text("size", "32").partition("x")
    return int(height), int(width or height)


def _training(task: Task, given: Given) -> Work:
    preset = preset_settings(given.text("preset")) if "preset" in given else {}
    options: dict[str, Any] = {**TRAINING, **preset}
    options |= {name: values[-1] for name, values in given.named.items()}
    batch = float(options["batch_size"])
    steps = (
        float(options["steps"]) if "steps" in given else float(options["epochs"]) * _steps_per_epoch(task, given, batch)
    )
    views = 1 if options.get("objective") in SINGLE else 2
    arch, stem = options["arch"], "-cifar" if options["stem"] == "cifar" else ""
    images = Counter({f"train {arch}{stem} {options.get('crop', 112)}": steps * batch * views})
    apart = views == 1 or options.get("positive") == "anchor"  # one stored image of each sample is read
    read = steps * batch * (1 if apart else 2)
    decoded = 0.0
    if "online" in given:
        images[f"generate {given.text('gen')}"] += round(read * (2 if "filter" in given else 1))
    else:
        decoded = read * max(_stored(_shape_of(need), 1)[1] for need in task.needs if need.kind == "dataset")
    return Work(images=images, decoded=decoded, bytes=4 * PARAMETERS[arch] * (1 + 2))  # the encoder, and a checkpoint


def _steps_per_epoch(task: Task, given: Given, batch: float) -> float:
    if "steps_per_epoch" in given:
        return given.number("steps_per_epoch", 0)
    first = next(need for need in task.needs if need.kind == "dataset")
    return _samples(first) * given.number("limit", 1.0) // batch


def _samples(task: Task) -> float:
    given = Given(task.arguments)
    return given.number("num_pairs", 0) or images_of(given.plain[0])[0]


def _shape_of(task: Task) -> tuple[int, int]:
    given = Given(task.arguments)
    return image_shape(given.text("gen")) if "gen" in given else _real_shape(given.plain[0], given)


def _fit(task: Task, given: Given) -> Work:
    gen = given.text("gen")
    if task.module.endswith("fit-filter"):
        count = given.number("images", images_of(given.text("data"))[0])
        decoded = count * PHOTO if max(image_shape(gen)) > RAW_UP_TO else 0.0
        return Work(images=Counter({f"generate {gen}": count}), decoded=decoded, bytes=20e6)
    if task.module.endswith("fit-steer"):
        return Work(images=Counter({f"steer {gen}": task.units}), bytes=1e6)
    seen = "112" if given.text("preset") == "hl" else str(min(image_shape(gen)))
    return Work(images=Counter({f"navigator {gen} {seen}": task.units}), bytes=200e6)


def _delta(task: Task, given: Given) -> Work:
    return Work(core_seconds=2e-5 * given.number("anchors", 1_000_000), bytes=0.1e6)  # two layers of T, 10 µs each


def _forward(encoder: Task | None, given: Given, size: int, images: float, mode: str = "forward") -> Counter[str]:
    """Images through the encoder that is measured."""
    other = "resnet50" if "encoder" in given else "resnet18"  # BigBiGAN's is a ResNet-50
    arch, stem = given.text("arch", other), given.text("stem", "imagenet")
    if encoder is not None:
        run = Given(encoder.arguments)
        preset = preset_settings(run.text("preset")) if "preset" in run else {}
        arch = run.text("arch", preset.get("arch", TRAINING["arch"]))
        stem = run.text("stem", preset.get("stem", TRAINING["stem"]))
    assert arch in ARCHS
    return Counter({f"{mode} {arch}{'-cifar' if stem == 'cifar' else ''} {size}": images})


def _encoder(task: Task) -> Task | None:
    return next((need for need in task.needs if need.kind == "run"), None)


def _seeds(given: Given) -> int:
    return len(given.text("seed", "0").split(","))


def _probe(task: Task, given: Given, dataset: str, preset_name: str) -> Work:
    """A linear probe: every epoch anew where training images are cropped at random, once where not."""
    from genrep.evaluate.linear.presets import PRESETS  # not above: it loads torch

    preset = PRESETS[preset_name]
    train, test = images_of(dataset)
    epochs = given.number("epochs", preset.long.get(dataset, preset.epochs)) if preset.crop_scale or preset.flip else 1
    side = int(given.number("size", preset.transform.resize or 32))
    crop = int(given.number("crop", side if "size" in given else preset.transform.crop or side))
    images = _seeds(given) * train * epochs + test * _seeds(given)
    decoded = images * PHOTO if max(side, crop) > RAW_UP_TO else 0.0
    return Work(images=_forward(_encoder(task), given, crop, images), decoded=decoded, bytes=0.1e6)


def _linear(task: Task, given: Given) -> Work:
    return _probe(task, given, given.text("dataset"), given.text("preset", "frozen"))


def _knn(task: Task, given: Given) -> Work:
    side = int(given.number("size", 32))
    return Work(images=_forward(_encoder(task), given, side, sum(images_of(given.text("dataset")))), bytes=0.1e6)


def _transfer(task: Task, given: Given) -> Work:
    from genrep.evaluate.transfer import SUITES  # not above: it loads torch

    suite = SUITES[given.text("suite")]
    parts = [_probe(task, given, dataset, suite.preset) for dataset in suite.datasets]
    images = sum((part.images for part in parts), Counter[str]())
    return Work(images=images, decoded=sum(part.decoded for part in parts), bytes=0.1e6)


def _voc07(task: Task, given: Given) -> Work:
    images = 5011.0
    return Work(
        images=_forward(_encoder(task), given, 224, images),
        decoded=images * PHOTO,
        core_seconds=SVMS * SVM_SECONDS,
        bytes=0.1e6,
    )


def _detection(task: Task, given: Given) -> Work:
    from genrep.evaluate.detection.presets import PRESETS

    preset = PRESETS[given.text("preset")]
    shown, tested = float(preset.steps * preset.batch_size), 4952.0
    images = Counter({"train detector": shown, "forward detector": tested + preset.precise_bn * preset.batch_size})
    return Work(images=images, decoded=(shown + tested) * 500 * 375, bytes=4 * 33e6 * 3)


def _finetune(task: Task, given: Given) -> Work:
    from genrep.evaluate.finetune.presets import VISSL

    train, test = images_of(given.text("dataset"))
    part = float(Path(given.text("subset")).stem.removesuffix("percent")) / 100  # SimCLR's lists
    epochs = given.number("epochs", VISSL.epochs)
    crop = int(given.number("crop", 224))
    images = _forward(_encoder(task), given, crop, train * part * epochs, "train")
    images += _forward(_encoder(task), given, crop, test)
    return Work(images=images, decoded=(train * part * epochs + test) * PHOTO, bytes=0.1e6)


def _script(task: Task, given: Given) -> Work:
    """HL's Figure 3: turns of so many seconds, for each of five ways and each batch size, after the sets were made."""
    sizes = len(given.named.get("batch_size", [""] * 4))
    turns = 5 * sizes * given.number("rounds", 3)
    return Work(seconds=START + turns * (given.number("seconds", 4.0) + 2) + 60 * sizes, bytes=0.0)
