"""VOC07 classification from a config to an entry of ``voc07.json``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genrep.encoders import LoadedEncoder
from genrep.encoders.devices import pick_device
from genrep.evaluate.encoders import open_encoder
from genrep.evaluate.results import Entry, add, data_digests, encoder_facts, find_or_tell, same_encoder, tell_changes
from genrep.evaluate.transforms import Transform
from genrep.features import feature_batches
from genrep.files import locked_folder, require_writable
from genrep.progress import Progress, note

from .ahead import ahead
from .average_precision import classification_ap
from .choice import measured_classes
from .config import COSTS, Voc07Config
from .layout import VocSplit, read_pixels, read_split
from .svm import FOLDS, MAX_ITER, ClassSvm, check_installed, fit_classes, normalised, unmeasurable

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESULT_FILE = "voc07.json"
METRICS = {"default": "11point", "genrep": "area"}


@dataclass(frozen=True, kw_only=True)
class Voc07Result:
    """An entry of the result file."""

    path: Path
    entry: Entry
    already_done: bool = False


def evaluate_voc07(config: Voc07Config) -> Voc07Result:
    """Fit one linear SVM per class on a frozen encoder's features of the training images, and rank the test images.

    Raises:
        GenRepError: the encoder or the data cannot be read, or ``out`` holds this result for another encoder.
    """
    check_installed()
    started = time.monotonic()
    device = pick_device(config.device)
    path = config.out / RESULT_FILE
    require_writable(config.out, "--out")
    encoder = open_encoder(
        encoder=config.encoder, random_init=config.random_init, arch=config.arch, stem=config.stem, seed=config.seed
    )
    train, test = _read(config)
    key: Entry = {
        "dataset": config.data.resolve().name,
        "protocol": protocol(config, train, test),
        "seed": config.seed,
    }
    with locked_folder(config.out):
        tell_changes(config.out, key["dataset"], [(f"split {one.name}", one.inventory) for one in (train, test)])
        old = find_or_tell(path, key)
        if old is not None and not config.force:
            return Voc07Result(path=path, entry=same_encoder(old, encoder, path), already_done=True)
        for split in (train, test):
            for line in split.remarks():
                note(line)
        entry = key | _measure(config, encoder, train, test, device)
        entry |= {"device": device.type, "seconds": round(time.monotonic() - started, 1)}
        add(path, entry)
    return Voc07Result(path=path, entry=entry)


def _measure(
    config: Voc07Config, encoder: LoadedEncoder, train: VocSplit, test: VocSplit, device: torch.device
) -> Entry:
    labels = [_presence(config, split) for split in (train, test)]
    features = [normalised(_features(config, encoder, split, device)) for split in (train, test)]
    svms = fit_classes(
        features[0],
        labels[0],
        features[1],
        costs=COSTS,
        seed=config.seed,
        processes=config.processes,
    )
    return {**_figures(config, svms, labels[1], train.classes), **_facts(encoder, train, test)}


def _presence(config: Voc07Config, split: VocSplit) -> NDArray[np.int8]:
    return presence(split, difficult_counts=config.protocol == "genrep")


def _read(config: Voc07Config) -> tuple[VocSplit, VocSplit]:
    """Both splits with the same classes: those asked for, all of them, or those that both splits can measure.

    Raises DataError with every class that cannot be measured, and why.
    """
    chosen = None if config.measurable else config.classes or None
    first, second = (read_split([config.data], name, chosen, empty=True) for name in config.splits)
    classes = first.classes if chosen else tuple(sorted({*first.classes, *second.classes}))
    train, test = (split.of_classes(classes) for split in (first, second))
    reasons: dict[str, str] = {}
    for split, least in ((train, FOLDS), (test, 1)):
        for name, why in unmeasurable(_presence(config, split), classes, split.name, least=least).items():
            reasons.setdefault(name, why)
    left = measured_classes(config.data, classes, reasons, measurable=config.measurable)
    return train.of_classes(left), test.of_classes(left)


def protocol(config: Voc07Config, train: VocSplit, test: VocSplit) -> dict[str, Any]:
    """Everything that must agree for two results to stand in one column."""
    return {
        "name": "voc07",
        "variant": config.protocol,
        "features": "pooled, evaluation mode, divided by (length + 1e-5)",
        "images": Transform(resize=config.size, crop=config.size).describe(),
        "train": f"{train.name}, {len(train)} images",
        "test": f"{test.name}, {len(test)} images",
        **data_digests(train.inventory, test.inventory),
        "classes": list(train.classes),
        "difficult": "count as any other" if config.protocol == "genrep" else "images that show nothing else left out",
        "classifier": f"LinearSVC per class, squared hinge, dual, positives weigh 2, at most {MAX_ITER} rounds",
        "costs": list(COSTS),
        "choice": f"best mean AP of {FOLDS} folds on the training images, per class",
        "value": f"mean over classes of {METRICS[config.protocol]} AP",
    }


def presence(split: VocSplit, *, difficult_counts: bool) -> NDArray[np.int8]:
    """1 where an image shows a class, -1 where not; 0 where it shows difficult objects of it only.

    Shape: ``(images, classes)``.

    Args:
        difficult_counts: such images are 1 too (GenRep).
    """
    table = np.full((len(split), len(split.classes)), -1, dtype=np.int8)
    for row, image in zip(table, split.images):
        row[image.labels] = 0
        row[image.labels[~image.difficult]] = 1
    if difficult_counts:
        table[table == 0] = 1
    return table


def _features(
    config: Voc07Config, encoder: LoadedEncoder, split: VocSplit, device: torch.device
) -> NDArray[np.float32]:
    """Shape: ``(images, D)``."""
    parts = []
    with Progress(len(split), "image", f"{split.name} features") as progress:
        batches = _pixels(split, config.size, config.batch_size)
        for part in feature_batches(encoder.module, encoder.facts, batches, device, batch_size=config.batch_size):
            parts.append(part.numpy().copy())
            progress.update(len(part))
    return np.concatenate(parts)


def _pixels(split: VocSplit, size: int, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Shape of each: ``(<= batch_size, size, size, 3)``."""
    transform = Transform(resize=size, crop=size)

    def load(index: int) -> NDArray[np.uint8]:
        return transform(read_pixels(split.images[index]))

    batch: list[NDArray[np.uint8]] = []
    for pixels in ahead(load, range(len(split)), depth=2 * batch_size):
        batch.append(pixels)
        if len(batch) == batch_size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def _figures(config: Voc07Config, svms: list[ClassSvm], labels: NDArray[np.int8], names: tuple[str, ...]) -> Entry:
    """All in percent."""
    tables: dict[str, dict[str, float]] = {"area": {}, "11point": {}}
    for column, name, svm in zip(labels.T, names, svms):
        kept = column != 0
        for metric, table in tables.items():
            table[name] = round(100 * classification_ap(svm.scores[kept], column[kept] == 1, metric), 4)
    means = {metric: round(float(np.mean(list(table.values()))), 4) for metric, table in tables.items()}
    return {
        "metric": "voc07_mAP",
        "unit": "percent",
        "value": means[METRICS[config.protocol]],
        "values": means,
        "per_class": tables,
        "cost": {name: svm.cost for name, svm in zip(names, svms)},
        "cv_ap": {name: [round(100 * ap, 4) for ap in svm.cv_ap] for name, svm in zip(names, svms)},
        "unconverged_fits": sum(svm.unconverged for svm in svms),
        "n": len(labels),
    }


def _facts(encoder: LoadedEncoder, train: VocSplit, test: VocSplit) -> Entry:
    import sklearn

    return {
        **encoder_facts(encoder, trained=encoder.trained),
        "dropped": train.remarks() + test.remarks(),
        "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
    }
