"""The constructors that weights files use, made by our own functions; every other call becomes a record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from . import arrays
from .limits import Malformed, ReadingLimits, check_key, show
from .records import Global, Opaque

Constructor = Callable[..., Any]  # of the limits and the call's arguments


def call(
    limits: ReadingLimits,
    known: Mapping[str, Constructor],
    function: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """The result of calling a name. Names are looked up only in ``known``: the table below and additions to it."""
    if isinstance(function, Opaque):
        return Opaque("<call>", (function, args), kwargs)
    if not isinstance(function, Global):
        raise Malformed(f"its pickle calls {show(function)}, which is not a name")
    constructor = known.get(_modern(function.name))
    if constructor is None or kwargs:
        return Opaque(function.name, args, kwargs)
    try:
        return constructor(limits, *args)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        if isinstance(error, Malformed):
            raise
        raise Malformed(f"its pickle calls {show(function.name)} with arguments that do not fit") from None


def build(limits: ReadingLimits, target: Any, state: Any) -> None:
    """Apply BUILD to an object: an array takes its shape and data, a record keeps the state."""
    if isinstance(target, Opaque):
        target.state = state
    elif isinstance(target, np.ndarray):
        arrays.set_state(limits, target, state)
    elif not isinstance(target, dict | Tensor):  # attributes of an OrderedDict or tensor tell nothing that is needed
        raise Malformed(f"its pickle sets the state of {show(target)}")


def _modern(name: str) -> str:
    """A name as today's Python and NumPy spell it."""
    for old, new in (("__builtin__.", "builtins."), ("copy_reg.", "copyreg."), ("numpy.core.", "numpy._core.")):
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _sequence(limits: ReadingLimits, value: Any) -> list[Any]:
    if not isinstance(value, list | tuple | set | frozenset):
        raise Malformed(f"its pickle makes a container of {show(value)}")
    limits.operate(len(value))
    return list(value)


def _dict(limits: ReadingLimits, content: Any = ()) -> dict[Any, Any]:
    pairs = list(content.items()) if isinstance(content, dict) else content
    made: dict[Any, Any] = {}
    for pair in _sequence(limits, pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise Malformed("its pickle makes a dictionary of something other than pairs")
        check_key(pair[0], limits)
        made[pair[0]] = pair[1]
    return made


def _members(limits: ReadingLimits, content: Any = ()) -> list[Any]:
    members = _sequence(limits, content)
    for member in members:
        check_key(member, limits)
    return members


def raw(value: Any) -> bytes | bytearray | memoryview:
    """The bytes of a bytes-like value; of a Python 2 string, too."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, bytes | bytearray | memoryview):
        raise Malformed(f"its pickle has {show(value)} where bytes are wanted")
    return value


def _bytes(limits: ReadingLimits, content: Any = b"", encoding: Any = None) -> bytes:
    if isinstance(content, str) and encoding not in (None, "latin1", "latin-1", "utf-8", "utf8", "ascii"):
        raise Malformed(f"its pickle encodes text as {show(encoding)}")
    made = content.encode(encoding or "latin-1") if isinstance(content, str) else bytes(raw(content))
    limits.copy(len(made))
    return made


def _complex(limits: ReadingLimits, real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    if not isinstance(real, int | float) or not isinstance(imaginary, int | float):
        raise Malformed("its pickle makes a complex number of something other than numbers")
    return complex(real, imaginary)


def _size(limits: ReadingLimits, sizes: Any = ()) -> tuple[Any, ...]:
    return tuple(_sequence(limits, sizes))


def _reconstructor(limits: ReadingLimits, kind: Any, base: Any, state: Any) -> Any:
    """Objects in protocols 0 and 1: an instance of ``kind``, whose built-in base had the value ``state``."""
    if not isinstance(kind, Global):
        raise Malformed(f"its pickle makes an instance of {show(kind)}")
    if isinstance(state, dict):
        return call(limits, KNOWN, kind, (state,), {})
    return Opaque(kind.name, () if state is None else (state,))


def _new(limits: ReadingLimits, kind: Any, *args: Any) -> Any:
    return call(limits, KNOWN, kind, args, {})


KNOWN: dict[str, Constructor] = {
    "builtins.set": lambda limits, *args: set(_members(limits, *args)),
    "builtins.frozenset": lambda limits, *args: frozenset(_members(limits, *args)),
    "builtins.bytearray": lambda limits, *args: bytearray(_bytes(limits, *args)),
    "builtins.bytes": _bytes,
    "builtins.complex": _complex,
    "_codecs.encode": _bytes,
    "copyreg._reconstructor": _reconstructor,
    "copyreg.__newobj__": _new,
    "collections.OrderedDict": _dict,
    "collections.defaultdict": lambda limits, factory=None, content=(): _dict(limits, content),
    "dnnlib.util.EasyDict": _dict,
    "numpy._core.multiarray._reconstruct": arrays.reconstruct,
    "numpy._core.multiarray.scalar": arrays.scalar,
    "numpy._core.numeric._frombuffer": arrays.from_buffer,
    "torch.Size": _size,
    "torch._tensor._rebuild_from_type_v2": lambda limits, function, kind, args, state: _new(limits, function, *args),
    "torch._utils._rebuild_tensor": arrays.rebuild,
    "torch._utils._rebuild_tensor_v2": arrays.rebuild,
    "torch._utils._rebuild_tensor_v3": arrays.rebuild_typed,
    "torch._utils._rebuild_parameter": arrays.parameter,
    "torch._utils._rebuild_parameter_with_state": arrays.parameter,
}
