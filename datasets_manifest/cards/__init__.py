"""What a dataset says of itself: README.md as Hugging Face reads it, and croissant.json.

>>> from genrep.datasets_manifest.cards import CardConfig, write_card
>>> write_card(CardConfig(folder=Path("shards"))).written
('README.md', 'croissant.json')
"""

from __future__ import annotations

from .write import CARD_NAME, CROISSANT_NAME, CardConfig, CardReport, write_card

__all__ = ["CARD_NAME", "CROISSANT_NAME", "CardConfig", "CardReport", "write_card"]
