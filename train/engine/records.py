"""Records of a training beside metrics.jsonl: TensorBoard, the alarm for a collapse, live kNN accuracy, curves."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from genrep.errors import DataError, TrainingError, phrase
from genrep.extras import install
from genrep.features import extract_features
from genrep.files import write_atomic
from genrep.images.labelled import LabelledImages, MissingDataset
from genrep.images.sets import is_small, load_images
from genrep.knn import knn_top1
from genrep.look.colours import LIGHT, Theme
from genrep.look.plots import draw_as, line_style, plots_installed
from genrep.progress import note
from genrep.runs.metrics import METRICS_FILE, Line, read_lines
from genrep.runs.sanity import diverged

from .training_plan import TrainingPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Board:
    """TensorBoard's file; without TensorBoard a line on stderr says so."""

    def __init__(self, folder: Path, after_step: int) -> None:
        """Open the event file. Events of later steps will be repeated, so they are hidden."""
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            note(f"TensorBoard is not installed: the curves are in metrics.jsonl only; {install('tensorboard')}")
            return
        self.writer = SummaryWriter(folder, purge_step=after_step + 1)

    def write(self, line: Line) -> None:
        """A line of metrics."""
        if self.writer is not None:
            for name, value in line.items():
                if name not in ("step", "epoch"):
                    self.writer.add_scalar(name, float(value), line["step"])

    def close(self) -> None:
        """Flush the file."""
        if self.writer is not None:
            self.writer.close()


class Alarms:
    """Ends a run that cannot become anything."""

    def __init__(
        self,
        out: Path,
        collapse_std: float,
        collapse_steps: int,
        *,
        single_view: bool,
        collapsed: Callable[[Line], str | None] = lambda line: None,
    ) -> None:
        self.out = out
        self.collapse_std, self.collapse_steps = collapse_std, collapse_steps
        self.single_view = single_view  # features with a target of their own do not collapse
        self.collapsed = collapsed  # of the objective's own: see ``Objective.collapsed``
        self.healthy_step: int | None = None  # the last one without a sign of a collapse

    def check(self, line: Line) -> None:
        """Look at a line of metrics. Raises TrainingError."""
        step, loss, spread = line["step"], float(line["loss"]), float(line["embedding_std"])
        if not math.isfinite(loss):
            raise diverged(self.out, f"loss is {loss} at step {step}, lr {line['lr']:.3g}", phrase("try a lower {lr}"))
        if self.single_view:
            return
        low, sign = spread < self.collapse_std, self.collapsed(line)
        if self.healthy_step is None or not (low or sign):
            self.healthy_step = step
        elif (steps := step - self.healthy_step) >= self.collapse_steps:
            if not low:
                raise TrainingError.naming(
                    "{out} {}: {} at step {}, and the like for {} steps", self.out, sign, step, steps
                )
            raise TrainingError.naming(
                "{out} {}: embeddings have collapsed: their relative std is {:.4f} at step {} and has "
                "been below {} for {} steps (1 = spread evenly)",
                self.out,
                spread,
                step,
                self.collapse_std,
                steps,
            )


CURVES_FILE = "curves.png"
TITLES = {"lr": "learning rate", "embedding_std": "relative std", "knn_top1": "kNN top-1 (%)"}
PANELS = (("loss",), ("lr",), ("embedding_std", "alignment", "uniformity", "accuracy"), ("knn_top1",))


def draw_curves(out: Path) -> None:
    """Draw metrics.jsonl as curves.png: a panel for the loss, the rate, what the embeddings do, and kNN if it was measured.

    Needs matplotlib; without it a line on stderr says so.
    """
    if not plots_installed():
        note(f"matplotlib is not installed: no {CURVES_FILE}; the curves are in {METRICS_FILE}; {install('plots')}")
        return
    lines = read_lines(out / METRICS_FILE)
    write_atomic(out / CURVES_FILE, draw_as(LIGHT, lambda theme: _curves_figure(lines, theme)))


def _curves_figure(lines: list[Line], theme: Theme) -> Figure:
    from matplotlib.figure import Figure

    panels = [names for names in PANELS if any(name in line for line in lines for name in names)]
    figure = Figure(figsize=(4.2 * len(panels), 3.2), layout="constrained")
    for axes, names in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels):
        for number, name in enumerate(names):
            points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), (int, float))]
            if points:
                axes.plot(*zip(*points), label=_said(name), **line_style(theme, number, len(points)))
        axes.set_xlabel("step")
        axes.set_title(_said(names[0]) if len(names) == 1 else "embeddings")
        if len(names) > 1:
            axes.legend()
    return figure


def _said(name: str) -> str:
    return TITLES.get(name, name.replace("_", " "))


MOST_TRAINING_IMAGES = 50_000  # in the table that neighbours come from: a signal, not a result


class LiveKnn:
    """Weighted kNN (``genrep.knn``) on the training and test images of ``--knn-data``, whole and without augmentation."""

    def __init__(self, plan: TrainingPlan, device: torch.device) -> None:
        assert plan.config.knn_data is not None
        self.train, self.test = _load(plan.config.knn_data, plan.config.knn_root, plan.crop)
        if (self.train.labels < 0).any() or len(self.train.classes) < 2:
            raise DataError.naming(
                "{knn_data} {}: wanted labelled images of at least two classes", plan.config.knn_data
            )
        self.facts = plan.encoder_facts()
        self.device = device

    def top1(self, encoder: nn.Module) -> float:
        """Percent of the test images; the encoder is in training mode again afterwards."""
        encoder.eval()
        try:
            train, test = (
                extract_features(encoder, self.facts, data.images, self.device, label=f"kNN, {name} images")
                for name, data in (("train", self.train), ("test", self.test))
            )
        finally:
            encoder.train()
        labels = torch.from_numpy(self.train.labels), torch.from_numpy(self.test.labels)
        return knn_top1(train, labels[0], test, labels[1], num_classes=len(self.train.classes))


def _load(name: str, root: Path | None, crop: int) -> tuple[LabelledImages, LabelledImages]:
    if is_small(name) and root is None:
        raise DataError.naming("{knn_data} {}: give the folder that holds it as {knn_root}", name)
    size = None if is_small(name) else crop
    try:
        return load_images(name, root, "train", size=size), load_images(name, root, "test", size=size)
    except MissingDataset as error:
        fetch = f"genrep-generate from-folder {name} --root {root} --download --out DIR"
        raise DataError.naming(
            "{knn_data} {}: not found, or incomplete, under {}; {} fetches it", name, root, fetch
        ) from error
