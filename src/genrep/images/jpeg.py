"""Facts of a JPEG before it is decoded: its size by its own markers, and its number of scans.

Markers are read as libjpeg reads them, so that the decoder finds what is checked here. A file that makes libjpeg guess
is refused. A progressive JPEG may have thousands of scans in few bytes, each of which costs a pass over all coefficients.
"""

from __future__ import annotations

import re
from typing import Any

MOST_SCANS = 64  # encoders write about ten
MOST_MARKERS = 20_000  # of a photo: profiles, previews and tables come in many segments
NO_JPEG = -1
SCAN = b"\xff\xda"  # in coded data FF is followed by 00 or a restart only
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


def frame_header(data: Any, size: int) -> tuple[int, int]:
    """``height << 16 | width`` of the JPEG in the first ``size`` bytes, or ``NO_JPEG``; and the place of scans to count.

    The place is 0 if a decoder reads only one scan. The function is plain enough for Numba, which compiles it: ``data``
    is bytes, or an array of uint8.
    """
    if size < 4 or data[0] != 0xFF or data[1] != 0xD8:
        return NO_JPEG, 0
    at, found, components, sequential = 2, NO_JPEG, 0, False
    while at + 1 < size and data[at] == 0xFF:
        while at < size and data[at] == 0xFF:  # any number of fill bytes
            at += 1
        if at + 2 >= size:
            break
        kind = int(data[at])
        at += 1
        if kind == 0x01 or 0xD0 <= kind <= 0xD7:  # TEM and restarts have no length
            continue
        length = int(data[at]) << 8 | int(data[at + 1])
        if kind in (0x00, 0xD8, 0xD9) or length < 2 or at + length > size:  # a stuffed byte, a second start, the end
            break
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # frame headers
            if found != NO_JPEG or length < 8:
                break
            found = int(data[at + 3]) << 24 | int(data[at + 4]) << 16 | int(data[at + 5]) << 8 | int(data[at + 6])
            components, sequential = int(data[at + 7]), kind in (0xC0, 0xC1, 0xC9)
        if kind == 0xDA:
            if found == NO_JPEG or length < 3:
                break
            whole = sequential and data[at + 2] == components  # in this scan: no other is read
            return found, 0 if whole else at + length
        at += length
    return NO_JPEG, 0


def check_jpeg(data: bytes, height: int, width: int) -> None:
    """Raise ValueError with the reason unless ``data`` is a JPEG of this size that is decoded in a bounded time."""
    found, scans = frame_header(data, len(data))
    if found == NO_JPEG:
        raise ValueError("is not a readable JPEG: its markers lead to no picture")
    if found != height << 16 | width:
        raise ValueError(f"is a JPEG of {found >> 16} x {found & 0xFFFF}, wanted {height} x {width}")
    if scans and (count := 1 + data.count(SCAN, scans)) > MOST_SCANS:
        raise ValueError(f"is a JPEG of {count} scans, wanted at most {MOST_SCANS}")


def has_many_scans(data: bytes) -> bool:
    """Whether a photo has more than ``MOST_SCANS`` scans. Data that a phone appends behind the picture do not count."""
    size, first = frame_header(data, len(data))
    if data.count(SCAN) <= MOST_SCANS or (size != NO_JPEG and not first):
        return False
    scans, at = 0, 2
    for _ in range(MOST_MARKERS):
        found = _MARKER.search(data, at)
        if found is None or found[1][0] == 0xD9:
            return scans > MOST_SCANS
        kind, at = found[1][0], found.end()
        scans += kind == 0xDA
        if kind not in (0x01, 0xD8):
            at += int.from_bytes(data[at : at + 2], "big")
    return True
