"""The optimisers of the papers over an objective's parameter groups, LARS among them, and the learning rate.

LARS is layer-wise adaptive rate scaling. The learning rate is a pure function of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..objectives import Objective

# name -> learning rate at batch 256, weight decay
DEFAULTS = {
    "sgd": (0.03, 1e-4),  # GenRep
    "lars": (0.3, 1e-6),  # SimCLR (Chen et al. 2020), section 2.2
    "adamw": (1.5e-4, 0.1),  # MoCo v3 (Chen et al. 2021), section 4
}
BETA1 = 0.9


def build_optimiser(
    name: str,
    encoder: nn.Module,
    objective: Objective,
    *,
    lr: float,
    weight_decay: float,
    momentum: float,
    beta2: float = 0.999,
    layer_decay: float = 1.0,
) -> Optimizer:
    """SGD decays every parameter, as the papers' does; LARS and AdamW leave out biases and batch norm, as theirs do."""
    groups: Any = objective.parameter_groups(
        encoder, weight_decay=weight_decay, exclude_vectors=name != "sgd", layer_decay=layer_decay
    )
    if name == "lars":
        return LARS(groups, lr=lr, momentum=momentum)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(BETA1, beta2))
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def set_rate(optimiser: Optimizer, rate: float, peak: float, weight_decay: float | None = None) -> None:
    """The rate of the step to come, and its weight decay; groups with ``fixed_lr`` keep the peak."""
    for group in optimiser.param_groups:
        group["lr"] = (peak if group["fixed_lr"] else rate) * group.get("lr_scale", 1.0)
        if weight_decay is not None and group["weight_decay"]:
            group["weight_decay"] = weight_decay


def half_cosine(first: float, last: float, progress: float) -> float:
    """From ``first`` at 0 to ``last`` at 1: of rates, and of DINO's weight decay (Caron et al. 2021, appendix).

    >>> [round(half_cosine(0.04, 0.4, k / 4), 4) for k in range(5)]
    [0.04, 0.0927, 0.22, 0.3473, 0.4]
    """
    return last + (first - last) * (1 + math.cos(math.pi * progress)) / 2


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], most: float, *, each: bool) -> None:
    """Shorten gradients to the norm ``most``: all of them together, or each tensor's by itself (DINO's ``clip_gradients``)."""
    found = [parameter for parameter in parameters if parameter.grad is not None]
    if not each:
        torch.nn.utils.clip_grad_norm_(found, most)
        return
    gradients = [parameter.grad for parameter in found if parameter.grad is not None]
    for gradient, norm in zip(gradients, torch._foreach_norm(gradients)):
        gradient.mul_((most / (norm + 1e-6)).clamp(max=1.0))


TRUST = 1e-3  # the coefficient of You et al. 2017 and of SimCLR's code


class LARS(Optimizer):
    """SGD with momentum whose rate for a parameter w with gradient g is lr · trust · |w| / |g + weight_decay · w|.

    You et al. 2017, algorithm 1, with the norm of the decayed gradient as SimCLR, BYOL and Barlow Twins have it; the rate is
    plain ``lr`` where either norm is 0, and in groups with ``adapt=False`` (biases and batch norm). Momentum accumulates
    scaled gradients without the rate, as in ``torch.optim.SGD``.
    """

    def __init__(self, params: Any, *, lr: float, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "adapt": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            gradients = torch._foreach_add([p.grad for p in params], params, alpha=group["weight_decay"])
            if group["adapt"]:
                torch._foreach_mul_(gradients, _trust_ratios(params, gradients))
            momenta = [self._momentum(p) for p in params]
            torch._foreach_mul_(momenta, group["momentum"])
            torch._foreach_add_(momenta, gradients)
            torch._foreach_add_(params, momenta, alpha=-group["lr"])
        return loss

    def _momentum(self, parameter: torch.Tensor) -> torch.Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: torch.Tensor = state["momentum_buffer"]
        return buffer


def _trust_ratios(params: list[torch.Tensor], gradients: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
    """The trust ratios, kept on the device so that nothing waits for them."""
    weight_norms, gradient_norms = torch._foreach_norm(params), torch._foreach_norm(gradients)
    return [
        torch.where((w > 0) & (g > 0), TRUST * w / g, torch.ones_like(w)) for w, g in zip(weight_norms, gradient_norms)
    ]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Linear warm-up, then half a cosine from ``peak`` down to ``peak · floor``.

    ``cosine`` moves at every step. ``cosine-by-epoch`` is the rule of GenRep and COP-Gen: one rate for each epoch
    e = 1 … E, ``floor + (peak - floor) (1 + cos(π e / E)) / 2``, so that the first epoch is a little below the peak already; a
    warm-up then ends at the rate of the epoch that it ends in.
    """

    kind: str
    peak: float
    floor: float  # part of the peak
    warmup_steps: int
    total_steps: int
    steps_per_epoch: int

    def rate(self, step: int) -> float:
        """The rate of the update after ``step`` updates.

        >>> s = Schedule(kind="cosine", peak=1.0, floor=0.0, warmup_steps=2, total_steps=6, steps_per_epoch=3)
        >>> [round(s.rate(step), 3) for step in range(6)]
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146]
        """
        if step < self.warmup_steps:
            return self._cosine(self.warmup_steps) * (step + 1) / self.warmup_steps
        return self._cosine(step)

    def _cosine(self, step: int) -> float:
        if self.kind == "cosine-by-epoch":
            progress = (step // self.steps_per_epoch + 1) / math.ceil(self.total_steps / self.steps_per_epoch)
        else:
            progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return half_cosine(self.peak, self.peak * self.floor, progress)
