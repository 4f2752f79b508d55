"""The folder of caches: ``$GENREP_HOME``, else ``$XDG_CACHE_HOME/genrep``, else ``~/.cache/genrep``.

    weights/ converted/   of generators (genrep.generate.weights)
    contents/             digests of image files (genrep.contents)

Everything in it can be removed at any time, and an administrator may fill it and make it read-only.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = "GENREP_HOME"


def home() -> Path:
    """The folder, which need not exist. Raises RuntimeError or OSError if there is no telling where it would be."""
    own, cache = os.environ.get(HOME), os.environ.get("XDG_CACHE_HOME", "")
    if own:
        return Path(own).expanduser().absolute()
    # The XDG specification tells to ignore a relative path.
    return (Path(cache) if os.path.isabs(cache) else Path.home() / ".cache") / "genrep"
