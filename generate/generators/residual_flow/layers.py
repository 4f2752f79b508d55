"""The layers of a Residual Flow, each with the inverse that turns latents into images."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genrep.errors import GeneratorError

TOLERANCE = 1e-4  # of a step, relative to 1 + |y|, or to the incoming gradient; the original stops the batch at 3e-3
MAX_STEPS = 1000  # a branch bounded by 0.98 has converged to 2e-9 by then
SWISH_GAIN = 1 / 1.1


class ActNorm(nn.Module):
    """``y = (x + b) exp(w)``, per channel or (after the fully connected blocks) per element."""

    gain: Tensor
    shift: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        places = (1, shape[0], 1, 1) if weight.numel() == shape[0] else (1, *shape)
        self.register_buffer("gain", weight.neg().exp().view(places))
        self.register_buffer("shift", bias.neg().view(places))

    def inverse(self, y: Tensor) -> Tensor:
        """``y exp(-w) - b``. Shape: ``(B, C, H, W)``, kept."""
        return torch.addcmul(self.shift, y, self.gain)


class Mixing(nn.Module):
    """An invertible matrix over channels (1x1 convolution), or over all elements."""

    inverted: Tensor

    def __init__(self, weight: Tensor, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.over_channels = weight.shape[0] == shape[0]
        self.register_buffer("inverted", weight.double().inverse().float())

    def inverse(self, y: Tensor) -> Tensor:
        """Shape: ``(B, C, H, W)``, kept."""
        if self.over_channels:
            return F.conv2d(y, self.inverted[:, :, None, None])
        return F.linear(y.flatten(1), self.inverted).view_as(y)


class Squeeze(nn.Module):
    """2x2 pixels become 4 channels in the forward direction."""

    def inverse(self, y: Tensor) -> Tensor:
        """Shape: ``(B, 4 C, H, W) -> (B, C, 2 H, 2 W)``."""
        return F.pixel_shuffle(y, 2)


class Logit(nn.Module):
    """Pixels in [0, 1] to ``logit(a + (1 - 2 a) x)``."""

    def __init__(self, alpha: float) -> None:
        super().__init__()
        if not 0 <= alpha < 0.5:
            raise ValueError(f"a logit transform with alpha {alpha}")
        self.gain = 1 / (1 - 2 * alpha)

    def inverse(self, y: Tensor) -> Tensor:
        """``2 x - 1``: the sigmoid in [0, 1] becomes a tanh in [-1, 1]. Shape: ``(B, C, H, W)``, kept."""
        return torch.tanh(y / 2) * self.gain


class Normalize(nn.Module):
    """Pixels in [0, 1] to ``(x - mean) / std``, in the channels that have a mean."""

    gain: Tensor
    shift: Tensor

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        if not mean or len(mean) != len(std):
            raise ValueError(f"a normalisation by means {mean} and deviations {std}")
        self.register_buffer("gain", 2 * torch.tensor(std).view(1, -1, 1, 1))
        self.register_buffer("shift", 2 * torch.tensor(mean).view(1, -1, 1, 1) - 1)

    def inverse(self, y: Tensor) -> Tensor:
        """``2 x - 1``. Shape: ``(B, C, H, W)``, kept."""
        return torch.addcmul(self.shift, y, self.gain)


class Affine(nn.Module):
    """Convolution or fully connected layer with fixed weights."""

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        if weight.dim() == 4:  # measured on a CPU: 2 to 5 times as fast from and to 3 channels, as fast otherwise
            weight = weight.contiguous(memory_format=torch.channels_last)
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, I, H, W) -> (B, O, H, W)``, or ``(B, I) -> (B, O)``."""
        if self.weight.dim() == 2:
            return F.linear(x, self.weight, self.bias)
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class Swish(nn.Module):
    """``silu(b x)``: Swish, ``x sigmoid(b x) / 1.1``, without the factor ``1 / (1.1 b)``, which the next layer holds.

    Where a layer precedes, it holds b too, and ``b`` is None.
    """

    b: Tensor | None

    def __init__(self, b: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("b", b)

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise; x may be overwritten if it is the output of a layer."""
        return F.silu(x if self.b is None else x * self.b, inplace=not torch.is_grad_enabled())


class LipschitzCube(nn.Module):
    """``x^3 / 3`` in [-1, 1], and x -+ 2/3 outside: slopes from 0 to 1."""

    def forward(self, x: Tensor) -> Tensor:
        """Elementwise."""
        inside = x.clamp(-1, 1)
        return x - inside + inside**3 / 3


class FullSort(nn.Module):
    """Channels in ascending order (Anil et al. 2019, GroupSort with one group)."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape: ``(B, C, ...)``, kept."""
        return torch.sort(x, dim=1).values


SIMPLE_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "elu": nn.ELU,
    "relu": nn.ReLU,
    "softplus": nn.Softplus,
    "lcube": LipschitzCube,
    "fullsort": FullSort,
}


