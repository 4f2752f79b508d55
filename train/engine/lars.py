"""Layer-wise adaptive rate scaling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

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
    """On the device, so that nothing waits for it."""
    weight_norms, gradient_norms = torch._foreach_norm(params), torch._foreach_norm(gradients)
    return [
        torch.where((w > 0) & (g > 0), TRUST * w / g, torch.ones_like(w)) for w, g in zip(weight_norms, gradient_norms)
    ]
