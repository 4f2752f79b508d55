"""Real images as shards of the same contract: baselines and mixtures read like any dataset.

listing.py (which files) -> census.py (which of them can be read) -> source.py (their pixels) -> folder.py (the command).
"""

from .config import FolderConfig
from .folder import build_from_folder

__all__ = ["FolderConfig", "build_from_folder"]
