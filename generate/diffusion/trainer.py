"""``fit-diffusion``: train a denoiser; the result is a model folder that diffusers and genrep read.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · samples-<images>.png, and the files of ``export``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_device
from genrep.errors import DataError
from genrep.files import require_writable
from genrep.images.inventory import inventory_of_pixels
from genrep.images.labelled import LabelledImages
from genrep.look.sheets import Band, draw_sheet, save_png
from genrep.runs.engine import Course, Pace, Run
from genrep.runs.folder import refuse_other_settings
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import diverged
from genrep.untrusted import label

from ..fits.frozen import at_work
from ..pixels import to_uint8
from ..training_images import ModelTrainer, TrainingImages
from .config import FitDiffusionConfig
from .export import export_folder, make_scheduler
from .model import WAY, Denoiser
from .sample import make_sampler

LARGEST_NORM = 100.0  # of a mean over steps; in trainings that go well it is below 1
SHEET_COLUMNS, SHEET_ROWS = 10, 4
SHEET_GUIDANCES = (1.0, 1.5, 2.0, 3.0)
SHEET_STEPS = 8


class DiffusionTrainer(ModelTrainer):
    """A denoiser's training as the engine sees it; it is counted in images."""

    def __init__(self, config: FitDiffusionConfig, data: LabelledImages) -> None:
        self.config = config
        self.real = TrainingImages(
            data,
            batch_size=config.batch_size,
            seed=config.seed,
            mirror=config.mirror,
            device=torch.device(config.device),
            stream="diffusion-order",
        )
        self.class_names = data.classes if config.classes else ()
        self.denoiser = Denoiser(config, self.real, len(self.class_names))
        super().__init__(self.denoiser, self.denoiser.network)

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """The line of metrics: the loss, the norm of its gradient, and the learning rate.

        Raises TrainingError: the gradient is far beyond the norm that it is clipped to. The losses and weights of a bfloat16
        network whose activations have grown too large are still finite then, and it does not recover.
        """
        if means["gradient_norm"] > LARGEST_NORM:
            found = f"at image {self.denoiser.images_seen:,} the norm of the gradient is {means['gradient_norm']:.3g}"
            raise diverged(self.config.out, found, WAY)
        return {"images": self.denoiser.images_seen, "seconds": pace.seconds, **means}

    def pictures(self) -> None:
        """A sheet of the averaged network's samples, a class per column, a band per guidance, all from the same noise."""
        classes, real = self.class_names, self.real
        shape = (SHEET_COLUMNS * SHEET_ROWS, real.channels, real.resolution, real.resolution)
        noise = torch.from_numpy(np.random.RandomState(1).standard_normal(shape).astype(np.float32))
        y = torch.arange(len(noise)) % SHEET_COLUMNS % max(len(classes), 1)
        names = [label(classes[k % len(classes)]) for k in range(SHEET_COLUMNS)] if classes else ()
        bands = []
        for guidance in SHEET_GUIDANCES if classes else (1.0,):
            pixels = self._samples(noise, y if classes else None, guidance)
            title = f"{self.denoiser.images_seen:,} images seen" + (f", guidance {guidance:g}" if classes else "")
            bands.append(Band(rows=[list(row) for row in np.split(pixels, SHEET_ROWS)], names=names, title=title))
        save_png(self.config.out / f"samples-{self.denoiser.images_seen:09d}.png", draw_sheet(bands))

    @torch.no_grad()
    def _samples(self, noise: Tensor, y: Tensor | None, guidance: float) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Pixels for the noise. Shape: ``(B, C, H, W) -> (B, H, W, 3)``."""
        average, device, null_class = self.denoiser.average, self.denoiser.device, y is not None
        sampler = make_sampler(average, make_scheduler(), null_class=null_class, guidance=guidance, steps=SHEET_STEPS)
        images = sampler.synthesize(noise.to(device), None if y is None else y.to(device))
        return to_uint8(images, "127.5x+128").cpu().numpy()


def fit_diffusion(config: FitDiffusionConfig, data: LabelledImages) -> Path:
    """Train until ``total_images``, from the checkpoint in ``out`` if there is one; returns the folder.

    Raises:
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    config = replace(config, device=str(pick_device(config.device)))
    check_data(config, data)
    images = inventory_of_pixels(data.images, data.labels, data.classes)
    course = Course(
        out=config.out,
        label="fit-diffusion",
        unit="image",
        total=config.total_images,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        way=WAY,
        config=vars(config),
        identity={**config.identity(), "data_sha256": images.digest},
        counts="images",
        checkpoint_every=config.snapshot_images,
        checkpoint_minutes=10,
        shown={"loss": ".4f"},
    )
    with at_work(config.out, torch.device(config.device), config.batch_size):
        trainer = DiffusionTrainer(config, data)
        run = Run(trainer, course, Processes(device=trainer.denoiser.device))
        run.go_on()
        return export_folder(trainer.denoiser, config, data, run.seconds)


def check_data(config: FitDiffusionConfig, data: LabelledImages) -> None:
    """Raises DataError if the images have no classes and those are wanted, or cannot be halved as often as they are to be."""
    if config.classes and (not data.classes or bool((data.labels < 0).any())):
        raise DataError.naming(
            "{data} {}: has images without a class; wanted a folder per class, or {classes} switched off", config.data
        )
    halvings, side = len(config.channels) - 1, data.images.shape[1]
    if side % 2**halvings:
        given = ",".join(map(str, config.channels))
        raise DataError.naming(
            "{channels} {}: images of {} pixels cannot be halved {} times; give fewer", given, side, halvings
        )


def check_run(config: FitDiffusionConfig) -> None:
    """Check that the folder is free or holds this run. The checkpoint is checked again when it is read.

    Raises ResumeError: ``out`` cannot be written, or holds a run with other settings.
    """
    pick_device(config.device)
    require_writable(config.out)
    refuse_other_settings(config.out, config.identity())
