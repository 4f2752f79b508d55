"""The relatives of StyleGAN2 that come in the same containers, told by their tensors' names."""

from __future__ import annotations

from collections.abc import Iterable

from genrep.errors import WeightsError
from genrep.state_dicts import bare


def refuse_other_networks(names: Iterable[str], container: str) -> None:
    """Raise WeightsError if these are the tensors of StyleGAN3, StyleGAN-XL or StyleGAN1. ``container``: "pickle", ..."""
    found = [f".{bare(name)}" for name in names]
    if any(".synthesis.input." in name or ".synthesis.L0_" in name for name in found):
        large = any(".mapping.embed_proj." in name for name in found)
        raise WeightsError(f"this is a {'StyleGAN-XL' if large else 'StyleGAN3'} {container}: not supported")
    if any("/StyleMod/" in name for name in found):
        raise WeightsError(f"this is a StyleGAN1 {container} (config-a of StyleGAN2's paper): not supported")
