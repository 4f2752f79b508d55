"""Pairs made while an encoder trains: no shards.

latents.py  what the generator gets for the pairs of a batch: drawn on the CPU in a thread, ahead of the device
source.py   those pairs as tensors on the device: open_online
decoder.py  a generator to learn through: open_decoder

Trainers come here through ``genrep.across``.
"""

from __future__ import annotations

from .decoder import GeneratorDecoder, open_decoder
from .source import GeneratedSource, open_online

__all__ = ["GeneratedSource", "GeneratorDecoder", "open_decoder", "open_online"]
