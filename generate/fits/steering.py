"""One step of steering (GenRep, section 3.2): w = argmin E ‖mask (G(z + α w) - T(G(z), α))‖² / |mask|.

Every random draw of a step is a function of (seed, number of the sample), so a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep.encoders.devices import pick_device
from genrep.errors import TrainingError
from genrep.files import locked_folder, require_writable, write_json
from genrep.progress import Progress
from genrep.runs.sanity import LARGEST_GRADIENT, check_training, diverged
from genrep.seeding import derive

from .config import SteerConfig
from .pictures import save_curves, save_sheet
from .source import Metrics, Source, Stopwatch, made_with, open_checkpoint, open_source, write_checkpoint
from .steering_measure import Curve, measure_walks
from .steering_targets import ROWS, anchors, draw_alphas, frames, masked_error, warp
from .steering_walks import WALKS_FILE, save_walks

if TYPE_CHECKING:
    from pathlib import Path


INIT_STD = 0.1
WAY = "try a lower --lr"  # out of a training that has diverged


class Losses:
    """Sums over the steps since the last line of metrics, on the device: a step never waits for them."""

    NAMES = ("loss", "loss_still", "known")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.steps = 0

    def add(self, *values: Tensor) -> None:
        """Remember a step's values, each ``()``."""
        self.sums += torch.stack([value.detach().double() for value in values])
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window, of which a new one begins. Raises TrainingError if one is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        if not math.isfinite(values["loss"]):
            raise diverged(out, f"at step {step:,} the loss is {values['loss']}", WAY)
        self.sums, self.steps = torch.zeros_like(self.sums), 0
        return values


class SteerTrainer:
    """Owns the walks, their optimiser and the step counter of one run."""

    def __init__(self, config: SteerConfig, source: Source) -> None:
        self.config, self.source = config, source
        generator = torch.Generator().manual_seed(derive("steer-init", config.seed))
        init = torch.randn(len(ROWS), source.latent.dim, generator=generator) * INIT_STD
        self.walks = init.to(source.device).requires_grad_()  # (8, d)
        self.optimiser = torch.optim.Adam([self.walks], lr=config.lr)
        self.step = 0
        self.window = Losses(source.device)
        self.watch = Stopwatch(source.device)

    @property
    def samples(self) -> int:
        """Samples seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
        """One step of Adam on a batch of composed transforms.

        Logged beside the loss: ``loss_still``, that of walks of length zero, and the part of the target's pixels that is known.
        """
        seed, batch = self.config.seed, self.config.batch_size
        indices = np.arange(self.samples, self.samples + batch, dtype=np.int64)
        z, y = anchors(self.source, seed, indices)
        alphas = torch.from_numpy(draw_alphas(seed, indices)).to(self.source.device)
        noise = derive("steer-step", seed, self.step)  # for generators with noise of their own: the same in both images
        with self.watch.section("G"), torch.no_grad():
            torch.manual_seed(noise)
            images = frames(self.source, z, y)
        with torch.no_grad():
            target, mask = warp(images, alphas)
            still = masked_error(images, target, mask)
        self.optimiser.zero_grad(set_to_none=True)
        with self.watch.section("G"):
            torch.manual_seed(noise)
            loss = masked_error(frames(self.source, z + alphas @ self.walks, y), target, mask)
            torch.autograd.backward(loss, inputs=[self.walks])  # a generator that is not frozen gathers no gradients
        self.optimiser.step()
        self.window.add(loss, still, mask.float().mean())
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "walks": self.walks.detach(),
            "optimiser": self.optimiser.state_dict(),
            "window": {"sums": self.window.sums, "steps": self.window.steps},
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        with torch.no_grad():
            self.walks.copy_(state["walks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.window.sums, self.window.steps = state["window"]["sums"], state["window"]["steps"]
        self.step = state["step"]


CONFIG_FILE, FACTS_FILE = "config.json", "walks.json"
SHEET_FILE, EFFECTS_FILE, CURVES_FILE = "walks.png", "effects.json", "effects.png"


@dataclass(frozen=True, kw_only=True)
class SteerResult:
    """What a run left behind."""

    path: Path  # walks.safetensors
    sheet: Path
    samples: int
    seconds: float  # of training
    last: dict[str, Any]  # the last line of metrics
    curves: list[Curve]  # empty with measure_images = 0


def fit_steer(config: SteerConfig) -> SteerResult:
    """Fit the walks until ``samples``, from the checkpoint in ``out`` if there is one.

    Raises:
        RecipeError: the options name no generator.
        GeneratorError, WeightsError: the generator cannot be used, or its images carry no gradient back to z.
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    require_writable(config.out, "--out")
    device = pick_device(config.device)
    # A generator's own noise comes from torch's stream, which each step seeds; the caller's is left as it was.
    forked = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        source = open_source(config.gen, config.weights, device, config.generator_options())
        try:
            with locked_folder(config.out):
                return Run(config, source).go_on()
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"--batch-size {config.batch_size}: does not fit the device's memory") from error


