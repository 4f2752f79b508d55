"""What a file may cost to read, so that a small hostile one cannot take all memory or time."""

from __future__ import annotations

from dataclasses import dataclass, field

OPERATIONS = 4_000_000  # sixty times what a StyleGAN2 snapshot of 64 pixels takes, with G, D and G_ema in it
CALL_COST = 10  # a call costs about as much time and memory as ten other operations
SET_COST = 4  # an empty set takes 216 bytes
NAME_COST = 2  # a class's name takes 150 bytes, an empty list 56
ODD_KEYS = 5_000  # tuples and floats as keys: their hashes are not random, and colliding ones take quadratic time
NESTING = 3  # files in files: a snapshot's storages are one deep
_FREE = 1 << 24  # bytes that a file of any size may allocate
_SHOWN = 60  # characters of the file's text in a message


class Malformed(ValueError):
    """The file is damaged, hostile, or uses what we do not read; the message says which, without the file's name."""


@dataclass
class Limits:
    """One file's allowance, shared with the files nested in it. ``size``: bytes in the file."""

    size: int
    operations: int = OPERATIONS
    odd_keys: int = ODD_KEYS
    nesting: int = NESTING
    copied: int = field(init=False, default=0)
    viewed: int = field(init=False, default=0)

    def operate(self, count: int) -> None:
        """Count pickle operations. Raises Malformed past OPERATIONS."""
        self.operations -= count
        if self.operations < 0:
            raise Malformed(f"its pickle takes more than {OPERATIONS} operations, which no weights file needs")

    def copy(self, count: int) -> None:
        """Count bytes that arrays, storages and strings are about to take: each byte of the file once, with room."""
        self.copied += count
        if self.copied > 3 * self.size + _FREE:
            raise Malformed(f"its objects need more than three times the file's {self.size} bytes")

    def view(self, count: int) -> None:
        """Count bytes in tensors that share storages: they cost nothing until someone copies each of them."""
        self.viewed += count
        if self.viewed > 8 * self.size + _FREE:
            raise Malformed(f"its tensors claim more than eight times the file's {self.size} bytes")

    def odd_key(self) -> None:
        """Count a dictionary's key whose hash the file can choose."""
        self.odd_keys -= 1
        if self.odd_keys < 0:
            raise Malformed(f"it has more than {ODD_KEYS} keys that are neither text nor small integers")


def show(value: object) -> str:
    """Something from the file, for a message: one line, printable, and short."""
    if isinstance(value, str):
        text = ascii(value[:_SHOWN])
        return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    if isinstance(value, int) and abs(value) < 1 << 64:
        return str(value)
    return f"a {type(value).__name__}"
