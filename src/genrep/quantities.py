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
