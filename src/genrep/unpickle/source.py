"""A cursor over bytes that never reads, or allocates, past their end."""

from __future__ import annotations

from .limits import Malformed


class Source:
    """``data[at:]``, read forwards. Every method raises Malformed where the data end too early."""

    def __init__(self, data: memoryview, at: int = 0):
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> memoryview:
        """The next ``count`` bytes, not copied."""
        if not 0 <= count <= self.left:
            raise Malformed(f"it claims {count} bytes at byte {self.at}, where {self.left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def unsigned(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little")

    def signed(self, width: int) -> int:
        return int.from_bytes(self.take(width), "little", signed=True)

    def line(self, most: int | None = None) -> bytes:
        """The bytes up to a newline, which is consumed and not returned; ``most`` of them at most."""
        reach = 128
        while True:
            piece = bytes(self.data[self.at : self.at + reach])
            end = piece.find(b"\n")
            if end >= 0 and (most is None or end <= most):
                self.at += end + 1
                return piece[:end]
            if end >= 0 or (most is not None and reach > most):
                raise Malformed(f"it has a line of more than {most} bytes at byte {self.at}")
            if reach >= self.left:
                raise Malformed(f"it ends too early, in the line at byte {self.at}")
            reach *= 4
