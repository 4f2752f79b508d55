"""A device that is not there, by PyTorch's fake tensors, which know shapes, types and devices, and hold no values."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode


class FakeDevice(FakeTensorMode):
    """Inside it, tensors are fake ones, and there is a device "cuda"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(allow_non_fake_inputs=True)
        # What would ask a driver.
        monkeypatch.setattr(Tensor, "pin_memory", lambda self: self)
        monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)

    def moved(self, values: Tensor) -> Tensor:
        """A fake tensor on the device like one on the CPU."""
        return torch.empty_strided(values.shape, values.stride(), dtype=values.dtype, device="cuda")

    def move(self, module: nn.Module) -> None:
        """What ``module.to("cuda")`` does, in place."""
        for part in module.modules():
            for name, parameter in part._parameters.items():
                if parameter is not None:
                    values = self.moved(parameter.data)
                    part._parameters[name] = nn.Parameter(values, requires_grad=parameter.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = self.moved(buffer)
