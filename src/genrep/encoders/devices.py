"""Where networks run, and in which precision."""

from __future__ import annotations

import torch

from genrep.errors import TrainingError


def pick_device(name: str) -> torch.device:
    """``auto`` is the GPU if there is one. Raises TrainingError if ``cuda`` is asked for and there is none."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise TrainingError("--device cuda: PyTorch finds no GPU here; wanted cpu or auto")
    return torch.device(name)


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
