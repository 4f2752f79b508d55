"""``fit-steer`` (GenRep, section 3.2): w = argmin E ‖mask (G(z + α w) - T(G(z), α))‖² / |mask|.

Every random draw of a step is a function of (seed, number of the sample), so a resumed run goes on as if it had not stopped.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · walks.png (the current walks) · effects.json and effects.png ·
walks.safetensors and walks.json (last: the result, and how it came to be).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep.devices import pick_device
from genrep.files import require_writable, write_json
from genrep.runs.engine import Course, Pace, Run, Trainer
from genrep.runs.folder import made_with
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.seeding import derive

from ..views.walks import WALKS_FILE, save_walks
from .config import SteerConfig
from .frozen import FrozenGenerator, Stopwatch, at_work, open_frozen
from .pictures import save_curves, save_sheet
from .steering_measure import Curve, measure_walks
from .steering_targets import COLOR, ROWS, anchors, draw_alphas, frames, masked_error, warp

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACTS_FILE, SHEET_FILE, EFFECTS_FILE, CURVES_FILE = "walks.json", "walks.png", "effects.json", "effects.png"
INIT_STD = 0.1


class SteerTrainer(Trainer):
    """Owns the walks and their optimiser."""

    def __init__(self, config: SteerConfig, source: FrozenGenerator) -> None:
        self.config, self.source = config, source
        generator = torch.Generator().manual_seed(derive("steer-init", config.seed))
        init = torch.randn(len(ROWS), source.latent.dim, generator=generator) * INIT_STD
        self.walks = init.to(source.device).requires_grad_()  # (8, d)
        self.optimiser = torch.optim.Adam([self.walks], lr=config.lr)
        self.step = 0
        self.watch = Stopwatch(source.device)

    @property
    def samples(self) -> int:
        """Samples seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> dict[str, Tensor]:
        """One step of Adam on a batch of composed transforms.

        Also reports ``loss_still``, the loss of walks of length zero, and ``known``, the known fraction of pixels.
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
            torch.autograd.backward(
                loss, inputs=[self.walks]
            )  # only the walks: a generator that is not frozen must not accumulate gradients
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.detach(), "loss_still": still, "known": mask.float().mean()}

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return {"walks": self.walks}

    def gradients(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return {} if self.walks.grad is None else {"the gradient of walks": self.walks.grad}

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {"walks": self.walks.detach(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        with torch.no_grad():
            self.walks.copy_(state["walks"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Losses, the walks' lengths, and times."""
        lengths = torch.linalg.vector_norm(self.walks.detach(), dim=1).tolist()
        return {
            "step": self.step,
            "samples": self.samples,
            **means,
            **{f"norm_{name}": round(length, 5) for name, length in zip(ROWS, lengths)},
            "seconds": round(pace.seconds, 3),
            "fraction_G": round(self.watch.collect().get("G", 0.0) / pace.elapsed, 4),
            "samples_per_s": round(pace.steps * self.config.batch_size / pace.elapsed, 1),
        }

    def pictures(self) -> None:
        """Save a picture of the current walks."""
        save_sheet(self.config.out / SHEET_FILE, self.source, self.walks, self.config.seed)


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
    require_writable(config.out)
    device = pick_device(config.device)
    source = open_frozen(config.gen, config.weights, device, config.generator_options())
    identity = {**config.identity(), **source.identity_of_images()}
    course = Course(
        out=config.out,
        label="fit-steer",
        unit="sample",
        total=config.samples,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        config=vars(config),
        explained=True,
        identity=identity,
        lines=(config.log_every,),
        checkpoint_every=config.checkpoint_samples,
        shown={"loss": ".4f", "loss_still": ".4f"},
    )
    with at_work(config.out, device, config.batch_size):
        trainer = SteerTrainer(config, source)
        run = Run(trainer, course, Processes(device=device))
        run.go_on()
        return _export(trainer, run)


def _export(trainer: SteerTrainer, run: Run) -> SteerResult:
    config, source, out = trainer.config, trainer.source, trainer.config.out
    curves = _measure(trainer)
    save_walks(out / WALKS_FILE, by_name(trainer.walks), {"generator": config.gen, "weights": source.digest or ""})
    facts = {
        "settings": dict(run.course.identity),
        "samples": trainer.samples,
        "last": run.last,
        "seconds": round(run.seconds, 1),
        **made_with(source.device),
        "generator": {"gen": config.gen, "weights_digest": source.digest},
        "rises": {curve.name: curve.rises for curve in curves},
    }
    write_json(out / FACTS_FILE, facts)
    return SteerResult(
        path=out / WALKS_FILE,
        sheet=out / SHEET_FILE,
        samples=trainer.samples,
        seconds=run.seconds,
        last=run.last,
        curves=curves,
    )


def _measure(trainer: SteerTrainer) -> list[Curve]:
    """Measure the effects of the walks; write them as JSON and as a plot."""
    config = trainer.config
    if not config.measure_images:
        return []
    torch.manual_seed(derive("steer-measure", config.seed))
    curves = measure_walks(trainer.source, trainer.walks.detach(), images=config.measure_images, seed=config.seed)
    facts = {"images": config.measure_images, "curves": [curve.to_json() for curve in curves]}
    write_json(config.out / EFFECTS_FILE, facts)
    save_curves(config.out / CURVES_FILE, curves, f"{config.gen}, {trainer.samples} samples")
    return curves


def by_name(walks: Tensor) -> dict[str, NDArray[np.float32]]:
    """The walks in their file's form. Shape: ``(8, d)``, a row per ROWS, to ``(d,)`` each, and ``(d, 3)`` for color."""
    rows = walks.detach().float().cpu().numpy()
    return {**{name: rows[i] for i, name in enumerate(ROWS[: COLOR.start])}, "color": rows[COLOR].T}
