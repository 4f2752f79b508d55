"""Latent views T_z: how the positive's latent comes from the anchor's.

base.py      what a view is, and the images of its latents; sums that no batch changes
random.py    none, gaussian, uniform, angular, independent
edits.py     sdedit, unclip, prompts: through the anchor's image or prompt
learned.py   steered, navigator; walks.py, navigators.py what they learned; released.py the authors' own files of it
composed.py  hierarchical, mix
grammar.py   strings and tables to views, the papers' by name
filters.py   which candidates become pairs; filter_network.py what judges them
foreground.py  noise levels and weights of pairs by the foreground of images; foreground_network.py what sees it
"""

from .base import Draw, GeneratorFacts, View, ViewFile
from .grammar import NAMES, PRESETS, parse_view, view_from_json

__all__ = ["NAMES", "PRESETS", "Draw", "GeneratorFacts", "View", "ViewFile", "parse_view", "view_from_json"]
