"""How many scans a JPEG has. A progressive one may have thousands, each of which costs a pass over all coefficients."""

from __future__ import annotations

import re

MOST_SCANS = 100  # common encoders write up to 12
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)  # in coded data FF 00 is a byte, FF D0 ... D7 restarts
_SCAN, _END = 0xDA, 0xD9
_ALONE = {0x01, 0xD8}  # markers without a length, beside restarts
_SEQUENTIAL = {0xC0, 0xC1, 0xC9}


def count_scans(data: bytes) -> int:
    """The scans that a decoder meets before the end of the picture; 1 where it reads no more than the first."""
    if data.count(b"\xff\xda") <= MOST_SCANS:  # before all else: nothing to follow
        return data.count(b"\xff\xda")
    scans, components, sequential, at = 0, -1, False, 2
    while found := _MARKER.search(data, at):
        kind, at = found[1][0], found.end()
        if kind == _END:
            break
        if kind in _ALONE:
            continue
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):
            components, sequential = data[at + 7] if len(data) > at + 7 else -1, kind in _SEQUENTIAL
        if kind == _SCAN:
            scans += 1
            if sequential and len(data) > at + 2 and data[at + 2] == components:  # whole in one scan
                break
        at += int.from_bytes(data[at : at + 2], "big")
    return scans
