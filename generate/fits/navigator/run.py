"""A whole run of ``fit-navigator``: from settings to ``navigator.safetensors``.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · walks/ (T at every checkpoint) · strip.png ·
navigator.safetensors and navigator.json (last: the result, and how it came to be).
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genrep.encoders.devices import pick_device
from genrep.errors import RecipeError, TrainingError
from genrep.files import locked_folder, require_writable, write_json
from genrep.progress import Progress
from genrep.sanity import LARGEST_GRADIENT, check_training, gradients

from ...views.navigator_weights import NAVIGATOR_FILE, WalkFacts, load_walk, save_walk
from ..checkpoints import made_with, open_checkpoint, write_checkpoint
from ..records import Metrics
from ..source import Source, open_source
from .config import NavigatorConfig
from .scope import make_scope
from .strip import COLUMNS, evenly, save_strip
from .trainer import NavigatorTrainer
from .visibility import change_of_fit
from .windows import WAY, StopRule

CONFIG_FILE, FACTS_FILE, STRIP_FILE, WALKS = (
    "config.json",
    "navigator.json",
    "strip.png",
    "walks",
)


@dataclass(frozen=True, kw_only=True)
class NavigatorResult:
    """What a run left behind."""

    path: Path  # navigator.safetensors
    strip: Path
    samples: int  # anchors seen
    loss_f: float | None  # mean of the last window
    stopped: str  # "samples", or "loss" where --stop-at-loss ended it
    seconds: float
    last: dict[str, Any]  # the last line of metrics
    pixel_change: float  # mean |positive - anchor| in levels of 255


def fit_navigator(config: NavigatorConfig) -> NavigatorResult:
    """Fit T until ``samples`` (or ``stop_at_loss``), from the checkpoint in ``out`` if there is one.

    Raises:
        RecipeError: the options name no generator, or no part of its latent.
        GeneratorError, WeightsError: the generator cannot be used.
        ResumeError: ``out`` holds another run, or its checkpoint cannot be read.
        TrainingError: a loss is not finite, or a batch does not fit the device's memory.
    """
    require_writable(config.out, "--out")
    device = pick_device(config.device)
    source = open_source(config.gen, config.weights, device, config.generator_options())
    if config.supervised and not len(source.conditions.choices):
        raise RecipeError(f"--supervised: {source.recipe.name} is unconditional; wanted a generator with classes")
    if config.supervised and bool((source.conditions.labels < 0).any()):
        raise RecipeError("--supervised: the instance features have no labels")
    # A generator's own noise comes from torch's stream, which each step seeds; the caller's is left as it was.
    forked = [device] if device.type == "cuda" else []
    with locked_folder(config.out), torch.random.fork_rng(devices=forked):
        try:
            return Run(config, source).go_on()
        except torch.OutOfMemoryError as error:
            raise TrainingError(f"--batch-size {config.batch_size}: does not fit the device's memory") from error


class Run:
    """A run at work in its folder."""

    def __init__(self, config: NavigatorConfig, source: Source) -> None:
        self.config, self.source = config, source
        self.out = config.out
        self.scope = make_scope(source, config.chunks, config.layers)
        self.trainer = NavigatorTrainer(config, source, self.scope)
        self.rule = StopRule()
        self.seconds = 0.0  # of training, over all processes of the run
        self.last: dict[str, Any] = {}
        self.identity = {
            **config.identity(),
            "crop": self.trainer.policy.size,
            **({"resize": list(source.recipe.resize)} if source.recipe.resize else {}),
            "precision": self.trainer.precision,
            "generator": source.digest,
            "features": source.features_digest,
        }
        self.mark, self.timed_steps = time.monotonic(), 0
        self._load()
        (self.out / WALKS).mkdir(exist_ok=True)
        self.metrics = Metrics(self.out, after_step=self.trainer.step)
        settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(config).items()}
        write_json(
            self.out / CONFIG_FILE, {**settings, "identity": self.identity, "made_with": made_with(source.device)}
        )

    def go_on(self) -> NavigatorResult:
        """Train from where the trainer stands, and write the result."""
        config, trainer = self.config, self.trainer
        if trainer.step == 0:
            self._save()
        self.mark = time.monotonic()
        with Progress(config.samples, "sample", "fit-navigator", initial=trainer.samples) as progress:
            while trainer.samples < config.samples and not self.rule.met(config.stop_at_loss):
                trainer.train_step()
                self.timed_steps += 1
                if trainer.step % config.log_every == 0:
                    self._log()
                every = config.checkpoint_samples
                if trainer.samples // every > (trainer.samples - config.batch_size) // every:
                    self._save()
                shown = {name: f"{self.last[name]:.3f}" for name in ("loss_f", "distance_mean") if name in self.last}
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
            "samples": trainer.samples,
            **means,
            "seconds": round(self.seconds, 3),
            "fraction_G": round(sections.get("G", 0.0) / elapsed, 4),
            "fraction_f": round(sections.get("f", 0.0) / elapsed, 4),
            "images_per_s": round(2 * self.timed_steps * self.config.batch_size / elapsed, 1),
        }
        self.timed_steps = 0
        self.rule.add(means["loss_f"])
        self.metrics.write(self.last)
        trainer.window.clear()

    def _save(self) -> None:
        """Checkpoint, T of now, and a strip of all its states so far."""
        self._check()
        trainer = self.trainer
        state = {
            "trainer": trainer.state_dict(),
            "lowest": self.rule.lowest,
            "last_loss": self.rule.last,
            "last": json.dumps(self.last),
            "seconds": self.seconds,
        }
        save_walk(self.out / WALKS / f"walk-{trainer.samples:09d}.safetensors", trainer.walk, self._facts())
        write_checkpoint(self.out, self.identity, state)
        saved = sorted((self.out / WALKS).glob("walk-*.safetensors"))
        shown = [(_short(path), load_walk(path).walk) for path in evenly(saved, COLUMNS)]
        save_strip(self.out / STRIP_FILE, self.source, self.scope, shown, self.config.seed)

    def _check(self) -> None:
        """Raises TrainingError if T, f or their gradients are not those of a training that goes well."""
        modules = nn.ModuleDict({"T": self.trainer.walk, "f": self.trainer.estimator})
        check_training(self.out, self.trainer.step, modules.state_dict(), way=WAY)
        check_training(self.out, self.trainer.step, gradients([modules]), way=WAY, largest=LARGEST_GRADIENT)

    def _facts(self) -> WalkFacts:
        return WalkFacts(
            chunks=self.config.chunks or "",
            layers=self.config.layers or "",
            latent=self.source.latent,
            gen=self.config.gen,
            samples=self.trainer.samples,
            loss_f=self.last.get("loss_f"),
        )

    def _load(self) -> None:
        """Take the checkpoint's state, if there is one of the same settings."""
        with open_checkpoint(self.out, self.identity, self.source.device) as state:
            if state is None:
                return
            self.trainer.load_state_dict(state["trainer"])
            self.rule.lowest, self.rule.last = state["lowest"], state["last_loss"]
            self.last, self.seconds = json.loads(state["last"]), state["seconds"]

    def _export(self) -> NavigatorResult:
        config = self.config
        met = self.rule.met(config.stop_at_loss)
        path = self.out / NAVIGATOR_FILE
        save_walk(path, self.trainer.walk, self._facts())
        change = change_of_fit(self.source, self.scope, load_walk(path).walk, config.seed)
        facts = {
            "pixel_change": round(change, 4),
            "settings": self.identity,
            "stopped": "loss" if met else "samples",
            "stop_at_loss": config.stop_at_loss,
            "last": self.last,
            "seconds": round(self.seconds, 1),
            "device": str(self.source.device),
            "torch": torch.__version__,
            "generator": {"gen": config.gen, "weights_digest": self.source.digest},
        }
        write_json(self.out / FACTS_FILE, facts)
        return NavigatorResult(
            path=path,
            strip=self.out / STRIP_FILE,
            samples=self.trainer.samples,
            loss_f=self.last.get("loss_f"),
            stopped="loss" if met else "samples",
            seconds=self.seconds,
            last=self.last,
            pixel_change=change,
        )


def _short(path: Path) -> str:
    """``walk-000120000.safetensors`` -> ``120K``."""
    samples = int(path.stem.removeprefix("walk-"))
    return f"{samples / 1000:.3g}K" if samples else "0"