def residual_branch(kinds: list[str], tensors: list[dict[str, Tensor]]) -> nn.Sequential:
    """g of a residual block, Swish's constants folded into the layers around it.

    ``tensors`` holds weight and bias (already bounded) of each "conv" and "linear", beta of each "swish". Raises
    ValueError unless layers and activations alternate and a layer is last.
    """
    affine = [kind in ("conv", "linear") for kind in kinds]
    if not kinds or not affine[-1] or any(a == b for a, b in pairwise(affine)):
        raise ValueError(f"a residual branch of {', '.join(kinds) or 'nothing'}")
    modules: list[nn.Module] = []
    before = 1.0  # what the weight must be multiplied by because of the activation before it
    for i, kind in enumerate(kinds):
        if affine[i]:
            follows_swish = i + 1 < len(kinds) and kinds[i + 1] == "swish"
            slope = _slope(tensors[i + 1]["beta"]) if follows_swish else 1.0
            modules.append(Affine(tensors[i]["weight"] * (before * slope), tensors[i]["bias"] * slope))
            before = 1.0
        elif kind == "swish":
            slope = _slope(tensors[i]["beta"])
            modules.append(Swish(torch.tensor(slope) if i == 0 else None))
            before = SWISH_GAIN / slope
        else:
            modules.append(SIMPLE_ACTIVATIONS[kind]())
    return nn.Sequential(*modules)


def _slope(beta: Tensor) -> float:
    if beta.numel() != 1:
        raise ValueError(f"a swish with beta of shape {tuple(beta.shape)}")
    return float(F.softplus(beta.double()).clamp_min(1e-6))  # it is divided by; below, swish is linear in float32


class Residual(nn.Module):
    """``y = x + g(x)`` with a contraction g, inverted by fixed-point iteration until each sample stands still."""

    def __init__(self, branch: nn.Sequential) -> None:
        super().__init__()
        self.branch = branch
        first = next(layer for layer in branch if isinstance(layer, Affine))
        self.flat = first.weight.dim() == 2

    def g(self, x: Tensor) -> Tensor:
        """Shape: ``(B, C, H, W)``, kept."""
        return self.branch(x.flatten(1)).view_as(x) if self.flat else self.branch(x)

    def inverse(self, y: Tensor) -> Tensor:
        """x, differentiable in y (once) by the implicit function theorem. Shape: ``(B, C, H, W)``, kept."""
        result: Tensor = _Inverse.apply(y, self)
        return result

    @torch.no_grad()
    def solve(self, y: Tensor) -> Tensor:
        """Iterate ``x <- y - g(x)`` from y. A sample that moves less than the tolerance leaves the batch, so that its
        result does not depend on the others. Raises GeneratorError for one that never does."""
        result, rows = torch.empty_like(y), torch.arange(len(y), device=y.device)
        tolerance = TOLERANCE * (1 + y.abs())
        x, previous = y - self.g(y), y
        for _ in range(MAX_STEPS):
            moving = ((x - previous).abs() > tolerance).flatten(1).any(dim=1)  # not so where values are NaN
            count = int(moving.sum())
            if count < len(x) or not count:
                result[rows[~moving]] = x[~moving]
                if not count:
                    return result
                rows, x, y, tolerance = rows[moving], x[moving], y[moving], tolerance[moving]
            x, previous = y - self.g(x), x
        raise GeneratorError(
            f"Residual Flow: {len(x)} samples do not converge in {MAX_STEPS} steps: a residual branch is not a contraction"
        )


class _Inverse(torch.autograd.Function):
    """x with ``x + g(x) = y``; the gradient v solves ``v = grad - J^T v`` by the same iteration as the forward pass."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, block: Residual) -> Tensor:
        x = block.solve(y)
        ctx.save_for_backward(x)
        ctx.block = block
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        with torch.enable_grad():
            x = ctx.saved_tensors[0].detach().requires_grad_()
            g = ctx.block.g(x)
        tolerance = TOLERANCE * grad.abs().amax(dim=(1, 2, 3), keepdim=True)
        v = grad
        for _ in range(MAX_STEPS):
            v, previous = grad - torch.autograd.grad(g, x, v, retain_graph=True)[0], v
            if not ((v - previous).abs() > tolerance).any():
                break
        return v, None
