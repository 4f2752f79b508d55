"""Numbers as people write and read them."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

MOST_DIGITS = 19  # what 64 bits hold


def whole_number(text: str) -> int:
    """Read ``1000000``, ``1_000_000`` or ``1e6``. Raises ValueError for anything else, which says what is wanted."""
    wrong = ValueError(f"{text!r}: wanted a whole number, such as 1000000, 1_000_000 or 1e6")
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        raise wrong from None
    if not number.is_finite() or number.adjusted() >= MOST_DIGITS or number != number.to_integral_value():
        raise wrong
    return int(number)


def size_text(size: int) -> str:
    """Bytes in the largest decimal unit that leaves a number from 1 on: ``130 MB``."""
    number, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.0f} {unit}" if number >= 10 or unit == "bytes" else f"{number:.1f} {unit}"
