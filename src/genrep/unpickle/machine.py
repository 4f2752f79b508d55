"""A pickle machine that cannot run anything: it keeps a stack, containers and records, and knows no import.

Names become ``Global`` and calls of names become what ``calls.call`` makes of them by a literal table, else ``Opaque``.
Operations: https://docs.python.org/3/library/pickletools.html; protocols 0 to 5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .calls import Constructor, build, call
from .limits import CALL_COST, NAME_COST, SET_COST, Malformed, ReadingLimits, check_key, show
from .literals import LITERALS, Cursor
from .records import Global, Opaque

_NAME = 1000  # characters in a module's or a class's name
Persistent = Callable[[Any], Any]


class Machine:
    """One pickle in ``cursor``. ``known``: the calls that are made, by name.

    ``persistent`` answers its persistent ids; without it, they are refused.
    """

    def __init__(
        self,
        cursor: Cursor,
        limits: ReadingLimits,
        known: Mapping[str, Constructor],
        persistent: Persistent | None = None,
    ):
        self.cursor = cursor
        self.limits = limits
        self.known = known
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks under the marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object; ``cursor`` then stands behind the pickle. Raises Malformed for whatever else there is."""
        cursor, limits, data = self.cursor, self.limits, self.cursor.data
        at, end = cursor.at, len(data)
        try:
            while (at := cursor.at) < end:
                operation = data[at]
                cursor.at = at + 1
                limits.operations -= 1
                if limits.operations < 0:
                    limits.operate(0)  # raises
                if (literal := LITERALS.get(operation)) is not None:
                    self.stack.append(literal(cursor))
                elif operation == 0x2E:  # STOP
                    return self.stack.pop()
                elif (step := _STEPS.get(operation)) is not None:
                    step(self)
                else:
                    raise Malformed(f"it is not a pickle: byte {at} is {operation:#04x}")
            raise Malformed(f"it ends too early, at byte {at}")
        except Malformed:
            raise
        except (IndexError, KeyError, ValueError, TypeError, OverflowError) as error:
            raise Malformed(f"its pickle is damaged at byte {at} ({type(error).__name__})") from None

    def marked(self) -> list[Any]:
        """Pop everything pushed since the last mark."""
        items = self.stack
        self.stack = self.below.pop()
        return items

    def global_(self, module: object, name: object) -> Global:
        if not (isinstance(module, str) and isinstance(name, str) and len(module) + len(name) <= _NAME):
            raise Malformed(f"its pickle names a class by {show(module)}.{show(name)}")
        self.limits.operate(NAME_COST)
        return Global(f"{module}.{name}")

    def call(self, function: Any, args: Any, kwargs: Any = None) -> None:
        self.limits.operate(CALL_COST)
        if not isinstance(args, tuple) or not (kwargs is None or isinstance(kwargs, dict)):
            raise Malformed(f"its pickle calls something with {show(args)}")
        self.stack.append(call(self.limits, self.known, function, args, kwargs or {}))

    def persist(self, key: Any) -> None:
        if self.persistent is None:
            raise Malformed("its pickle refers to objects outside of it (a persistent id)")
        self.limits.operate(CALL_COST)
        self.stack.append(self.persistent(key))

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise Malformed(f"its pickle appends to {show(target)}")

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, Opaque):
            target.items.extend(items)
        elif isinstance(target, set):
            for item in items:
                check_key(item, self.limits)
                target.add(item)
        else:
            raise Malformed(f"its pickle adds to {show(target)}")

    def set_items(self, flat: list[Any]) -> None:
        target = self.stack[-1]
        if len(flat) % 2:
            raise Malformed("its pickle sets a key without a value")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        if isinstance(target, Opaque):
            target.items.extend(pairs)
        elif isinstance(target, dict):
            for key, value in pairs:
                check_key(key, self.limits)
                target[key] = value
        else:
            raise Malformed(f"its pickle sets an item of {show(target)}")


Step = Callable[[Machine], Any]


def _push(make: Callable[[], Any]) -> Step:
    return lambda machine: machine.stack.append(make())


def _set(machine: Machine) -> None:
    machine.limits.operate(SET_COST)
    machine.stack.append(set())


def _collect(make: Callable[[list[Any]], Any]) -> Step:
    def step(machine: Machine) -> None:
        made = make(machine.marked())  # which changes the stack
        machine.stack.append(made)

    return step


def _tuple(count: int) -> Step:
    def step(machine: Machine) -> None:
        machine.stack.append(tuple(_some(machine, count)))

    return step


