"""Measure how far a navigator moves latents (δ), and its InfoNCE against random walks of the same length."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep import seeding
from genrep.devices import pick_device
from genrep.errors import GenRepError, WeightsError
from genrep.files import require_writable, write_json
from genrep.infonce import info_nce
from genrep.progress import Progress
from genrep.runs.checkpoints import FAULTS, read_state, reason_of
from genrep.seeding import derive
from genrep.untrusted import read_object

from ..generators.base import LatentSpec
from ..views.navigators import LoadedWalk, Walk, load_walk
from .config import CompareConfig, DeltaConfig, NavigatorConfig
from .frozen import FrozenGenerator, open_frozen
from .navigator import build_estimator, build_policy
from .navigator_scope import PixelPolicy, Scope, chunk_scope, make_scope
from .pictures import save_bars


def random_shift(like: Tensor, seed: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
    """Walks in directions drawn evenly, each as long as the row of ``like``. Shape: ``(B, F) -> (B, F)``."""
    normals = seeding.standard_normals(seed, indices, seeding.POSITIVE, like.shape[1])
    directions = torch.from_numpy(normals).to(like)
    length = torch.linalg.vector_norm(like, dim=1, keepdim=True)
    return directions * (length / torch.linalg.vector_norm(directions, dim=1, keepdim=True))


@torch.no_grad()
def compare_walks(
    source: FrozenGenerator,
    scope: Scope,
    walk: Walk,
    estimator: Callable[[Tensor], Tensor],
    policy: PixelPolicy,
    *,
    batches: int,
    batch_size: int,
    temperature: float,
    seed: int,
) -> dict[str, Any]:
    """Mean InfoNCE over batches of fresh anchors, with the same pixel views for both kinds of positives.

    Args:
        estimator: ``(2B, 3, S, S) -> (2B, D)``, rows of unit length, in evaluation mode.

    Returns:
        ``walk``, ``random`` and their ``difference`` (walk - random), ``difference_se``, its standard error over batches,
        ``distance``, the mean length of both, and ``chance``, log(2B - 1).
    """
    rows = []
    for number in range(batches):
        indices = np.arange(number * batch_size, (number + 1) * batch_size, dtype=np.int64)
        anchors = source.anchors(derive("navigator-compare", seed), indices)
        learned = walk(scope.part(anchors.z))
        chance = random_shift(learned, derive("navigator-random", seed), indices)
        first = source.to_pixels(source.images(anchors))
        losses = []
        for shift in (learned, chance):
            second = source.to_pixels(scope.positives(source, anchors, shift))
            anchor, positive = estimator(policy(first, second, indices)).chunk(2)
            losses.append(info_nce(anchor, positive, temperature))
        rows.append(torch.stack([*losses, torch.linalg.vector_norm(learned, dim=1).mean()]))
    table = torch.stack(rows).double()
    difference = table[:, 0] - table[:, 1]
    means = table.mean(dim=0).tolist()
    return {
        "walk": means[0],
        "random": means[1],
        "difference": float(difference.mean()),
        "difference_se": float(difference.std()) / math.sqrt(batches) if batches > 1 else None,
        "distance": means[2],
        "chance": math.log(2 * batch_size - 1),
        "batches": batches,
        "batch_size": batch_size,
        "seed": seed,
    }


def compare_run(config: CompareConfig) -> dict[str, Any]:
    """``compare_walks`` of a run's T (or of another file's) under the run's own f, generator and pixel views.

    f is frozen, in evaluation mode: batch norm uses the statistics of training, so that both kinds of positives meet the
    same function.

    Raises:
        WeightsError: the folder is not that of a run, or the file is not a navigator.
    """
    where = pick_device(config.device)
    trained, state = _read(config.run)
    source = open_frozen(trained.gen, trained.weights, where, trained.generator_options())
    loaded = load_walk(config.walk or config.run)
    scope = make_scope(source, loaded.facts.chunks, loaded.facts.layers)
    estimator: nn.Module = build_estimator(trained)
    estimator.load_state_dict(state)
    estimator = estimator.to(where).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return compare_walks(
        source,
        scope,
        loaded.walk.to(where),
        estimator,
        build_policy(trained, source),
        batches=config.batches,
        batch_size=config.batch_size or trained.batch_size,
        temperature=trained.temperature,
        seed=config.seed,
    )


def _read(run: Path) -> tuple[NavigatorConfig, dict[str, Tensor]]:
    """Settings and f's weights of a run."""
    try:
        settings = read_object(run / "config.json", WeightsError)
        names = NavigatorConfig.__dataclass_fields__
        given = {name: value for name, value in settings.items() if name in names}
        for name in ("out", "features"):  # weights may be an address
            given[name] = None if given.get(name) is None else Path(given[name])
        state = read_state(run / "checkpoint.pt", torch.device("cpu"))["trainer"]["estimator"]
        return NavigatorConfig(**given), state
    except (*FAULTS, GenRepError) as error:
        raise WeightsError(f"{run}: not the folder of a run of fit-navigator ({reason_of(error)})") from None


