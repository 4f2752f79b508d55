"""Weights of pairs in the loss, from a field of the samples (``--weight-field``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genrep.errors import TrainingError, one_of
from genrep.runs.processes import Processes

from ..config import TrainConfig
from ..objectives import weighs_pairs

if TYPE_CHECKING:
    from .samples import SampleFacts


def check_weight_field(config: TrainConfig, facts: SampleFacts, positive: str) -> None:
    """Raises TrainingError if the setting names no field that gives each pair one weight, or the objective takes none."""
    field = config.weight_field
    if field is None:
        return
    if not weighs_pairs(config.objective):
        raise TrainingError.naming(
            "{weight_field} {}: {objective} {} has no loss of a pair, which a weight could multiply; leave it out",
            field,
            config.objective,
        )
    if field not in facts.floats:
        known = one_of(field, facts.floats) if facts.floats else "none"
        raise TrainingError.naming(
            "{weight_field} {}: the samples have no such float field; they have {}", field, known
        )
    if field in facts.of_positives and (positive == "anchor" or (positive == "all" and facts.num_positives > 1)):
        raise TrainingError.naming(
            "{weight_field} {}: each positive has its own, and {positive} {} trains on {}; wanted a field of the pair",
            field,
            positive,
            "none" if positive == "anchor" else f"{facts.num_positives} of them",
        )


def pair_weights(batch: dict[str, Tensor], field: str, processes: Processes) -> Tensor:
    """The weights of this process's pairs, of mean 1 over the pairs of all processes. Shape ``(B,)``, in host memory.

    Every process must bring equally many pairs. What a batch holds in ``field`` may have any scale.

    Raises TrainingError, which names a pair, for weights that are negative, infinite or no numbers, or all 0.
    """
    found = batch[field].cpu().flatten().double()
    wrong = ~((found >= 0) & found.isfinite())
    if wrong.any():
        i = int(wrong.int().argmax())
        raise TrainingError.naming(
            "{weight_field} {}: pair {} has {:g}, wanted a finite number, 0 at least",
            field,
            int(batch["index"][i]),
            float(found[i]),
        )
    mean = processes.mean(found.mean()[None])
    if not mean[0]:
        raise TrainingError.naming(
            "{weight_field} {}: 0 for all pairs of a batch, pair {} among them; wanted more than 0 for some",
            field,
            int(batch["index"][0]),
        )
    return (found / mean).to(torch.float32)
