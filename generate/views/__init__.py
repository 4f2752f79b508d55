"""Latent views T_z: how the positive's latent comes from the anchor's.

base.py      what a view is; arithmetic.py sums that no batch changes
random.py    none, gaussian, uniform, angular, independent
learned.py   steered, navigator; walks.py their walks; importing.py the authors' own files
composed.py  hierarchical, mix
grammar.py   strings and tables to views; presets.py the papers' by name
synthesis.py images of a view's latents
"""

from .base import Draw, GeneratorFacts, View, ViewFile
from .grammar import NAMES, parse_view, view_from_json
from .presets import PRESETS

__all__ = ["NAMES", "PRESETS", "Draw", "GeneratorFacts", "View", "ViewFile", "parse_view", "view_from_json"]
