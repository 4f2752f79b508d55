"""Where a fit's images come from: a frozen generator and its anchors."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from genrep import seeding
from genrep.errors import ResumeError
from genrep.files import write_atomic
from genrep.runs.checkpoints import own_checkpoint, read_state, write_state
from genrep.runs.metrics import append_line, read_lines

from ..generators.base import Generator, LatentSpec
from ..generators.probe import require_gradient
from ..pixels import framed
from ..recipes.conditions import Conditions, class_count, make_conditions
from ..recipes.recipe import Recipe, framed_shape, latent_spec, load_recipe
from ..weights.load import open_generator
from .config import differences

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """A batch of latents and what the generator gets beside them."""

    z: Tensor  # (B, dim)
    y: Tensor | None  # (B,) classes, or rows of instance features
    labels: Tensor  # (B,) int64, -1 = none


@dataclass(frozen=True, kw_only=True)
class Source:
    """A generator with its latent law and conditions, on a device."""

    generator: Generator
    recipe: Recipe
    latent: LatentSpec
    conditions: Conditions
    device: torch.device
    digest: str | None  # of the generator's weights
    features_digest: str | None = None  # of the instance features (IC-GAN)

    def anchors(self, seed: int, indices: NDArray[np.int64]) -> Anchors:
        """The anchors with these numbers; classes are drawn evenly, each from its own stream."""
        labels = np.full(len(indices), -1, dtype=np.int64)
        y: Tensor | None = None
        if len(self.conditions.choices):
            u = seeding.uniforms(seed, indices, seeding.LABEL, 1)[:, 0]
            chosen = (u * len(self.conditions.choices)).astype(np.int64)
            labels, y = self.conditions.labels[chosen], self._to(self.conditions.choices[chosen])
        return Anchors(z=self._to(self.latent.sample(seed, indices)), y=y, labels=self._to(labels))

    def _to(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(values).to(self.device, non_blocking=True)

    def images(self, anchors: Anchors) -> Tensor:
        """G(z). Shape: ``(B, 3, H, W)``, nominally in [-1, 1], the network's whole output."""
        return self.generator.synthesize(anchors.z, anchors.y)

    def to_pixels(self, images: Tensor) -> Tensor:
        """As the recipe crops and shrinks them, in [0, 1]. Shape: ``(B, 3, H, W) -> (B, 3, h, w)`` float32, differentiable."""
        return framed(images, self.recipe.crop, self.recipe.resize).float().add(1).div(2).clamp(0, 1)

    @property
    def pixel_shape(self) -> tuple[int, int]:
        """Height and width after the recipe's crop and shrinking. Raises RecipeError where they do not fit the network."""
        return framed_shape(self.recipe, self.generator.image_shape)


def open_source(
    gen: str, weights: Path | None, device: torch.device, options: Mapping[str, Any] | None = None
) -> Source:
    """Load a generator by recipe name, TOML file or ``package.module:factory``, and see that gradients pass through it.

    Raises:
        RecipeError: there is no such generator, or it needs instance features and has none.
        WeightsError, GeneratorError: its weights cannot be read, or its images carry no gradient back to z.
    """
    recipe = load_recipe(gen)
    loaded = open_generator(recipe, weights, device, options)
    generator = loaded.generator
    require_gradient(generator, gen, device)
    return Source(
        generator=generator,
        recipe=recipe,
        latent=latent_spec(recipe, generator.latent),
        conditions=make_conditions(tuple(range(class_count(generator))), generator),
        device=device,
        digest=loaded.weights_digest,
        features_digest=loaded.features_digest,
    )


CHECKPOINT_FILE = "checkpoint.pt"


def write_checkpoint(out: Path, identity: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Write ``state`` (tensors, numbers, text and containers of them) beside the settings that it belongs to."""
    write_state(out / CHECKPOINT_FILE, {"identity": json.dumps(identity, sort_keys=True), **state})


@contextmanager
def open_checkpoint(out: Path, identity: Mapping[str, Any], device: torch.device) -> Iterator[dict[str, Any] | None]:
    """The state in a run's folder, None if there is none. What goes wrong in the block is the checkpoint's fault.

    Raises:
        ResumeError: it is of other settings (which), or cannot be read.
    """
    path = out / CHECKPOINT_FILE
    if not path.exists():
        yield None
        return
    with own_checkpoint(path):
        state: dict[str, Any] = read_state(path, device)
        if found := differences(identity, json.loads(state["identity"])):
            raise ResumeError(f"--out {out}: holds another run ({found})")
        yield state


def made_with(device: torch.device) -> dict[str, Any]:
    """On what a run runs."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": str(device),
        "device_name": name,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


METRICS_FILE = "metrics.jsonl"


class Stopwatch:
    """Seconds spent in named sections. On a GPU they are measured by events, which are read only in ``collect``."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.totals: dict[str, float] = {}
        self.pending: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Count the time inside towards ``name``."""
        if not self.on_gpu:
            started = time.perf_counter()
            yield
            self.totals[name] = self.totals.get(name, 0.0) + time.perf_counter() - started
            return
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        yield
        last.record()
        self.pending.append((name, first, last))

    def collect(self) -> dict[str, float]:
        """Seconds of each section since the last call; waits for the device."""
        for name, first, last in self.pending:
            last.synchronize()
            self.totals[name] = self.totals.get(name, 0.0) + first.elapsed_time(last) / 1000
        totals, self.totals, self.pending = self.totals, {}, []
        return totals


class Metrics:
    """metrics.jsonl: a JSON object per line, whole lines only."""

    def __init__(self, out: Path, *, after_step: int) -> None:
        """Keep the lines up to ``after_step``: a resumed run repeats what came after its checkpoint."""
        self.path = out / METRICS_FILE
        kept = [line for line in read_lines(self.path) if line["step"] <= after_step]
        write_atomic(self.path, "".join(json.dumps(line) + "\n" for line in kept).encode())

    def write(self, line: dict[str, Any]) -> None:
        """Append a line."""
        append_line(self.path, line)
