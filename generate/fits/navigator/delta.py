"""HL's Table 1 by Monte Carlo: how far learned walks move a latent, δ = ‖T(z)‖₂, over the generator's own law."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrep.encoders.devices import pick_device
from genrep.errors import WeightsError
from genrep.files import require_writable, write_json
from genrep.progress import Progress

from ...generators.base import LatentSpec
from ...views.navigator_weights import LoadedWalk, load_walk
from ..source import open_source
from .config import DeltaConfig
from .scope import Scope, chunk_scope
from .strip import save_bars


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
    """One walk under measurement: δ of all that it moves, then of each chunk of it."""

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
        WeightsError: a file is no navigator, or states no latent law and no ``gen`` is given.
        RecipeError: there is no such generator, or a walk does not fit its latent.
    """
    require_writable(config.out.parent, "--out")
    started, device = time.monotonic(), pick_device(config.device)
    law = None if config.gen is None else open_source(config.gen, None, device).latent
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
        raise WeightsError(f"{loaded.path}: does not say on which latents it was learned; give --gen")
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