class Moments:
    """Mean, standard deviation and extremes of K numbers over any count of rows, in constant memory.

    Batches are merged as Chan et al. (1979) do, in float64 on the device: no sum of squares cancels.
    """

    def __init__(self, width: int, device: torch.device) -> None:
        self.count = 0
        self.mean, self.m2 = (torch.zeros(width, dtype=torch.float64, device=device) for _ in range(2))
        self.low = torch.full_like(self.mean, float("inf"))
        self.high = torch.full_like(self.mean, float("-inf"))

    def add(self, values: Tensor) -> None:
        """Take a batch. Shape: ``(B, K)``."""
        values = values.double()
        mean, total = values.mean(dim=0), self.count + len(values)
        difference = mean - self.mean
        self.m2 += (values - mean).square().sum(dim=0) + difference.square() * (self.count * len(values) / total)
        self.mean += difference * (len(values) / total)
        self.low = torch.minimum(self.low, values.amin(dim=0))
        self.high = torch.maximum(self.high, values.amax(dim=0))
        self.count = total

    def to_json(self) -> list[dict[str, float]]:
        """``mean``, ``std`` (of the population), ``min`` and ``max`` of each of the K numbers."""
        std = (self.m2 / self.count).sqrt()
        columns = zip(self.mean.tolist(), std.tolist(), self.low.tolist(), self.high.tolist())
        return [dict(zip(("mean", "std", "min", "max"), numbers)) for numbers in columns]


@dataclass
class _Row:
    """One walk being measured: δ of everything that it moves, then of each of its chunks."""

    loaded: LoadedWalk
    latent: LatentSpec
    scope: Scope
    edges: list[tuple[int, int, int]]  # number of the chunk, its first and last + 1 component within F
    moments: Moments

    @torch.no_grad()
    def add(self, z: Tensor) -> None:
        shift = self.loaded.walk(self.scope.part(z))
        parts = [shift] + [shift[:, start:stop] for _, start, stop in self.edges]
        self.moments.add(torch.stack([torch.linalg.vector_norm(part, dim=1) for part in parts], dim=1))

    def to_json(self) -> dict[str, Any]:
        facts, (whole, *chunks) = self.loaded.facts, self.moments.to_json()
        return {
            "name": self.loaded.path.parent.name if self.loaded.path.name == "navigator.safetensors" else self._stem,
            "weights_sha256": self.loaded.sha256,
            "chunks": facts.chunks,
            "layers": facts.layers,
            "max_distance": self.loaded.walk.max_distance,
            "samples": facts.samples,
            "loss_f": facts.loss_f,
            "latent": self.latent.to_json(),
            "delta": whole,
            "delta_per_chunk": [{"chunk": edge[0], **numbers} for edge, numbers in zip(self.edges, chunks)],
        }

    @property
    def _stem(self) -> str:
        return self.loaded.path.stem


def measure_delta(config: DeltaConfig) -> dict[str, Any]:
    """Measure walks over ``anchors`` latents of the law that they were learned on; writes ``out`` and a plot beside it.

    A row per walk: δ over all components that it moves and over each chunk, with the loss of f and the samples seen when
    it was written. Latent i is that of pair i of a dataset of the same seed.

    Raises:
        WeightsError: a file is not a navigator, or states no latent law and no ``gen`` is given.
        RecipeError: there is no such generator, or a walk does not fit its latent.
    """
    require_writable(config.out.parent)
    started, device = time.monotonic(), pick_device(config.device)
    law = None if config.gen is None else open_frozen(config.gen, None, device).latent
    rows = [_open(path, law, device) for path in config.walks]
    with Progress(config.anchors, "anchor", "measure-delta") as progress:
        for start in range(0, config.anchors, config.batch_size):
            indices = np.arange(start, min(start + config.batch_size, config.anchors), dtype=np.int64)
            drawn: dict[LatentSpec, Tensor] = {}
            for row in rows:
                if row.latent not in drawn:
                    drawn[row.latent] = torch.from_numpy(row.latent.sample(config.seed, indices)).to(device)
                row.add(drawn[row.latent])
            progress.update(len(indices))
    result = {
        "protocol": f"delta = |T(z)|_2 over {config.anchors} anchors of the generator's law, seed {config.seed}",
        "anchors": config.anchors,
        "seed": config.seed,
        "rows": [row.to_json() for row in rows],
        "device": str(device),
        "torch": torch.__version__,
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(config.out, result)
    save_bars(config.out.with_suffix(".png"), str(result["protocol"]), _bars(result["rows"]))
    return result


def _open(path: Path, law: LatentSpec | None, device: torch.device) -> _Row:
    loaded = load_walk(path)
    latent = law or loaded.facts.latent
    if latent is None:
        raise WeightsError.naming("{}: does not state the latents that it was trained on; give {gen}", loaded.path)
    scope = chunk_scope(latent, loaded.facts.chunks, str(loaded.path))
    if loaded.walk.dim != scope.dim:
        raise WeightsError(f"{loaded.path}: moves {loaded.walk.dim} components, the latent has {scope.dim} there")
    edges, start = [], 0
    for number, size in enumerate(latent.chunks or (latent.dim,)):
        if scope.start <= start < scope.stop:
            edges.append((number, start - scope.start, start - scope.start + size))
        start += size
    loaded.walk.to(device)
    return _Row(loaded, latent, scope, edges, Moments(1 + len(edges), device))


def _bars(rows: Any) -> list[tuple[str, float, float]]:
    bars = []
    for row in rows:
        where = f"chunks {row['chunks']}" if row["chunks"] else f"layers {row['layers']}" if row["layers"] else "all"
        bars.append((f"{row['name']} ({where})", row["delta"]["mean"], row["delta"]["std"]))
        if len(row["delta_per_chunk"]) > 1:
            bars += [(f"    chunk {part['chunk']}", part["mean"], part["std"]) for part in row["delta_per_chunk"]]
    return bars
