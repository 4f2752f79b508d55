"""``fit-filter`` (HL): a discriminator of real and generated images, by whose score generated images are kept.

Every draw of a step is a function of (seed, number of the image).

A run's folder: config.json · metrics.jsonl · checkpoint.pt · extremes.png · filter.safetensors and filter.json (last: the
result, and how it came to be).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_device
from genrep.files import require_writable, write_json
from genrep.images.sets import require_images
from genrep.runs.engine import Course, Pace, Run, Trainer
from genrep.runs.folder import made_with
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import gradients
from genrep.seeding import derive

from ..views.filter_network import FILTER_FILE, FilterFacts, discriminator_loss, new_scorer, save_filter
from .config import FilterConfig
from .filtering_data import Material, load_real, open_for_filter, score_held_out
from .frozen import Stopwatch, at_work
from .pictures import save_extremes

FACTS_FILE, SHEET_FILE = "filter.json", "extremes.png"


class FilterTrainer(Trainer):
    """Owns the discriminator and its optimiser."""

    def __init__(self, config: FilterConfig, material: Material) -> None:
        self.config, self.material = config, material
        self.device = material.source.device
        scorer = new_scorer(*material.source.pixel_shape, config.seed)
        self.scorer = scorer.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.scorer.parameters(), lr=config.lr, fused=True)
        self.step = 0
        self.watch = Stopwatch(self.device)

    @property
    def images(self) -> int:
        """Real images shown so far, and as many generated ones."""
        return self.step * self.config.batch_size

    def train_step(self) -> dict[str, Tensor]:
        """One step of Adam down the binary cross-entropy of a batch of both kinds."""
        torch.manual_seed(derive("filter-step", self.config.seed, self.step))  # for generators with noise of their own
        numbers = np.arange(self.images, self.images + self.config.batch_size, dtype=np.int64)
        self.material.expect_real(numbers)  # files are decoded while the generator works
        with self.watch.section("G"):
            generated = self.material.generated(numbers)
        with self.watch.section("D"):
            on_real, on_generated = self.scorer(torch.cat([self.material.real(numbers), generated])).chunk(2)
            loss = discriminator_loss(on_real, on_generated)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        self.step += 1
        with torch.no_grad():
            return {
                "loss": loss.detach(),
                "accuracy_real": (on_real > 0).double().mean(),
                "accuracy_generated": (on_generated < 0).double().mean(),
                "score_real": on_real.sigmoid().mean(),
                "score_generated": on_generated.sigmoid().mean(),
            }

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return self.scorer.state_dict()

    def gradients(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return gradients([self.scorer])

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Loss, accuracies and scores of both kinds, and times."""
        sections = self.watch.collect()
        return {
            "step": self.step,
            "images": self.images,
            **means,
            "seconds": round(pace.seconds, 3),
            "fraction_G": round(sections.get("G", 0.0) / pace.elapsed, 4),
            "fraction_D": round(sections.get("D", 0.0) / pace.elapsed, 4),
            "images_per_s": round(2 * pace.steps * self.config.batch_size / pace.elapsed, 1),
        }


@dataclass(frozen=True, kw_only=True)
class FilterResult:
    """What a run left behind."""

    path: Path  # filter.safetensors
    sheet: Path
    images: int  # real images shown, and as many generated ones
    seconds: float  # of training
    held_out: dict[str, Any]  # as ``filtering_data.HeldOut.to_json``


def fit_filter(config: FilterConfig) -> FilterResult:
    """Fit a discriminator for one epoch (or ``images``), from the checkpoint in ``out`` if there is one.

    Raises:
        RecipeError: the options name no generator, or its images are too small.
        GeneratorError, WeightsError: the generator cannot be used.
        DataError: the real images cannot be read or are of another shape.
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: the loss is not finite, or a batch does not fit the device's memory.
    """
    require_writable(config.out)
    require_images(config.data)
    device = pick_device(config.device)
    source = open_for_filter(config, device)
    material = Material(source, load_real(config, source.pixel_shape), config.seed)
    images = {"data": material.images.sha256, "uint8": source.recipe.uint8}
    identity = {**config.identity(), **source.identity_of_images(), **images}
    course = Course(
        out=config.out,
        label="fit-filter",
        unit="image",
        total=config.images or len(material.shown),
        per_step=config.batch_size,
        batch_size=config.batch_size,
        config=vars(config),
        explained=True,
        identity=identity,
        lines=(config.log_every,),
        checkpoint_every=config.checkpoint_images,
        shown={"loss": ".3f", "accuracy_generated": ".3f"},
    )
    with at_work(config.out, device, config.batch_size):
        trainer = FilterTrainer(config, material)
        run = Run(trainer, course, Processes(device=device))
        run.go_on()
        return _export(trainer, run)


def _export(trainer: FilterTrainer, run: Run) -> FilterResult:
    """Measure, draw, and write the file; its facts come last."""
    config, material, out = trainer.config, trainer.material, trainer.config.out
    source, real = material.source, material.images
    torch.manual_seed(derive("filter-measure", config.seed))
    found = score_held_out(trainer.scorer, material, config.batch_size)
    save_extremes(out / SHEET_FILE, material, found)
    told = FilterFacts(gen=config.gen, data=real.name, images=str(trainer.images))
    save_filter(out / FILTER_FILE, trainer.scorer, told)
    facts = {
        "settings": dict(run.course.identity),
        "images": trainer.images,
        "last": run.last,
        "held_out": found.to_json(),
        "seconds": round(run.seconds, 1),
        **made_with(source.device),
        "generator": {"gen": config.gen, "weights_digest": source.digest},
        "data": {"name": real.name, "images": len(real), "licence": real.licence, "sha256": real.sha256},
    }
    write_json(out / FACTS_FILE, facts)
    return FilterResult(
        path=out / FILTER_FILE,
        sheet=out / SHEET_FILE,
        images=trainer.images,
        seconds=run.seconds,
        held_out=facts["held_out"],
    )
