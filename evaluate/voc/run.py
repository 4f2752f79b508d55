"""VOC07 classification from a config to an entry of ``voc07.json``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from genrep.evaluate.protocol import Protocol, Results
from genrep.evaluate.results import Entry
from genrep.evaluate.transforms import Transform
from genrep.features import feature_batches
from genrep.progress import Progress, note

from .average_precision import classification_ap
from .config import COSTS, Voc07Config
from .layout import VocSplit, ahead, measured_classes, read_pixels, read_split
from .svm import FOLDS, MAX_ITER, ClassSvm, check_installed, fit_classes, normalised, unmeasurable

if TYPE_CHECKING:
    from numpy.typing import NDArray

METRICS = {"default": "11point", "genrep": "area"}


def evaluate_voc07(config: Voc07Config) -> Results:
    """Fit one linear SVM per class on a frozen encoder's features of the training images, and rank the test images.

    Raises:
        GenRepError: the encoder or the data cannot be read, or ``out`` holds this result for another encoder.
    """
    return Voc07(config).measure_all()


class Voc07(Protocol[Voc07Config, VocSplit]):
    """Linear SVMs, one for each class, on a frozen encoder's features."""

    name = "voc07"

    def check(self) -> None:
        """See ``Protocol``."""
        check_installed()

    def load(self) -> tuple[VocSplit, VocSplit]:
        """Both splits with the same classes: those asked for, all of them, or those that both splits can measure.

        Raises DataError with every class that cannot be measured, and why.
        """
        config = self.config
        chosen = None if config.measurable else config.classes or None
        first, second = (read_split([config.data], name, chosen, empty=True) for name in config.splits)
        classes = first.classes if chosen else tuple(sorted({*first.classes, *second.classes}))
        train, test = (split.of_classes(classes) for split in (first, second))
        reasons: dict[str, str] = {}
        for split, least in ((train, FOLDS), (test, 1)):
            for name, why in unmeasurable(self._presence(split), classes, split.name, least=least).items():
                reasons.setdefault(name, why)
        left = measured_classes(config.data, classes, reasons, measurable=config.measurable)
        return train.of_classes(left), test.of_classes(left)

    @property
    def dataset(self) -> str:
        """See ``Protocol``."""
        return self.config.data.resolve().name

    def prepare(self) -> None:
        """See ``Protocol``."""
        self.check_sides((self.config.size, self.config.size))

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        config, train, test = self.config, self.train, self.test
        return {
            "name": "voc07",
            "variant": config.protocol,
            "features": "pooled, evaluation mode, divided by (length + 1e-5)",
            "images": Transform(resize=config.size, crop=config.size).describe(),
            "train": f"{train.name}, {len(train)} images",
            "test": f"{test.name}, {len(test)} images",
            "classes": list(train.classes),
            "difficult": "count as any other"
            if config.protocol == "genrep"
            else "images that show nothing else left out",
            "classifier": f"LinearSVC per class, squared hinge, dual, positives weigh 2, at most {MAX_ITER} rounds",
            "costs": list(COSTS),
            "choice": f"best mean AP of {FOLDS} folds on the training images, per class",
            "value": f"mean over classes of {METRICS[config.protocol]} AP",
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        import sklearn

        config = self.config
        for split in (self.train, self.test):
            for line in split.remarks():
                note(line)
        labels = [self._presence(split) for split in (self.train, self.test)]
        features = [normalised(self._features(split)) for split in (self.train, self.test)]
        svms = fit_classes(
            features[0], labels[0], features[1], costs=COSTS, seed=config.seed, processes=config.processes
        )
        return {
            **_values(config, svms, labels[1], self.train.classes),
            "dropped": self.train.remarks() + self.test.remarks(),
            "versions": {"torch": torch.__version__, "scikit-learn": sklearn.__version__},
        }

    def _presence(self, split: VocSplit) -> NDArray[np.int8]:
        return presence(split, difficult_counts=self.config.protocol == "genrep")

    def _features(self, split: VocSplit) -> NDArray[np.float32]:
        """Shape: ``(images, D)``."""
        encoder, size = self.encoder, self.config.batch_size
        parts = []
        with Progress(len(split), "image", f"{split.name} features") as progress:
            batches = _pixels(split, self.config.size, size)
            for part in feature_batches(encoder.module, encoder.facts, batches, self.device, batch_size=size):
                parts.append(part.numpy().copy())
                progress.update(len(part))
        return np.concatenate(parts)


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


def _values(config: Voc07Config, svms: list[ClassSvm], labels: NDArray[np.int8], names: tuple[str, ...]) -> Entry:
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
