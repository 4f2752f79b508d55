"""The optimisers of the papers over an objective's parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..objectives import Objective
from .lars import LARS

# name -> learning rate at batch 256, weight decay
DEFAULTS = {
    "sgd": (0.03, 1e-4),  # GenRep
    "lars": (0.3, 1e-6),  # SimCLR (Chen et al. 2020), section 2.2
    "adamw": (1.5e-4, 0.1),  # MoCo v3 (Chen et al. 2021), section 4
}
BETAS = (0.9, 0.999)


def build_optimiser(
    name: str, encoder: nn.Module, objective: Objective, *, lr: float, weight_decay: float, momentum: float
) -> Optimizer:
    """SGD decays every parameter, as the papers' does; LARS and AdamW leave out biases and batch norm, as theirs do."""
    groups: Any = objective.parameter_groups(encoder, weight_decay=weight_decay, exclude_vectors=name != "sgd")
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=BETAS)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def set_rate(optimiser: Optimizer, rate: float, peak: float) -> None:
    """The rate of the step to come; groups with ``fixed_lr`` keep the peak."""
    for group in optimiser.param_groups:
        group["lr"] = peak if group["fixed_lr"] else rate
