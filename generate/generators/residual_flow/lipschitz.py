"""Weights bounded in spectral norm, as Residual Flow's induced-norm layers use them at test time."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ITERATIONS = 200


def bounded_weight(
    weight: Tensor,
    u: Tensor,
    v: Tensor,
    *,
    size: tuple[int, int],
    coeff: float,
    iterations: int | None,
    atol: float | None,
    rtol: float | None,
) -> Tensor:
    """``W / max(1, sigma / coeff)``, where sigma is W's norm as an operator, by power iteration from the stored u and v.

    Chen et al. 2019 (Residual Flows for Invertible Generative Modeling), appendix E. The iteration runs ``iterations``
    times, or until u and v change by less than ``atol + rtol max(.)`` (root mean square). The averaged weights are not
    those that the stored u and v belong to, so it has to run before sampling; on the CPU in float32 it gives the same
    weights wherever the checkpoint is opened.

    Shapes: weight ``(O, I, k, k)`` with u ``(O H W,)`` and v ``(I H W,)`` for k > 1, else ``(O, I[, 1, 1])`` with u
    ``(O,)``, v ``(I,)``; ``size`` is (H, W). Raises RuntimeError where they do not fit, ValueError for constants that
    make no contraction or no end.
    """
    if not 0 < coeff < 1 or not 0 <= (iterations or 0) <= MAX_ITERATIONS:
        raise ValueError(
            f"coeff {coeff}, {iterations} power iterations: wanted between 0 and 1, at most {MAX_ITERATIONS}"
        )
    # Copies, because a tensor in a file's own memory need not be aligned, which products round differently for.
    weight, u, v = weight.clone(), u.clone(), v.clone()
    forward, transposed = _operator(weight, size)
    tolerance = None if iterations is not None or atol is None or rtol is None else (atol, rtol)
    for _ in range(MAX_ITERATIONS if iterations is None else iterations):
        before = u, v
        u = F.normalize(forward(v), dim=0)
        v = F.normalize(transposed(u), dim=0)
        if tolerance is not None and _settled(u, before[0], *tolerance) and _settled(v, before[1], *tolerance):
            break
    sigma = torch.dot(u, forward(v))
    return weight / (sigma / coeff).clamp_min(1.0)


def _settled(new: Tensor, old: Tensor, atol: float, rtol: float) -> bool:
    change = torch.linalg.vector_norm(new - old) / new.numel() ** 0.5
    return bool(change < atol + rtol * new.max())


def _operator(weight: Tensor, size: tuple[int, int]) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if weight.dim() == 2 or weight.shape[-1] == 1:
        matrix = weight.flatten(1)
        return (lambda v: matrix @ v), (lambda u: matrix.t() @ u)
    padding, (out_channels, in_channels) = weight.shape[-1] // 2, weight.shape[:2]
    return (
        lambda v: F.conv2d(v.view(1, in_channels, *size), weight, padding=padding).reshape(-1),
        lambda u: F.conv_transpose2d(u.view(1, out_channels, *size), weight, padding=padding).reshape(-1),
    )
