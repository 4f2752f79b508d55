"""State dicts with ADA's names, alone or in a dictionary, from ``.pt`` and from safetensors without our metadata."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ..finding import FoundNetwork
from .config import common_taps, traceless

MARKS = ("synthesis.b4.const", *(f"synthesis.b{4 << i}.conv1.weight" for i in range(9)))


def read(found: FoundNetwork) -> tuple[dict[str, Tensor], dict[str, Any], list[str]]:
    """The tensors, the config that their filters tell, and the file's names that were taken.

    Such a file does not tell its ``conv_clamp``: an option of the generator does.
    """
    state = {name: tensor for name, tensor in found.tensors.items() if name.startswith(("mapping.", "synthesis."))}
    return state, traceless(resample_taps=common_taps(state)), list(state)
