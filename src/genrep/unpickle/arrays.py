"""NumPy's arrays and scalars from the arguments and states that NumPy pickles, checked before any is made."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .limits import Limits, Malformed, show
from .records import Global, Opaque

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6})")
_DIMENSIONS = 32
_LARGEST = 1 << 48  # a dimension
_LARGEST_CODE_POINT = 0x10FFFF


def reconstruct(limits: Limits, kind: Any, shape: Any, code: Any) -> Any:
    """An empty array that BUILD will fill; a record for subclasses."""
    if isinstance(kind, Global) and kind.name == "numpy.ndarray":
        return np.empty(0, np.int8)
    return Opaque("numpy.core.multiarray._reconstruct", (kind, shape, code))


def set_state(limits: Limits, array: NDArray[Any], state: Any) -> None:
    """Fill an array in place from (version, shape, dtype, is Fortran, data), the version left out by old ones."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Malformed("its pickle has an array without shape and data")
    shape, dtype, fortran, content = state[-4:]
    if shape == () and isinstance(content, list) and len(content) == 1 and _of_objects(dtype):
        # What numpy.save makes of a dictionary. The one object was read by us: it is as inert as all others.
        array.__setstate__((1, (), np.dtype(object), False, content))  # type: ignore[arg-type]
        return
    flat = _flat(limits, content, dtype, shape)
    # NumPy's own method: nothing else turns the array that others refer to already into another one.
    array.__setstate__((1, shape, flat.dtype, bool(fortran), flat.tobytes()))  # type: ignore[arg-type]


def _of_objects(dtype: Any) -> bool:
    return isinstance(dtype, Opaque) and dtype.name == "numpy.dtype" and dtype.args[:1] in (("O8",), ("O",))


def scalar(limits: Limits, dtype: Any, content: Any = None) -> Any:
    return _flat(limits, content, dtype, (1,))[0]


def from_buffer(limits: Limits, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> NDArray[Any]:
    """Protocol 5's arrays: ``axes`` permutes the dimensions of contiguous data."""
    array = _flat(limits, content, dtype, shape).copy().reshape(shape, order="F" if order == "F" else "C")
    if axes is None:
        return array
    if not isinstance(axes, tuple) or sorted(map(_integer, axes)) != list(range(array.ndim)):
        raise Malformed("its pickle has an array with axes that do not fit")
    return np.transpose(array, axes)


def _integer(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _LARGEST:
        raise Malformed(f"its pickle has {show(value)} where an array's size is wanted")
    return value


def dtype_of(value: Any) -> np.dtype[Any]:
    """The dtype of a record of ``numpy.dtype(name, False, True)`` with its state. Objects and structures: Malformed."""
    name = value.args[0] if isinstance(value, Opaque) and value.name == "numpy.dtype" and value.args else None
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise Malformed(f"its pickle has an array of {show(name)}; numbers and text are read")
    dtype = np.dtype(name)
    state = value.state
    if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "="):
        return dtype.newbyteorder(state[1])
    return dtype


def _flat(limits: Limits, content: Any, dtype: Any, shape: Any) -> NDArray[Any]:
    """The elements in the order of the file and in the byte order of the machine; they may lie in ``content`` still."""
    kind = dtype_of(dtype)
    if not isinstance(shape, tuple) or len(shape) > _DIMENSIONS:
        raise Malformed("its pickle has an array with a shape that is none")
    count = math.prod(map(_integer, shape))
    if isinstance(content, str):  # Python 2's strings are bytes
        content = content.encode("latin-1")
    if not isinstance(content, bytes | bytearray | memoryview):
        raise Malformed(f"its pickle has an array whose data are {show(content)}")
    if count * kind.itemsize != len(content) or not kind.itemsize:
        raise Malformed(f"its pickle has an array of {shape} {kind.name} with {len(content)} bytes of data")
    limits.copy(len(content))
    if kind == np.bool_:
        return np.frombuffer(content, np.uint8) != 0
    if kind.kind == "U" and (np.frombuffer(content, f"{kind.str[0]}u4") > _LARGEST_CODE_POINT).any():
        raise Malformed("its pickle has an array of text that is no Unicode")
    return np.frombuffer(content, kind).astype(kind.newbyteorder("="), copy=False)
