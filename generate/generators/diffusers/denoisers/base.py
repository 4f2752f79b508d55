"""The interface of what predicts in the sampling loop, and the conditions of a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from genrep.errors import GeneratorError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    Conditions = dict[str, Tensor]  # each with a row for each sample of the batch


class Denoiser(Protocol):
    """A network with what it is conditioned on."""

    num_classes: int
    takes_prompts: bool

    def conditions(self, y: Any, count: int, device: torch.device) -> Conditions:
        """The conditions of a batch. Raises GeneratorError for a ``y`` that is none."""
        ...

    def predict(self, sample: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The network's output for samples as it takes them, guided."""
        ...


def rows_of(conditions: Conditions, rows: Tensor | None) -> Conditions:
    """The conditions of some rows; None = all."""
    if rows is None:
        return conditions
    return {name: values.index_select(0, rows) for name, values in conditions.items()}


def class_labels(y: Any, count: int, classes: int, null: int | None, device: torch.device) -> Tensor:
    """Classes as int64 ``(B,)``; None becomes the null class, if there is one. Raises GeneratorError."""
    import torch

    if y is None and null is not None:
        return torch.full((count,), null, dtype=torch.int64, device=device)
    if not isinstance(y, torch.Tensor) or y.shape != (count,) or y.is_floating_point():
        found = f"{tuple(y.shape)} {y.dtype}" if isinstance(y, torch.Tensor) else type(y).__name__
        raise GeneratorError(
            f"the generator takes one of {classes} classes for each latent, int64 ({count},); found {found}"
        )
    return y.to(device=device, dtype=torch.int64)


def guided(uncond: Tensor, cond: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022)."""
    return uncond + guidance * (cond - uncond)


def guided_halves(output: Tensor, guidance: float) -> Tensor:
    """Likewise of an output whose first half has no condition."""
    uncond, cond = output.chunk(2)
    return guided(uncond, cond, guidance)
