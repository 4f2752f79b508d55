"""Whether numbers that were learned can be: finite, and of a size that trained networks have.

Asked of a run at every line of metrics and before anything is written, and of an encoder before it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import Phrase, TrainingError

# Trained weights stay far below; uninitialised memory, read as floating point, is mostly beyond. Variances are squares of
# activations, which inputs of 0 to 255 make large.
LARGEST, LARGEST_VARIANCE, LARGEST_GRADIENT = 1e5, 1e10, 1e10
VARIANCE = "running_var"  # of batch norm


def absurdity(tensors: Mapping[str, Tensor], largest: float = LARGEST) -> str | None:
    """The fault of the first tensor that cannot have been learned, as ``a value of NAME is …``; None if there is none.

    Floating-point tensors on one device, which is waited for once. None may hold a value that is not finite or of a magnitude
    above ``largest`` (variances of batch norm: ``LARGEST_VARIANCE``), and no variance is below 0.
    """
    known = {name: tensor.detach() for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel()}
    if not known:
        return None
    norms = torch.stack([norm.float() for norm in torch._foreach_norm(list(known.values()), float("inf"))]).tolist()
    for (name, tensor), norm in zip(known.items(), norms):
        variance = name.endswith(VARIANCE)
        if not norm <= (LARGEST_VARIANCE if variance else largest):
            odd = tensor[~(tensor.abs() <= (LARGEST_VARIANCE if variance else largest))]
            return f"a value of {name} is {float(odd[0]):.3g}"
        if variance and bool((tensor < 0).any()):
            return f"a value of {name} is {float(tensor.min()):.3g}, a variance below 0"
    return None


def gradients(modules: Iterable[nn.Module]) -> dict[str, Tensor]:
    """The gradients of the last step, where there are any, by their parameters' names."""
    return {
        f"the gradient of {name}": parameter.grad
        for module in modules
        for name, parameter in module.named_parameters()
        if parameter.grad is not None
    }


def check_training(
    out: Path, step: int, tensors: Mapping[str, Tensor], *, way: Phrase, largest: float = LARGEST, unit: str = "step"
) -> None:
    """End a run whose numbers are no longer sane, before it writes them.

    Args:
        tensors: weights and buffers by name, or gradients with ``largest=LARGEST_GRADIENT``.
        way: what to do, e.g. ``phrase("try a lower {lr}")``.

    Raises:
        TrainingError: one line that names the run, the step, and what is wrong.
    """
    if found := absurdity(tensors, largest):
        raise diverged(out, f"at {unit} {step:,} {found}", way)


def check_losses(out: Path, step: int, losses: Mapping[str, float], *, way: Phrase, unit: str = "step") -> None:
    """End a run of which a loss is not finite. Raises TrainingError, as ``check_training``."""
    for name, value in losses.items():
        if not math.isfinite(value):
            raise diverged(out, f"at {unit} {step:,} {name} is {value}", way)


def diverged(out: Path, found: str, way: Phrase) -> TrainingError:
    """The error of a run that has diverged: ``found`` says where and what."""
    return TrainingError.naming(
        "{out} {}: {}: this training has diverged; {}, in a new {out}; what it wrote before is kept", out, found, way
    )
