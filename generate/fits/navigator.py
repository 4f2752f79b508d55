"""``fit-navigator``, COP-Gen's game: f minimises InfoNCE of (G(z), G(z + T(z))), T maximises it (Li et al. 2022, eq. 4).

Every random draw of a step is a function of (seed, number of the anchor), so a resumed run goes on as if it had not stopped.

A run's folder: config.json · metrics.jsonl · checkpoint.pt · walks/ (T at every checkpoint) · strip.png ·
navigator.safetensors and navigator.json (last: the result, and how it came to be).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep.devices import pick_device, pick_precision
from genrep.encoders import EMBEDDING_DIM, Projector, build_encoder
from genrep.errors import RecipeError, phrase
from genrep.files import require_writable, write_json
from genrep.infonce import info_nce
from genrep.runs.engine import Course, Pace, Run, Trainer
from genrep.runs.metrics import Line
from genrep.runs.processes import Processes
from genrep.runs.sanity import gradients
from genrep.seeding import derive

from ..views.navigators import NAVIGATOR_FILE, Walk, WalkFacts, load_walk, new_walk, save_walk
from .config import POLICIES, NavigatorConfig
from .frozen import FrozenGenerator, Stopwatch, at_work, open_frozen
from .navigator_scope import PixelPolicy, Scope, change_of_fit, make_scope
from .pictures import STRIP_COLUMNS, evenly, save_strip

FACTS_FILE, STRIP_FILE, WALKS = "navigator.json", "strip.png", "walks"
WAY = phrase("try a lower {lr_f} or {lr_walk}")  # advice for a training that has diverged
FALLEN = (
    0.95  # a window below this fraction of the stopping loss counts as the first fall; noise on the way down does not
)
BETAS = (0.5, 0.999)


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
        """Whether a run with the stopping loss ``value`` stops here."""
        return value is not None and self.lowest < FALLEN * value <= value <= self.last < math.inf


def build_estimator(config: NavigatorConfig) -> nn.Sequential:
    """f: a ResNet and its projector onto the unit sphere, fresh from the seed."""
    encoder = build_encoder(config.arch, config.stem, config.seed)
    return nn.Sequential(encoder, Projector(encoder.width, EMBEDDING_DIM, config.seed))


def build_policy(config: NavigatorConfig, source: FrozenGenerator) -> PixelPolicy:
    """The pixel views T_x of a run, with random streams of their own."""
    shorter = min(source.pixel_shape)
    size = min(config.crop or shorter, shorter)
    return PixelPolicy(views=POLICIES[config.pixel_views], size=size, seed=derive("navigator-views", config.seed))


@torch.no_grad()
def measured(loss_f: Tensor, loss_t: Tensor, shift: Tensor) -> dict[str, Tensor]:
    """What a step reports: the losses and how far T goes. Shapes: ``(), (), (B, F)``."""
    shift = shift.double()
    distance = torch.linalg.vector_norm(shift, dim=1)
    return {
        "loss_f": loss_f,
        "loss_T": loss_t,
        "shift_mean": shift.mean(),
        "shift_square": shift.square().mean(),
        "distance_mean": distance.mean(),
        "distance_max": distance.max(),
    }


def summary(means: Mapping[str, float]) -> dict[str, float]:
    """Turn means over a window into a metrics line: the mean square becomes a standard deviation."""
    said = {name: value for name, value in means.items() if name not in ("shift_square", "distance_max")}
    variance = means["shift_square"] - means["shift_mean"] ** 2
    return {**said, "shift_std": max(variance, 0.0) ** 0.5, "distance_max": means["distance_max"]}


class NavigatorTrainer(Trainer):
    """Owns T, f and their optimisers."""

    def __init__(self, config: NavigatorConfig, source: FrozenGenerator, scope: Scope) -> None:
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
        self.rule = StopRule()
        self.watch = Stopwatch(self.device)
        if self.device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def samples(self) -> int:
        """Anchors seen so far."""
        return self.step * self.config.batch_size

    def train_step(self) -> dict[str, Tensor]:
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
        self.step += 1
        return measured(loss_f, loss_t, shift.detach())

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
        """The loss of the current f, and its gradient at the views."""
        views.requires_grad_()
        self.estimator.requires_grad_(False)
        loss = self.loss(views, labels)
        (gradient,) = torch.autograd.grad(loss, views)
        self.estimator.requires_grad_(True)
        return loss.detach(), gradient

    @property
    def ended(self) -> bool:
        """Whether f's loss has risen to ``stop_at_loss``."""
        return self.rule.met(self.config.stop_at_loss)

    def weights(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return self._networks().state_dict()

    def gradients(self) -> Mapping[str, Tensor]:
        """See ``Trainer``."""
        return gradients([self._networks()])

    def _networks(self) -> nn.ModuleDict:
        return nn.ModuleDict({"T": self.walk, "f": self.estimator})

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "walk": self.walk.state_dict(),
            "estimator": self.estimator.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()},
            "rule": {"lowest": self.rule.lowest, "last": self.rule.last},
            "step": self.step,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.walk.load_state_dict(state["walk"])
        self.estimator.load_state_dict(state["estimator"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        self.rule.lowest, self.rule.last = state["rule"]["lowest"], state["rule"]["last"]
        self.step = state["step"]

    def line(self, means: dict[str, float], pace: Pace) -> Line:
        """Losses, how far T goes, and times."""
        self.rule.add(means["loss_f"])
        sections = self.watch.collect()
        return {
            "step": self.step,
            "samples": self.samples,
            **summary(means),
            "seconds": round(pace.seconds, 3),
            "fraction_G": round(sections.get("G", 0.0) / pace.elapsed, 4),
            "fraction_f": round(sections.get("f", 0.0) / pace.elapsed, 4),
            "images_per_s": round(2 * pace.steps * self.config.batch_size / pace.elapsed, 1),
        }

    def pictures(self) -> None:
        """Save the current T, and a strip of all its states so far."""
        folder = self.config.out / WALKS
        folder.mkdir(exist_ok=True)
        save_walk(folder / f"walk-{self.samples:09d}.safetensors", self.walk, self.facts())
        saved = sorted(folder.glob("walk-*.safetensors"))
        shown = [(_short(path), load_walk(path).walk) for path in evenly(saved, STRIP_COLUMNS)]
        save_strip(self.config.out / STRIP_FILE, self.source, self.scope, shown, self.config.seed)

    def facts(self) -> WalkFacts:
        """The metadata of T's file."""
        return WalkFacts(
            chunks=self.config.chunks or "",
            layers=self.config.layers or "",
            latent=self.source.latent,
            gen=self.config.gen,
            samples=self.samples,
            loss_f=self.rule.last if math.isfinite(self.rule.last) else None,
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
    require_writable(config.out)
    device = pick_device(config.device)
    source = open_frozen(config.gen, config.weights, device, config.generator_options())
    if config.supervised and not len(source.conditions.choices):
        raise RecipeError.naming(
            "{supervised}: {} is unconditional; wanted a generator with classes", source.recipe.name
        )
    if config.supervised and bool((source.conditions.labels < 0).any()):
        raise RecipeError.naming("{supervised}: the instance features have no labels")
    scope = make_scope(source, config.chunks, config.layers)
    with at_work(config.out, device, config.batch_size):
        trainer = NavigatorTrainer(config, source, scope)
        run = Run(trainer, _course(trainer), Processes(device=device))
        run.go_on()
        return _export(trainer, run)


def _course(trainer: NavigatorTrainer) -> Course:
    config = trainer.config
    seen = {"crop": trainer.policy.size, "precision": trainer.precision}
    identity = {**config.identity(), **trainer.source.identity(), **seen}
    return Course(
        out=config.out,
        label="fit-navigator",
        unit="sample",
        total=config.samples,
        per_step=config.batch_size,
        batch_size=config.batch_size,
        way=WAY,
        config=vars(config),
        explained=True,
        identity=identity,
        lines=(config.log_every,),
        losses=("loss_f", "loss_T"),
        checkpoint_every=config.checkpoint_samples,
        at_start=True,
        shown={"loss_f": ".3f", "distance_mean": ".3f"},
    )


def _export(trainer: NavigatorTrainer, run: Run) -> NavigatorResult:
    config, source, path = trainer.config, trainer.source, trainer.config.out / NAVIGATOR_FILE
    stopped = "loss" if trainer.ended else "samples"
    save_walk(path, trainer.walk, trainer.facts())
    change = change_of_fit(source, trainer.scope, load_walk(path).walk, config.seed)
    facts = {
        "pixel_change": round(change, 4),
        "settings": dict(run.course.identity),
        "stopped": stopped,
        "stop_at_loss": config.stop_at_loss,
        "last": run.last,
        "seconds": round(run.seconds, 1),
        "device": str(source.device),
        "torch": torch.__version__,
        "generator": {"gen": config.gen, "weights_digest": source.digest},
    }
    write_json(config.out / FACTS_FILE, facts)
    return NavigatorResult(
        path=path,
        strip=config.out / STRIP_FILE,
        samples=trainer.samples,
        loss_f=run.last.get("loss_f"),
        stopped=stopped,
        seconds=run.seconds,
        last=run.last,
        pixel_change=change,
    )


def _short(path: Path) -> str:
    """``walk-000120000.safetensors`` -> ``120K``."""
    samples = int(path.stem.removeprefix("walk-"))
    return f"{samples / 1000:.3g}K" if samples else "0"
