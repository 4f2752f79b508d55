"""``fit-gan``: train a StyleGAN2; the result is an fp16 safetensors file with a JSON file of facts.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · samples-<images>.png · generator.safetensors and generator.json.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from genrep.devices import pick_device
from genrep.errors import WeightsError
from genrep.files import require_writable, sha256_file, write_atomic, write_json
from genrep.images.inventory import inventory_of_pixels
from genrep.images.labelled import LabelledImages
from genrep.look.sheets import Band, draw_sheet, save_png
from genrep.runs.engine import Course, Pace, Run
from genrep.runs.folder import refuse_other_settings
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import check_training
from genrep.tensor_files import safetensors_bytes
from genrep.untrusted import label

from ..fits.frozen import at_work
from ..training_images import ModelTrainer
from ..weights.cache import GAN_FACTS, GAN_WEIGHTS
from .config import FitGanConfig
from .model import WAY, Gan
from .real import RealImages

SHEET_COLUMNS, SHEET_ROWS = 10, 8


class GanTrainer(ModelTrainer):
    """A GAN's training as the engine sees it; it is counted in images."""

    def __init__(self, config: FitGanConfig, data: LabelledImages) -> None:
        self.config = config
        self.real = RealImages(config, data)
        self.gan = Gan(config, self.real)
        super().__init__(self.gan, self.gan.networks)

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """The line of metrics: losses, and the state of ADA."""
        return {"images": self.gan.images_seen, "seconds": pace.seconds, "augment_p": self.gan.augment_p, **means}

    @torch.no_grad()
    def pictures(self) -> None:
        """A sheet of the averaged generator's samples, a class per column if conditional."""
        count = SHEET_COLUMNS * SHEET_ROWS
        z = torch.from_numpy(np.random.RandomState(1).standard_normal((count, self.config.z_dim)).astype(np.float32))
        c = self.real.one_hot(torch.arange(count) % SHEET_COLUMNS % max(self.real.num_classes, 1))
        images = self.gan.average(z.to(self.gan.device), c)
        pixels = (images * 127.5 + 128).clamp(0, 255).to(torch.uint8).cpu().permute(0, 2, 3, 1).numpy()
        if pixels.shape[3] == 1:
            pixels = pixels.repeat(3, axis=3)
        path = self.config.out / f"samples-{self.gan.images_seen:09d}.png"
        rows = [list(row) for row in np.split(pixels, SHEET_ROWS)]
        classes = self.real.class_names
        names = [label(classes[k % len(classes)]) for k in range(SHEET_COLUMNS)] if classes else ()
        title = f"{self.gan.images_seen:,} images seen"
        save_png(path, draw_sheet([Band(rows=rows, names=names, title=title)]))


def fit_gan(config: FitGanConfig, data: LabelledImages) -> Path:
    """Train until ``total_images``, from the checkpoint in ``out`` if there is one; returns the exported weights' path.

    Raises:
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    config = replace(config, device=str(pick_device(config.device)))
    images = inventory_of_pixels(data.images, data.labels, data.classes)
    course = Course(
        out=config.out,
        label="fit-gan",
        unit="image",
        total=config.total_images,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        way=WAY,
        config=vars(config),
        identity={**config.identity(), "data_sha256": images.digest},
        losses=("generator_loss", "discriminator_loss"),
        counts="images",
        checkpoint_every=config.snapshot_images,
        shown=dict.fromkeys(("generator_loss", "discriminator_loss", "real_sign"), ".3f"),
    )
    with at_work(config.out, torch.device(config.device), config.batch_size):
        trainer = GanTrainer(config, data)
        run = Run(trainer, course, Processes(device=trainer.gan.device))
        run.go_on()
        return export_generator(trainer, data, run.seconds)


def check_run(config: FitGanConfig) -> None:
    """Check that the folder is free or holds this run. The checkpoint is checked again when it is read.

    Raises:
        ResumeError: ``out`` cannot be written, or holds a run with other settings.
        WeightsError: there is no file ``init``.
    """
    pick_device(config.device)
    require_writable(config.out)
    if config.init is not None and not config.init.is_file():
        raise WeightsError.naming(
            "{init} {}: no such file; wanted checkpoint.pt of another run of fit-gan", config.init
        )
    ours = {name: value for name, value in config.identity().items() if name != "init"}
    refuse_other_settings(config.out, ours)


def export_generator(trainer: GanTrainer, data: LabelledImages, seconds: float) -> Path:
    """Write ``generator.safetensors`` (averaged weights, fp16, ADA names) and ``generator.json`` into the run folder.

    ``weights/cache.py`` reads its name, data, licence and classes where the weights are used.
    """
    config, gan = trainer.config, trainer.gan
    path = config.out / GAN_WEIGHTS
    # Filters follow from the architecture. Dense mapping weights are stored at 1 / lr = 100 times unit scale: in range.
    state = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in gan.average.state_dict().items()
        if not name.endswith("resample_filter")
    }
    check_training(config.out, gan.images_seen, state, way=WAY, unit="image")  # also what is beyond the range of fp16
    write_atomic(path, safetensors_bytes(state, {"family": "stylegan2"}))
    facts = {
        "family": "stylegan2",
        "name": f"stylegan2-{data.name}",
        "sha256": sha256_file(path),
        "parameters": sum(p.numel() for p in gan.average.parameters()),
        "training": {
            "data": data.name,
            "data_licence": data.licence,
            "images_seen": gan.images_seen,
            "seconds": round(seconds, 1),
            "device": gan.device.type,
            "torch": torch.__version__,
            **{name: value for name, value in config.identity().items() if name != "data"},
        },
        "classes": list(data.classes) if config.classes else [],
    }
    write_json(config.out / GAN_FACTS, facts)
    return path