def _dictionary(machine: Machine) -> None:
    items = machine.marked()
    machine.stack.append({})
    machine.set_items(items)


def _frozen(machine: Machine) -> None:
    items = machine.marked()
    for item in items:
        check_key(item, machine.limits)
    machine.stack.append(frozenset(items))


def _get(width: int) -> Step:
    return lambda machine: machine.stack.append(machine.memo[machine.cursor.unsigned(width)])


def _put(width: int) -> Step:
    return lambda machine: machine.memo.__setitem__(machine.cursor.unsigned(width), machine.stack[-1])


def _line_number(machine: Machine) -> int:
    return int(machine.cursor.line(20))


def _extension(width: int) -> Step:
    return lambda machine: machine.stack.append(
        machine.global_("copyreg.extension", str(machine.cursor.unsigned(width)))
    )


def _mark(machine: Machine) -> None:
    machine.below.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.marked()


def _named(machine: Machine) -> Global:
    module, name = (str(machine.cursor.line(_NAME), "utf-8") for _ in range(2))
    return machine.global_(module, name)


def _stack_named(machine: Machine) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.stack.append(machine.global_(module, name))


def _reduce(machine: Machine) -> None:
    args, function = machine.stack.pop(), machine.stack.pop()
    machine.call(function, args)


def _new_extended(machine: Machine) -> None:
    kwargs, args, function = (machine.stack.pop() for _ in range(3))
    machine.call(function, args, kwargs)


def _instance(machine: Machine) -> None:
    function = _named(machine)
    args = tuple(machine.marked())
    machine.call(function, args)


def _object(machine: Machine) -> None:
    function, *args = machine.marked()
    machine.call(function, tuple(args))


def _build(machine: Machine) -> None:
    machine.limits.operate(CALL_COST)
    state = machine.stack.pop()
    build(machine.limits, machine.stack[-1], state)


def _some(machine: Machine, count: int) -> list[Any]:
    items = machine.stack[-count:]
    if len(items) < count:
        raise IndexError
    del machine.stack[-count:]
    return items


def _protocol(machine: Machine) -> None:
    if (protocol := machine.cursor.unsigned(1)) > 5:
        raise Malformed(f"its pickle has protocol {protocol}; 0 to 5 are known")


def _frame(machine: Machine) -> None:
    if (length := machine.cursor.unsigned(8)) > machine.cursor.left:
        raise Malformed(f"it claims a frame of {length} bytes, where {machine.cursor.left} are left")


_STEPS: dict[int, Step] = {
    0x80: _protocol,
    0x95: _frame,
    ord("("): _mark,
    ord("0"): _pop,
    ord("1"): lambda machine: machine.marked(),
    ord("2"): lambda machine: machine.stack.append(machine.stack[-1]),
    ord(")"): _push(tuple),
    ord("t"): _collect(tuple),
    0x85: _tuple(1),
    0x86: _tuple(2),
    0x87: _tuple(3),
    ord("]"): _push(list),
    ord("l"): _collect(list),
    ord("a"): lambda machine: machine.extend(_some(machine, 1)),
    ord("e"): lambda machine: machine.extend(machine.marked()),
    ord("}"): _push(dict),
    ord("d"): _dictionary,
    ord("s"): lambda machine: machine.set_items(_some(machine, 2)),
    ord("u"): lambda machine: machine.set_items(machine.marked()),
    0x8F: _set,
    0x90: lambda machine: machine.add(machine.marked()),
    0x91: _frozen,
    ord("g"): lambda machine: machine.stack.append(machine.memo[_line_number(machine)]),
    ord("h"): _get(1),
    ord("j"): _get(4),
    ord("p"): lambda machine: machine.memo.__setitem__(_line_number(machine), machine.stack[-1]),
    ord("q"): _put(1),
    ord("r"): _put(4),
    0x94: lambda machine: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    ord("c"): lambda machine: machine.stack.append(_named(machine)),
    0x93: _stack_named,
    0x82: _extension(1),
    0x83: _extension(2),
    0x84: _extension(4),
    ord("R"): _reduce,
    0x81: _reduce,
    0x92: _new_extended,
    ord("i"): _instance,
    ord("o"): _object,
    ord("b"): _build,
    ord("P"): lambda machine: machine.persist(str(machine.cursor.line(_NAME), "ascii")),
    ord("Q"): lambda machine: machine.persist(machine.stack.pop()),
}
