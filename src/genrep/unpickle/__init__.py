"""Reading pickles, torch files and NumPy's objects in them without running any code that they name.

Why a machine of our own, where a subclass of ``pickle.Unpickler`` with inert classes runs nothing either (and read all our
test files in 45 lines): that one bounds neither memory nor time. Between two names it runs on its own: each byte of a file can
make a set of 216 bytes, some thousand keys whose hashes collide take quadratic time, and every byte string is copied, which
doubles the memory of weights. Here each operation and odd key is counted, each byte that objects take is weighed against the
file's size (``limits.py``), and long byte strings are views of the file.

reader.py         a file, by its first bytes; archive.py: torch's zip archives; torch_formats.py: both of torch's formats
machine.py        the operations; literals.py: numbers and strings
calls.py          the few calls that are made; arrays.py: arrays and tensors; records.py: what stands for all others
limits.py         what a file may cost
"""

from .reader import read_file
from .records import Global, Opaque

__all__ = ["Global", "Opaque", "read_file"]
