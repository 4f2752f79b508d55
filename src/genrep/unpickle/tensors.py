"""torch's tensors from storages: one-dimensional tensors stand for storages, and views are checked against them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .limits import Limits, Malformed, show
from .records import Global

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
_DIMENSIONS = 32
_LARGEST = 1 << 48  # a size or stride; torch multiplies them without looking


def storage_dtype(kind: Any) -> torch.dtype:
    """The dtype of a storage class. Raises Malformed for one that is not read (quantised) or none."""
    module, _, name = kind.name.rpartition(".") if isinstance(kind, Global) else ("", "", "")
    if module not in ("torch", "torch.cuda", "torch.storage") or name not in _DTYPES:
        raise Malformed(f"it has a storage of {show(kind.name if isinstance(kind, Global) else kind)}")
    return _DTYPES[name]


def empty_storage(limits: Limits, dtype: torch.dtype, count: Any, most: int) -> Tensor:
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
    limits: Limits,
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
    limits: Limits,
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> Tensor:
    """``torch._utils._rebuild_tensor_v3``: the storage is of bytes, the dtype is told."""
    found = _TYPED.get(dtype.name) if isinstance(dtype, Global) else None
    if found is None or not isinstance(storage, Tensor) or storage.dtype != torch.uint8 or storage.dim() != 1:
        raise Malformed(f"it has a tensor of {show(dtype.name if isinstance(dtype, Global) else dtype)}")
    return rebuild(limits, storage.view(found), offset, size, stride)


def parameter(limits: Limits, data: Any, *rest: Any) -> Any:
    """A parameter is its tensor: nothing that is read here is trained."""
    return data


def _integers(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or len(values) > _DIMENSIONS:
        raise Malformed(f"it has a tensor with {show(values)} as size")
    if any(type(value) is not int or not 0 <= value < _LARGEST for value in values):
        raise Malformed("it has a tensor with a size, stride or offset that is none")
    return values
