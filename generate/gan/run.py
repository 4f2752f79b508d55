"""What a run of fit-gan writes: snapshots on its way, and at its end fp16 safetensors with a json of facts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from genrep.files import sha256_file, write_atomic, write_json
from genrep.images.labelled import LabelledImages
from genrep.runs.checkpoints import write_state
from genrep.runs.metrics import append_line
from genrep.runs.sanity import check_training
from genrep.tensor_files import safetensors_bytes

from ..weights.facts import GAN_FACTS, GAN_WEIGHTS

if TYPE_CHECKING:
    from .trainer import GanTrainer

CHECKPOINT_FILE = "checkpoint.pt"
WAY = "try a lower --lr"  # out of a training that has diverged


def export_generator(trainer: GanTrainer, data: LabelledImages) -> Path:
    """Write ``generator.safetensors`` (averaged weights, fp16, ADA names) and ``generator.json`` into the run folder.

    ``weights/records.py`` reads its name, data, licence and classes where the weights are used.
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
            "seconds": round(trainer.seconds, 1),
            "device": trainer.device.type,
            "torch": torch.__version__,
            **{name: value for name, value in config.identity().items() if name != "data"},
        },
        "classes": list(data.classes) if config.classes else [],
    }
    write_json(config.out / GAN_FACTS, facts)
    return path


def write_snapshot(trainer: GanTrainer, rows: list[dict[str, float]]) -> None:
    """Checkpoint, sample sheet and a line of mean losses."""
    out = trainer.config.out
    trainer.check()
    if rows:
        means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
        record = {"images": trainer.images_seen, "seconds": trainer.seconds, "augment_p": trainer.augment_p, **means}
        append_line(out / "metrics.jsonl", record)
    trainer.sample_sheet(out / f"samples-{trainer.images_seen:09d}.png")
    write_state(out / CHECKPOINT_FILE, trainer.state())
