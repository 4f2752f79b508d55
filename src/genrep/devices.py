"""Devices by name, what they compute in, and NumPy arrays on their way to them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrep.errors import GenRepError, TrainingError

USUAL = ("cpu", "cuda")


def pick_device(name: str, error: type[GenRepError] = TrainingError) -> torch.device:
    """``auto`` is the GPU if there is one. Raises ``error`` for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise error.naming("{device} cuda: PyTorch finds no GPU here; wanted cpu or auto")
    try:
        if name not in USUAL:
            torch.zeros(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as fault:
        raise error.naming("{device} {}: not usable here ({})", name, str(fault).splitlines()[0]) from None


def pick_precision(name: str, device: torch.device) -> str:
    """``auto`` is ``bf16`` where the device computes in it natively, else ``fp32``."""
    if name != "auto":
        return name
    return "bf16" if _native_bf16(device) else "fp32"


def _native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return bool(supported is not None and supported())


def to_device(values: NDArray[np.generic], device: torch.device) -> Tensor:
    """A tensor of the array on the device, without waiting for the device."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
