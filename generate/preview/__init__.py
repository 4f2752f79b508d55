"""Pictures of latent views: anchors and their positives on one sheet, as a dataset would hold them.

config.py   what a preview is asked for
panels.py   which views, each of which becomes a group of columns; latents.py their positives
images.py   pixels of both
layout.py   where everything lies; text.py how wide words are; drawing.py the sheet itself
run.py      from settings to a PNG
"""

from .config import PreviewConfig
from .run import Preview, preview_views

__all__ = ["Preview", "PreviewConfig", "preview_views"]
