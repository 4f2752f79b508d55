"""State dicts with ADA's names, alone or in a dictionary, from ``.pt`` and from safetensors without our metadata."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .config import common_taps, traceless
from .other_networks import refuse_other_networks


def read(content: object) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors, and the config that their filters tell; None if they have not ADA's names.

    Such a file does not tell its ``conv_clamp``: an option of the generator does. Raises WeightsError for the names of
    StyleGAN3.
    """
    state = unwrap(content, ("G_ema", "g_ema", "state_dict"))
    refuse_other_networks(state, "state dict")
    if not any(name.startswith("synthesis.b") for name in state):
        return None
    return state, traceless(resample_taps=common_taps(state))


def unwrap(content: object, names: Sequence[str]) -> dict[str, Tensor]:
    """The tensors by name in a dictionary, or in the first dictionary of these names that it holds."""
    if isinstance(content, dict):
        for name in names:
            if isinstance(content.get(name), dict):
                return tensors_of(content[name])
    return tensors_of(content)


def tensors_of(content: object) -> dict[str, Tensor]:
    """Tensors and arrays of numbers by name; nothing if it is no dictionary."""
    if not isinstance(content, dict):
        return {}
    arrays = {
        name: torch.from_numpy(np.array(value)) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
        for name, value in content.items()
    }
    return {name: value for name, value in arrays.items() if isinstance(name, str) and isinstance(value, Tensor)}
