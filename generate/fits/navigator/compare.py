"""Does T find what f cannot follow? InfoNCE of a frozen estimator on T's positives and on random ones as far away."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from genrep import seeding
from genrep.encoders.devices import pick_device
from genrep.errors import GenRepError, WeightsError
from genrep.infonce import info_nce
from genrep.runs.checkpoints import FAULTS, read_state, reason_of
from genrep.seeding import derive
from genrep.untrusted import read_object

from ...views.navigator_network import Walk
from ...views.navigator_weights import load_walk
from ..source import Source, open_source
from .config import NavigatorConfig
from .pixels import PixelPolicy
from .scope import Scope, make_scope
from .trainer import build_estimator, build_policy


def random_shift(like: Tensor, seed: int, indices: np.ndarray[Any, np.dtype[np.int64]]) -> Tensor:
    """Walks in directions drawn evenly, each as long as the row of ``like``. Shape: ``(B, F) -> (B, F)``."""
    normals = seeding.standard_normals(seed, indices, seeding.POSITIVE, like.shape[1])
    directions = torch.from_numpy(normals).to(like)
    length = torch.linalg.vector_norm(like, dim=1, keepdim=True)
    return directions * (length / torch.linalg.vector_norm(directions, dim=1, keepdim=True))


@torch.no_grad()
def compare_walks(
    source: Source,
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


def compare_run(
    run: Path,
    *,
    walk: Path | None = None,
    batches: int = 20,
    batch_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """``compare_walks`` of a run's T (or of another file's) under the run's own f, generator and pixel views.

    f is frozen, in evaluation mode: batch norm uses the statistics of training, so that both kinds of positives meet the
    same function.

    Raises:
        WeightsError: the folder is not that of a run, or the file is no navigator.
    """
    where = pick_device(device)
    config, state = _read(run)
    source = open_source(config.gen, config.weights, where, config.generator_options())
    loaded = load_walk(walk or run)
    scope = make_scope(source, loaded.facts.chunks, loaded.facts.layers)
    estimator: nn.Module = build_estimator(config)
    estimator.load_state_dict(state)
    estimator = estimator.to(where).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return compare_walks(
        source,
        scope,
        loaded.walk.to(where),
        estimator,
        build_policy(config, source),
        batches=batches,
        batch_size=batch_size or config.batch_size,
        temperature=config.temperature,
        seed=seed,
    )


def _read(run: Path) -> tuple[NavigatorConfig, dict[str, Tensor]]:
    """Settings and f's weights of a run."""
    try:
        settings = read_object(run / "config.json", WeightsError)
        names = NavigatorConfig.__dataclass_fields__
        given = {name: value for name, value in settings.items() if name in names}
        for name in ("out", "weights", "features"):
            given[name] = None if given.get(name) is None else Path(given[name])
        state = read_state(run / "checkpoint.pt", torch.device("cpu"))["trainer"]["estimator"]
        return NavigatorConfig(**given), state
    except (*FAULTS, GenRepError) as error:
        raise WeightsError(f"{run}: not the folder of a run of fit-navigator ({reason_of(error)})") from None
