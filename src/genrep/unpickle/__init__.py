"""Reading pickles, torch files and NumPy's objects in them without running any code that they name."""

from .reader import read_file
from .records import Global, Opaque

__all__ = ["Global", "Opaque", "read_file"]
