"""The supervised contrastive loss, for class-conditional generators."""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep.encoders import ARCHS, EMBEDDING_DIM, Projector, build_encoder
from genrep.encoders.devices import pick_device, pick_precision
from genrep.errors import RecipeError, TrainingError
from genrep.files import locked_folder, require_writable, write_json
from genrep.infonce import info_nce
from genrep.progress import Progress
from genrep.runs.sanity import LARGEST_GRADIENT, check_training, diverged, gradients
from genrep.seeding import derive

from ..views.navigators import NAVIGATOR_FILE, Walk, WalkFacts, load_walk, new_walk, save_walk
from .config import POLICIES, NavigatorConfig
from .navigator_scope import PixelPolicy, Scope, change_of_fit, make_scope
from .pictures import STRIP_COLUMNS, evenly, save_strip
from .source import Metrics, Source, Stopwatch, made_with, open_checkpoint, open_source, write_checkpoint


def sup_con(anchor: Tensor, positive: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """SupCon with the sum outside the logarithm (Khosla et al. 2020, eq. 2): the mean over the 2B images i of

        -1 / |P(i)| Σ_{p in P(i)} log( exp(s_ip / τ) / Σ_{k ≠ i} exp(s_ik / τ) ),

    s the inner products, P(i) all other images of i's class: its pair, and both images of the pairs of that class.
    It equals ``info_nce`` where no two pairs share a class. As there, the papers' factor τ / 0.07 is left out.

    Args:
        anchor: Shape ``(B, D)``, rows of unit length.
        positive: Shape ``(B, D)``, rows of unit length; row i is the pair of row i of ``anchor``.
        labels: Shape ``(B,)``, the classes of the pairs.

    Returns:
        A scalar, computed in float32 whatever autocast says.
    """
    with torch.autocast(anchor.device.type, enabled=False):
        z = torch.cat([anchor, positive]).float()
        logits = z @ z.T / temperature
        logits.fill_diagonal_(float("-inf"))
        both = labels.repeat(2)
        same = both[:, None] == both
        same.fill_diagonal_(False)
        log_p = torch.where(same, logits.log_softmax(dim=1), 0.0)
        loss: Tensor = -(log_p.sum(dim=1) / same.sum(dim=1)).mean()
        return loss


WAY = "try a lower --lr-f or --lr-walk"  # out of a training that has diverged
FALLEN = 0.95  # of the loss to stop at: a window below this counts as the first fall, noise on the way down does not


class Window:
    """Sums over the steps since the last line of metrics, in float64 on the device: a step never waits for them."""

    NAMES = ("loss_f", "loss_T", "shift_mean", "shift_square", "distance_mean")

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(len(self.NAMES), dtype=torch.float64, device=device)
        self.farthest = torch.zeros((), dtype=torch.float64, device=device)
        self.steps = 0

    @torch.no_grad()
    def add(self, loss_f: Tensor, loss_t: Tensor, shift: Tensor) -> None:
        """Remember a step. Shapes: ``(), (), (B, F)``."""
        shift = shift.double()
        distance = torch.linalg.vector_norm(shift, dim=1)
        self.sums += torch.stack(
            [loss_f.double(), loss_t.double(), shift.mean(), shift.square().mean(), distance.mean()]
        )
        self.farthest = torch.maximum(self.farthest, distance.max())
        self.steps += 1

    def means(self, out: Path, step: int) -> dict[str, float]:
        """Means over the window. Raises TrainingError if a loss is not finite."""
        values = dict(zip(self.NAMES, (self.sums / self.steps).tolist()))
        for name in ("loss_f", "loss_T"):
            if not math.isfinite(values[name]):
                raise diverged(out, f"at step {step:,} {name} is {values[name]}", WAY)
        variance = values.pop("shift_square") - values["shift_mean"] ** 2
        return {**values, "shift_std": max(variance, 0.0) ** 0.5, "distance_max": float(self.farthest)}

    def clear(self) -> None:
        """Begin the next window."""
        self.sums, self.farthest, self.steps = torch.zeros_like(self.sums), torch.zeros_like(self.farthest), 0

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint in the middle of a window."""
        return {"sums": self.sums, "farthest": self.farthest, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.sums, self.farthest, self.steps = state["sums"], state["farthest"], state["steps"]


class StopRule:
    """HL's choice of a checkpoint: f's loss first falls, as f learns, then rises, as T finds what f cannot follow.

    Met by the first window whose mean loss is at least ``value`` after one below .95 of it.
    """

    def __init__(self) -> None:
        self.lowest = self.last = math.inf

    def add(self, loss_f: float) -> None:
        """Remember a window."""
        self.lowest, self.last = min(self.lowest, loss_f), loss_f

    def met(self, value: float | None) -> bool:
        """Whether a run that stops at ``value`` stops here."""
        return value is not None and self.lowest < FALLEN * value <= value <= self.last < math.inf


BETAS = (0.5, 0.999)


def build_estimator(config: NavigatorConfig) -> nn.Sequential:
    """f: a ResNet and its projector onto the unit sphere, fresh from the seed."""
    return nn.Sequential(
        build_encoder(config.arch, config.stem, config.seed),
        Projector(ARCHS[config.arch], EMBEDDING_DIM, config.seed),
    )


def build_policy(config: NavigatorConfig, source: Source) -> PixelPolicy:
    """T_x of a run, with its own streams."""
    shorter = min(source.pixel_shape)
    size = min(config.crop or shorter, shorter)
    return PixelPolicy(views=POLICIES[config.pixel_views], size=size, seed=derive("navigator-views", config.seed))


class NavigatorTrainer:
    """Owns T, f, their optimisers and the step counter of one run."""

    def __init__(self, config: NavigatorConfig, source: Source, scope: Scope) -> None:
        self.config, self.source, self.scope = config, source, scope
        self.device = source.device
        self.walk: Walk = new_walk(
            scope.dim,
            walk=config.walk,
            reduction=config.reduction,
            init=config.init,
            max_distance=config.max_distance,
            seed=config.seed,
        ).to(self.device)
        self.estimator = build_estimator(config).to(self.device).to(memory_format=torch.channels_last)
        self.policy = build_policy(config, source)
        self.precision = pick_precision(config.precision, self.device)
        self.optimisers = {
            "walk": torch.optim.Adam(self.walk.parameters(), lr=config.lr_walk, betas=BETAS, fused=True),
            "estimator": torch.optim.Adam(self.estimator.parameters(), lr=config.lr_f, betas=BETAS, fused=True),
        }
        self.step = 0
        self.window = Window(self.device)
        self.watch = Stopwatch(self.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def samples(self) -> int:
        """Anchors seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> None:
        """f's step on detached images, then T's against the updated f on the same images (papers' order)."""
        seed, batch = self.config.seed, self.config.batch_size
        torch.manual_seed(derive("navigator-step", seed, self.step))  # for generators with noise of their own
        indices = np.arange(self.samples, self.samples + batch, dtype=np.int64)
        anchors = self.source.anchors(derive("navigator", seed), indices)
        with self.watch.section("G"), torch.no_grad():
            first = self.source.to_pixels(self.source.images(anchors))
        shift = self.walk(self.scope.part(anchors.z))
        with self.watch.section("G"):
            positives = self.scope.positives(self.source, anchors, shift)
        # The gradient is taken in three parts, f, T_x and G, so that each is timed, and computed for nothing else:
        # neither f's weights nor G's get one in T's step.
        leaf = positives.detach().requires_grad_()
        views = self.policy(first, self.source.to_pixels(leaf), indices)
        with self.watch.section("f"):
            loss_f = self._train_estimator(views.detach(), anchors.labels)
            loss_t, at_views = self._judge(views.detach(), anchors.labels)
        (at_images,) = torch.autograd.grad(views, leaf, at_views)
        self.optimisers["walk"].zero_grad(set_to_none=True)
        with self.watch.section("G"):
            torch.autograd.backward(positives, -at_images.to(positives.dtype), inputs=list(self.walk.parameters()))
        self.optimisers["walk"].step()
        self.window.add(loss_f, loss_t, shift.detach())
        self.step += 1

    def loss(self, views: Tensor, labels: Tensor) -> Tensor:
        """f's loss on anchors and positives: InfoNCE, or SupCon. Shape: ``(2B, 3, S, S), (B,) -> ()``."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            anchor, positive = self.estimator(views).chunk(2)
        if self.config.supervised:
            return sup_con(anchor, positive, labels, self.config.temperature)
        return info_nce(anchor, positive, self.config.temperature)

    def _train_estimator(self, views: Tensor, labels: Tensor) -> Tensor:
        """One step of f down its loss; returns the loss before it."""
        loss = self.loss(views, labels)
        self.optimisers["estimator"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["estimator"].step()
        return loss.detach()

    def _judge(self, views: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of the f of now, and its gradient at the views."""
        views.requires_grad_()
        self.estimator.requires_grad_(False)
        loss = self.loss(views, labels)
        (gradient,) = torch.autograd.grad(loss, views)
        self.estimator.requires_grad_(True)
        return loss.detach(), gradient

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "walk": self.walk.state_dict(),
            "estimator": self.estimator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "window": self.window.state_dict(),
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.walk.load_state_dict(state["walk"])
        self.estimator.load_state_dict(state["estimator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.window.load_state_dict(state["window"])
        self.step = state["step"]


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
        shown = [(_short(path), load_walk(path).walk) for path in evenly(saved, STRIP_COLUMNS)]
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
