"""NumPy's arrays and torch's tensors from the arguments and states that these pickle, checked before any is made.

One-dimensional tensors stand for torch's storages; views of them are checked against them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .limits import Malformed, ReadingLimits, show
from .records import Global, Opaque

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,6})")
_DIMENSIONS = 32
_LARGEST = 1 << 48  # a dimension, or a stride: NumPy and torch multiply them without looking
_LARGEST_CODE_POINT = 0x10FFFF
_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": torch.uint8,
    "_UntypedStorage": torch.uint8,
}
_TYPED = {  # by their name in torch, for tensors whose storage has no type
    str(dtype): dtype
    for dtype in (*_DTYPES.values(), torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
}


def reconstruct(limits: ReadingLimits, kind: Any, shape: Any, code: Any) -> Any:
    """An empty array that BUILD will fill; a record for subclasses."""
    if isinstance(kind, Global) and kind.name == "numpy.ndarray":
        return np.empty(0, np.int8)
    return Opaque("numpy.core.multiarray._reconstruct", (kind, shape, code))


def set_state(limits: ReadingLimits, array: NDArray[Any], state: Any) -> None:
    """Fill an array in place from (version, shape, dtype, is Fortran, data), the version left out by old ones."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise Malformed("its pickle has an array without shape and data")
    shape, dtype, fortran, content = state[-4:]
    if shape == () and isinstance(content, list) and len(content) == 1 and _of_objects(dtype):
        # numpy.save writes a dictionary in this form. We read its one object ourselves, so it is as inert as all others.
        array.__setstate__((1, (), np.dtype(object), False, content))  # type: ignore[arg-type]
        return
    flat = _flat(limits, content, dtype, shape)
    # NumPy's own method: nothing else turns the array that others refer to already into another one.
    array.__setstate__((1, shape, flat.dtype, bool(fortran), flat.tobytes()))  # type: ignore[arg-type]


def _of_objects(dtype: Any) -> bool:
    return isinstance(dtype, Opaque) and dtype.name == "numpy.dtype" and dtype.args[:1] in (("O8",), ("O",))


def scalar(limits: ReadingLimits, dtype: Any, content: Any = None) -> Any:
    return _flat(limits, content, dtype, (1,))[0]


def from_buffer(
    limits: ReadingLimits, content: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> NDArray[Any]:
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


def _flat(limits: ReadingLimits, content: Any, dtype: Any, shape: Any) -> NDArray[Any]:
    """The elements in the order of the file and in the byte order of the machine; they may lie in ``content`` still."""
    kind = dtype_of(dtype)
    if not isinstance(shape, tuple) or len(shape) > _DIMENSIONS:
        raise Malformed("its pickle has an array with an invalid shape")
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
        raise Malformed("its pickle has an array of text that is not Unicode")
    return np.frombuffer(content, kind).astype(kind.newbyteorder("="), copy=False)


def storage_dtype(kind: Any) -> torch.dtype:
    """The dtype of a storage class. Raises Malformed for one that is not read (quantised) or none."""
    module, _, name = kind.name.rpartition(".") if isinstance(kind, Global) else ("", "", "")
    if module not in ("torch", "torch.cuda", "torch.storage") or name not in _DTYPES:
        raise Malformed(f"it has a storage of {show(kind.name if isinstance(kind, Global) else kind)}")
    return _DTYPES[name]


def empty_storage(limits: ReadingLimits, dtype: torch.dtype, count: Any, most: int) -> Tensor:
    """(count,) of ``dtype``, to be filled, if it fits in ``most`` bytes."""
    if type(count) is not int or not 0 <= count * dtype.itemsize <= most:
        raise Malformed(f"it has a storage of {show(count)} numbers in {most} bytes")
    limits.copy(count * dtype.itemsize)
    return torch.empty(count * dtype.itemsize, dtype=torch.uint8).view(dtype)


def fill(storage: Tensor, content: memoryview, *, big_endian: bool = False) -> None:
    """Copy the file's bytes into a storage."""
    raw = storage.view(torch.uint8).numpy()
    if len(content) != len(raw):
        raise Malformed(f"it has a storage of {len(raw)} bytes with {len(content)} bytes of data")
    if storage.dtype == torch.bool:
        np.not_equal(np.frombuffer(content, np.uint8), 0, out=raw.view(np.bool_))
        return
    raw[:] = np.frombuffer(content, np.uint8)
    width = storage.dtype.itemsize // (2 if storage.dtype.is_complex else 1)
    if big_endian and width > 1:
        raw.view(f"u{width}").byteswap(inplace=True)


def rebuild(
    limits: ReadingLimits,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any = None,
    hooks: Any = None,
    metadata: Any = None,
) -> Tensor:
    """``torch._utils._rebuild_tensor_v2``: a view of a storage, which must hold every element and as many of them."""
    if not isinstance(storage, Tensor) or storage.dim() != 1 or not storage.is_contiguous():
        raise Malformed(f"it has a tensor of {show(storage)} instead of a storage")
    sizes, strides = _integers(size), _integers(stride)
    (start,) = _integers((offset,))
    count = math.prod(sizes)
    if len(sizes) != len(strides) or count > storage.numel():
        raise Malformed(f"it has a tensor of {sizes} in a storage of {storage.numel()} numbers")
    last = start + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True)) if count else start - 1
    if last >= storage.numel() or start > storage.numel():
        raise Malformed(f"it has a tensor of {sizes} that reaches out of its storage of {storage.numel()} numbers")
    limits.view(count * storage.dtype.itemsize)
    return storage.as_strided(sizes, strides, storage.storage_offset() + start)


def rebuild_typed(
    limits: ReadingLimits,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """``torch._utils._rebuild_tensor_v3``: the storage holds bytes, and the dtype is an argument."""
    found = _TYPED.get(dtype.name) if isinstance(dtype, Global) else None
    if found is None or not isinstance(storage, Tensor) or storage.dtype != torch.uint8 or storage.dim() != 1:
        raise Malformed(f"it has a tensor of {show(dtype.name if isinstance(dtype, Global) else dtype)}")
    return rebuild(limits, storage.view(found), offset, size, stride)


def parameter(limits: ReadingLimits, data: Any, *rest: Any) -> Any:
    """A parameter is its tensor: nothing that is read here is trained."""
    return data


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _DIMENSIONS:
        raise Malformed(f"it has a tensor with {show(values)} as size")
    if any(type(value) is not int or not 0 <= value < _LARGEST for value in values):
        raise Malformed("it has a tensor with an invalid size, stride or offset")
    return values
