"""One step of a filter's discriminator; every draw of it is a function of (seed, number of the image)."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.encoders.devices import pick_device
from genrep.errors import TrainingError
from genrep.files import locked_folder, require_writable, write_json
from genrep.images.sets import require_images
from genrep.progress import Progress
from genrep.runs.sanity import LARGEST_GRADIENT, check_training, diverged, gradients
from genrep.seeding import derive

from ..views.filter_network import FILTER_FILE, FilterFacts, discriminator_loss, new_scorer, save_filter
from .config import FilterConfig
from .filtering_data import Material, RealSet, load_real, open_source
from .filtering_measure import score_held_out
from .pictures import save_extremes
from .source import Metrics, Source, Stopwatch, made_with, open_checkpoint, write_checkpoint

WAY = "try a lower --lr"  # out of a training that has diverged


class Window:
    """Sums over the steps since the last line of metrics, in float64 on the device: a step never waits for them."""

    NAMES = ("loss", "accuracy_real", "accuracy_generated", "score_real", "score_generated")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    @torch.no_grad()
    def add(self, loss: Tensor, on_real: Tensor, on_generated: Tensor) -> None:
        """Remember a step. Shapes: ``(), (B,), (B,)``, the latter as log-odds."""
        values = (
            loss,
            (on_real > 0).double().mean(),
            (on_generated < 0).double().mean(),
            on_real.sigmoid().mean(),
            on_generated.sigmoid().mean(),
        )
        self.sums += torch.stack([value.detach().double() for value in values])
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window, of which a new one begins. Raises TrainingError if the loss is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        if not math.isfinite(values["loss"]):
            raise diverged(out, f"at step {step:,} the loss is {values['loss']}", WAY)
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return values


class FilterTrainer:
    """Owns the discriminator, its optimiser and the step counter of one run."""

    def __init__(self, config: FilterConfig, material: Material) -> None:
        self.config, self.material = config, material
        self.device = material.source.device
        scorer = new_scorer(*material.source.pixel_shape, config.seed)
        self.scorer = scorer.to(self.device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.Adam(self.scorer.parameters(), lr=config.lr, fused=True)
        self.step = 0
        self.window = Window(self.device)
        self.watch = Stopwatch(self.device)

    @property
    def images(self) -> int:
        """Real images shown so far, and as many generated ones."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
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
        self.window.add(loss, on_real, on_generated)
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "scorer": self.scorer.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "window": {"sums": self.window.sums, "steps": self.window.steps},
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.scorer.load_state_dict(state["scorer"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.window.sums, self.window.steps = state["window"]["sums"], state["window"]["steps"]
        self.step = state["step"]


CONFIG_FILE, FACTS_FILE, SHEET_FILE = "config.json", "filter.json", "extremes.png"


@dataclass(frozen=True, kw_only=True)
class FilterResult:
    """What a run left behind."""

    path: Path  # filter.safetensors
    sheet: Path
    images: int  # real images shown, and as many generated ones
    seconds: float  # of training
    held_out: dict[str, Any]  # as ``measure.HeldOut.to_json``


def fit_filter(config: FilterConfig) -> FilterResult:
    """Fit a discriminator for one epoch (or ``images``), from the checkpoint in ``out`` if there is one.

    Raises:
        RecipeError: the options name no generator, or its images are too small.
        GeneratorError, WeightsError: the generator cannot be used.
        DataError: the real images cannot be read or are of another shape.
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: the loss is not finite, or a batch does not fit the device's memory.
    """
    require_writable(config.out, "--out")
    require_images(config.data)
    device = pick_device(config.device)
    source = open_source(config, device)
    real = load_real(config, source.pixel_shape)
    # A generator's own noise comes from torch's stream, which each step seeds; the caller's is left as it was.
    forked = [device] if device.type == "cuda" else []
    with locked_folder(config.out), torch.random.fork_rng(devices=forked):
        try:
            return Run(config, source, real).go_on()
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"--batch-size {config.batch_size}: does not fit the device's memory") from error


class Run:
    """A run at work in its folder."""

    def __init__(self, config: FilterConfig, source: Source, real: RealSet) -> None:
        self.config, self.source, self.real, self.out = config, source, real, config.out
        self.material = Material(source, real, config.seed)
        self.trainer = FilterTrainer(config, self.material)
        self.total = config.images or len(self.material.shown)
        self.seconds = 0.0  # of training, over all processes of the run
        self.last: dict[str, Any] = {}
        self.identity = {
            **config.identity(),
            "data": real.sha256,
            "generator": source.digest,
            "features": source.features_digest,
            "latent": source.latent.to_json(),
            "crop": None if source.recipe.crop is None else list(source.recipe.crop),
            **({"resize": list(source.recipe.resize)} if source.recipe.resize else {}),
            "uint8": source.recipe.uint8,
        }
        self._load()
        self.mark, self.timed_steps = time.monotonic(), 0
        self.metrics = Metrics(self.out, after_step=self.trainer.step)
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()}
        write_json(
            self.out / CONFIG_FILE, {**settings, "identity": self.identity, "made_with": made_with(self.source.device)}
        )

    def go_on(self) -> FilterResult:
        """Train from where the trainer stands, and write the result."""
        config, trainer = self.config, self.trainer
        with Progress(self.total, "image", "fit-filter", initial=trainer.images) as progress:
            while trainer.images < self.total:
                trainer.train_step()
                self.timed_steps += 1
                if trainer.step % config.log_every == 0:
                    self._log()
                every = config.checkpoint_images
                if trainer.images // every > (trainer.images - config.batch_size) // every:
                    self._save()
                shown = {name: f"{self.last[name]:.3f}" for name in ("loss", "accuracy_generated") if name in self.last}
                progress.update(config.batch_size, **shown)
        if trainer.window.steps:
            self._log()
        self._save()
        return self._export()

    def _log(self) -> None:
        """A line of metrics: means over the steps since the last one. The only place that waits for the device."""
        trainer = self.trainer
        self._check()
        means, sections = trainer.window.means(self.out, trainer.step), trainer.watch.collect()
        now = time.monotonic()
        elapsed, self.mark = max(now - self.mark, 1e-9), now
        self.seconds += elapsed
        self.last = {
            "step": trainer.step,
            "images": trainer.images,
            **means,
            "seconds": round(self.seconds, 3),
            "fraction_G": round(sections.get("G", 0.0) / elapsed, 4),
            "fraction_D": round(sections.get("D", 0.0) / elapsed, 4),
            "images_per_s": round(2 * self.timed_steps * self.config.batch_size / elapsed, 1),
        }
        self.timed_steps = 0
        self.metrics.write(self.last)

    def _save(self) -> None:
        self._check()  # a checkpoint of weights that have diverged would end every later run too
        state = {
            "trainer": self.trainer.state_dict(),
            "last": json.dumps(self.last),
            "seconds": self.seconds + time.monotonic() - self.mark,
        }
        write_checkpoint(self.out, self.identity, state)

    def _check(self) -> None:
        """Raises TrainingError if the discriminator or its gradients are not those of a training that goes well."""
        trainer = self.trainer
        check_training(self.out, trainer.step, trainer.scorer.state_dict(), way=WAY)
        check_training(self.out, trainer.step, gradients([trainer.scorer]), way=WAY, largest=LARGEST_GRADIENT)

    def _load(self) -> None:
        """Take the checkpoint's state, if there is one of the same settings."""
        with open_checkpoint(self.out, self.identity, self.source.device) as state:
            if state is None:
                return
            self.trainer.load_state_dict(state["trainer"])
            self.last, self.seconds = json.loads(state["last"]), state["seconds"]

    def _export(self) -> FilterResult:
        """Measure, draw, and write the file; its facts come last."""
        config, trainer = self.config, self.trainer
        torch.manual_seed(derive("filter-measure", config.seed))
        found = score_held_out(trainer.scorer, self.material, config.batch_size)
        save_extremes(self.out / SHEET_FILE, self.material, found)
        path = self.out / FILTER_FILE
        save_filter(path, trainer.scorer, FilterFacts(gen=config.gen, data=self.real.name, images=str(trainer.images)))
        facts = {
            "settings": self.identity,
            "images": trainer.images,
            "last": self.last,
            "held_out": found.to_json(),
            "seconds": round(self.seconds, 1),
            **made_with(self.source.device),
            "generator": {"gen": config.gen, "weights_digest": self.source.digest},
            "data": {
                "name": self.real.name,
                "images": len(self.real),
                "licence": self.real.licence,
                "sha256": self.real.sha256,
            },
        }
        write_json(self.out / FACTS_FILE, facts)
        return FilterResult(
            path=path,
            sheet=self.out / SHEET_FILE,
            images=trainer.images,
            seconds=self.seconds,
            held_out=facts["held_out"],
        )