class Run:
    """A run at work in its folder."""

    def __init__(self, config: SteerConfig, source: Source) -> None:
        self.config, self.source, self.out = config, source, config.out
        self.trainer = SteerTrainer(config, source)
        self.seconds = 0.0  # of training, over all processes of the run
        self.last: dict[str, Any] = {}
        self.identity = {
            **config.identity(),
            "generator": source.digest,
            "features": source.features_digest,
            "latent": source.latent.to_json(),
            "crop": None if source.recipe.crop is None else list(source.recipe.crop),
            **({"resize": list(source.recipe.resize)} if source.recipe.resize else {}),
        }
        self._load()
        self.mark, self.timed_steps = time.monotonic(), 0
        self.metrics = Metrics(self.out, after_step=self.trainer.step)
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()}
        write_json(
            self.out / CONFIG_FILE, {**settings, "identity": self.identity, "made_with": made_with(self.source.device)}
        )

    def go_on(self) -> SteerResult:
        """Train from where the trainer stands, and write the result."""
        config, trainer = self.config, self.trainer
        with Progress(config.samples, "sample", "fit-steer", initial=trainer.samples) as progress:
            while trainer.samples < config.samples:
                trainer.train_step()
                self.timed_steps += 1
                if trainer.step % config.log_every == 0:
                    self._log()
                every = config.checkpoint_samples
                if trainer.samples // every > (trainer.samples - config.batch_size) // every:
                    self._save()
                shown = {name: f"{self.last[name]:.4f}" for name in ("loss", "loss_still") if name in self.last}
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
        lengths = torch.linalg.vector_norm(trainer.walks.detach(), dim=1).tolist()
        now = time.monotonic()
        elapsed, self.mark = max(now - self.mark, 1e-9), now
        self.seconds += elapsed
        self.last = {
            "step": trainer.step,
            "samples": trainer.samples,
            **means,
            **{f"norm_{name}": round(length, 5) for name, length in zip(ROWS, lengths)},
            "seconds": round(self.seconds, 3),
            "fraction_G": round(sections.get("G", 0.0) / elapsed, 4),
            "samples_per_s": round(self.timed_steps * self.config.batch_size / elapsed, 1),
        }
        self.timed_steps = 0
        self.metrics.write(self.last)

    def _save(self) -> None:
        """Checkpoint, and a picture of the walks of now; the time that they take is not training."""
        self._check()  # a checkpoint of walks that have diverged would end every later run too
        paused = time.monotonic()
        state = {
            "trainer": self.trainer.state_dict(),
            "last": json.dumps(self.last),
            "seconds": self.seconds + paused - self.mark,
        }
        write_checkpoint(self.out, self.identity, state)
        save_sheet(self.out / SHEET_FILE, self.source, self.trainer.walks, self.config.seed)
        self.mark += time.monotonic() - paused

    def _check(self) -> None:
        """Raises TrainingError if the walks or their gradient are not those of a training that goes well."""
        trainer = self.trainer
        check_training(self.out, trainer.step, {"walks": trainer.walks}, way=WAY)
        if trainer.walks.grad is not None:
            gradient = {"the gradient of walks": trainer.walks.grad}
            check_training(self.out, trainer.step, gradient, way=WAY, largest=LARGEST_GRADIENT)

    def _load(self) -> None:
        """Take the checkpoint's state, if there is one of the same settings."""
        with open_checkpoint(self.out, self.identity, self.source.device) as state:
            if state is None:
                return
            self.trainer.load_state_dict(state["trainer"])
            self.last, self.seconds = json.loads(state["last"]), state["seconds"]

    def _measure(self) -> list[Curve]:
        """What the walks do, as numbers and as a plot."""
        if not self.config.measure_images:
            return []
        torch.manual_seed(derive("steer-measure", self.config.seed))
        curves = measure_walks(
            self.source, self.trainer.walks.detach(), images=self.config.measure_images, seed=self.config.seed
        )
        facts = {"images": self.config.measure_images, "curves": [curve.to_json() for curve in curves]}
        write_json(self.out / EFFECTS_FILE, facts)
        save_curves(self.out / CURVES_FILE, curves, f"{self.config.gen}, {self.trainer.samples} samples")
        return curves

    def _export(self) -> SteerResult:
        config = self.config
        curves = self._measure()
        path = self.out / WALKS_FILE
        save_walks(path, self.trainer.walks, generator=config.gen, weights=self.source.digest)
        facts = {
            "settings": self.identity,
            "samples": self.trainer.samples,
            "last": self.last,
            "seconds": round(self.seconds, 1),
            **made_with(self.source.device),
            "generator": {"gen": config.gen, "weights_digest": self.source.digest},
            "rises": {curve.name: curve.rises for curve in curves},
        }
        write_json(self.out / FACTS_FILE, facts)
        return SteerResult(
            path=path,
            sheet=self.out / SHEET_FILE,
            samples=self.trainer.samples,
            seconds=self.seconds,
            last=self.last,
            curves=curves,
        )
