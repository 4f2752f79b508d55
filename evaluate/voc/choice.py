"""Which classes of a data set with a long tail are measured: all, or an error that names all that cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from genrep.errors import DataError
from genrep.progress import note
from genrep.untrusted import printable, shown

MEASURABLE = "measurable"  # in the place of the classes' names
MOST_TOLD = 30  # classes that a message names


def measured_classes(
    data: Path, classes: Sequence[str], reasons: Mapping[str, str], *, measurable: bool, silent: bool = False
) -> tuple[str, ...]:
    """The classes that are measured, in order.

    Args:
        reasons: why a class cannot be measured.
        measurable: leave those out, and say so on stderr (unless ``silent``).

    Raises:
        DataError: a class cannot be measured and ``measurable`` was not asked for, or none can; it names them with the reasons.
    """
    if not reasons:
        return tuple(classes)
    where = printable(str(data))
    left = tuple(name for name in classes if name not in reasons)
    told = "; ".join(f"{shown(name)}: {why}" for name, why in list(reasons.items())[:MOST_TOLD])
    told += f"; and {len(reasons) - MOST_TOLD} more" if len(reasons) > MOST_TOLD else ""
    what = f"{len(reasons)} of {len(classes)} classes cannot be measured ({told})"
    if not left:
        raise DataError(f"--data {where}: {what}; wanted one at least that can")
    if not measurable:
        way = f"give --classes {MEASURABLE} for the other {len(left)}, or their names"
        raise DataError(f"--data {where}: {what}; {way}")
    if not silent:
        note(f"{where}: {what}; the other {len(left)} are")
    return left
