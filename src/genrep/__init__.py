"""genrep: pretrained image generators as datasets, and datasets as visual representations."""

import sys

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("genrep runs on Linux and macOS, whose locks and mapped files it needs; on Windows, use WSL 2")
