"""What every test needs: a parser that the garbage collector does not break."""

import ast
import gc
import sys

if sys.version_info < (3, 11, 8) or (3, 12) <= sys.version_info < (3, 12, 2):
    # These interpreters keep one depth counter for all calls of ast.parse. A collection inside a call can run a finaliser whose
    # traceback is formatted, which calls ast.parse again; the outer call then ends in "SystemError: AST constructor recursion
    # depth mismatch" (https://github.com/python/cpython/issues/106905). Numba, FFCV, torch.save and pytest's own reports all
    # parse source, so a test fails, or pytest itself, at the collector's whim. Without a collection inside, none does.
    _parse = ast.parse

    def _parse_uncollected(*args, **kwargs):
        enabled = gc.isenabled()
        gc.disable()
        try:
            return _parse(*args, **kwargs)
        finally:
            if enabled:
                gc.enable()

    ast.parse = _parse_uncollected
