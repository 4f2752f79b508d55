"""One detector being trained: SGD steps, their schedule, and the statistics of batch norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from genrep.errors import phrase
from genrep.runs import engine
from genrep.runs.engine import Pace
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import diverged
from genrep.seeding import derive

from .config import DetectionPreset
from .data import Sample

WARMUP_FROM = 1e-3  # of the rate (detectron2)
DECAY = 0.1
NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def learning_rate(step: int, preset: DetectionPreset) -> float:
    """The rate of a step, counted from 0: linear warm-up, then a tenth after each of ``decay_at``."""
    scale = DECAY ** sum(step >= round(part * preset.steps) for part in preset.decay_at)
    if step < preset.warmup:
        scale *= WARMUP_FROM + (1 - WARMUP_FROM) * step / preset.warmup
    return preset.lr * scale


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """All parameters; those of normalisation layers are not decayed (detectron2's WEIGHT_DECAY_NORM)."""
    norms = [p for m in model.modules() if isinstance(m, NORMS) for p in m.parameters()]
    known = {id(parameter) for parameter in norms}
    others = [parameter for parameter in model.parameters() if id(parameter) not in known]
    return [{"params": others, "weight_decay": weight_decay}, {"params": norms, "weight_decay": 0.0}]


def _synchronised(model: nn.Module, processes: Processes) -> nn.Module:
    """The model with gradients averaged over all processes (and, on GPUs, batch norm over all their images)."""
    if processes.size == 1:
        return model
    if processes.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return DistributedDataParallel(model, device_ids=[processes.device.index])
    return DistributedDataParallel(model)


class DetectionStep:
    """Owns the state that a step changes. Every random draw of a step is a function of (seed, step, process)."""

    def __init__(
        self,
        model: nn.Module,
        preset: DetectionPreset,
        seed: int,
        generator: torch.Generator,
        processes: Processes,
        folder: Path,
    ) -> None:
        self.folder = folder  # of the run, inside --out; for messages
        self.preset, self.seed, self.generator, self.processes = preset, seed, generator, processes
        self.device = generator.device
        self.model = _synchronised(model.to(self.device), processes)
        self.optimiser = torch.optim.SGD(
            parameter_groups(model, preset.weight_decay), lr=preset.lr, momentum=preset.momentum
        )
        self.bare = model
        self.step = 0

    def train_step(self, batch: list[Sample]) -> dict[str, float]:
        """One update; returns the losses of this process.

        Raises:
            TrainingError: a loss is not finite.
        """
        self.model.train()
        rate = learning_rate(self.step, self.preset)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        losses = self._losses(batch, "detection-sampling", self.step)
        loss = torch.stack(list(losses.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.preset.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.preset.clip_norm)
        values = torch.stack([loss, *losses.values()]).tolist()
        if not self.processes.agree(math.isfinite(values[0])):
            found = f"{self.folder.name}: loss is {values[0]} at step {self.step}, lr {rate:.3g}"
            raise diverged(self.folder.parent, found, phrase("try a lower {lr}"))
        self.optimiser.step()
        self.step += 1
        return {"loss": values[0], **dict(zip(losses, values[1:])), "lr": rate}

    def _losses(self, batch: list[Sample], *key: int | str) -> dict[str, Tensor]:
        self.generator.manual_seed(derive(*key, self.seed, self.processes.rank))
        images = [image.to(self.device, non_blocking=True).float() / 255 for image, _ in batch]
        targets = [{name: value.to(self.device) for name, value in target.items()} for _, target in batch]
        losses: dict[str, Tensor] = self.model(images, targets)
        return losses

    @torch.no_grad()
    def measure_norms(self, batches: Iterable[list[Sample]]) -> None:
        """Replace the running statistics of batch norm by plain means over batches (detectron2's PRECISE_BN)."""
        norms = [m for m in self.bare.modules() if isinstance(m, NORMS)]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a mean over all batches
        self.model.train()
        for number, batch in enumerate(batches):
            self._losses(batch, "detection-norms", number)
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {"model": self.bare.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.bare.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


class DetectionTrainer(engine.Trainer):
    """A detector's training as the engine sees it: the trainer with its batches."""

    def __init__(self, trainer: DetectionStep, batches: Callable[[range], Iterator[list[Sample]]]) -> None:
        """``batches``: of a range of steps, this process's part."""
        self.trainer, self.of_steps = trainer, batches
        self.step = trainer.step
        self.batches: Iterator[list[Sample]] | None = None  # from the next step on

    def train_step(self) -> Mapping[str, float]:
        """See ``engine.Trainer``."""
        if self.batches is None:
            self.batches = self.of_steps(range(self.step, self.trainer.preset.steps))
        values = self.trainer.train_step(next(self.batches))
        self.step = self.trainer.step
        return values

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Losses and the rate; means over the processes."""
        return {"step": self.step, **means, "seconds": round(pace.seconds, 1)}

    def weights(self) -> Mapping[str, Tensor]:
        """See ``engine.Trainer``."""
        weights: Mapping[str, Tensor] = self.trainer.bare.state_dict()
        return weights

    def state_dict(self) -> dict[str, Any]:
        """See ``engine.Trainer``."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See ``engine.Trainer``."""
        self.trainer.load_state_dict(state)
        self.step = self.trainer.step

    def close(self) -> None:
        """Let go of the processes that read images."""
        self.batches = None
