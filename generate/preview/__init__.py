"""Pictures of latent views: anchors and their positives on one sheet, as a dataset would hold them.

config.py   settings of a preview
panels.py   which views, each of which becomes a group of columns, and their latents
sheet.py    layout, line breaks and drawing
run.py      from settings to pixels and a PNG
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .config import PreviewConfig
    from .run import Preview, preview_views

__all__ = ["Preview", "PreviewConfig", "preview_views"]

__getattr__ = lazy(__name__, {"Preview": "run", "PreviewConfig": "config", "preview_views": "run"})
