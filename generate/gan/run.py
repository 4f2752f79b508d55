"""``fit-gan``: a StyleGAN2 of one's own; at its end fp16 safetensors with a json of facts.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · samples-<images>.png · generator.safetensors and generator.json.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from genrep.files import sha256_file, write_atomic, write_json
from genrep.images.inventory import inventory_of_pixels
from genrep.images.labelled import LabelledImages
from genrep.runs.engine import Course, Run
from genrep.runs.processes import Processes
from genrep.runs.sanity import check_training
from genrep.tensor_files import safetensors_bytes

from ..fits.source import at_work
from ..weights.facts import GAN_FACTS, GAN_WEIGHTS
from .config import FitGanConfig
from .trainer import WAY, GanTrainer


def fit_gan(config: FitGanConfig, data: LabelledImages) -> Path:
    """Train until ``total_images``, from the checkpoint in ``out`` if there is one; returns the exported weights' path.

    Raises:
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    images = inventory_of_pixels(data.images, data.labels, data.classes)
    course = Course(
        out=config.out,
        label="fit-gan",
        unit="image",
        total=config.total_images,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        way=WAY,
        config=asdict(config),
        identity={**config.identity(), "data_sha256": images.digest},
        losses=("generator_loss", "discriminator_loss"),
        counts="images",
        checkpoint_every=config.snapshot_images,
        shown=dict.fromkeys(("generator_loss", "discriminator_loss", "real_sign"), ".3f"),
    )
    with at_work(config.out, torch.device(config.device), config.batch_size):
        trainer = GanTrainer(config, data)
        run = Run(trainer, course, Processes(device=trainer.device))
        run.go_on()
        return export_generator(trainer, data, run.seconds)


def export_generator(trainer: GanTrainer, data: LabelledImages, seconds: float) -> Path:
    """Write ``generator.safetensors`` (averaged weights, fp16, ADA names) and ``generator.json`` into the run folder.

    ``weights/facts.py`` reads its name, data, licence and classes where the weights are used.
    """
    config = trainer.config
    path = config.out / GAN_WEIGHTS
    # Filters follow from the architecture. Dense mapping weights are stored at 1 / lr = 100 times unit scale: in range.
    state = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in trainer.average.state_dict().items()
        if not name.endswith("resample_filter")
    }
    check_training(config.out, trainer.images_seen, state, way=WAY, unit="image")  # what is beyond fp16 too
    write_atomic(path, safetensors_bytes(state, {"family": "stylegan2"}))
    facts = {
        "family": "stylegan2",
        "name": f"stylegan2-{data.name}",
        "sha256": sha256_file(path),
        "parameters": sum(p.numel() for p in trainer.average.parameters()),
        "training": {
            "data": data.name,
            "data_licence": data.licence,
            "images_seen": trainer.images_seen,
            "seconds": round(seconds, 1),
            "device": trainer.device.type,
            "torch": torch.__version__,
            **{name: value for name, value in config.identity().items() if name != "data"},
        },
        "classes": list(data.classes) if config.classes else [],
    }
    write_json(config.out / GAN_FACTS, facts)
    return path
