"""Every pointer of an FFCV file's records against its allocation table: used once, inside its page, none overlapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import layout

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_pointers(
    samples: NDArray[Any],
    table: NDArray[Any],
    stored: list[dict[str, Any]],
    page_size: int,
    pages_start: int,
    pages_end: int,
) -> NDArray[np.uint64]:
    """Sizes of the stored values, shape ``(samples, stored fields)``. Raises ValueError with the reason.

    Offsets and sizes are in bytes; ``table`` has exactly one row per sample and stored field. FFCV looks a pointer's
    size up by binary search and its page up by the row's sample, so both must agree with the records exactly.
    """
    _check_rows(table, page_size, pages_start, pages_end)
    by_pointer = np.argsort(table["ptr"], kind="stable")  # stable: linear on the sorted tables that a writer leaves
    starts, sizes = table["ptr"][by_pointer], table["size"][by_pointer]
    overlap = starts[:-1] + sizes[:-1] > starts[1:]
    if overlap.any():
        k = int(overlap.argmax())
        raise ValueError(f"allocation table: bytes at {starts[k]} and {starts[k + 1]} overlap")

    pointers = np.empty((len(samples), len(stored)), dtype=np.uint64)
    for j, field in enumerate(stored):
        column = samples[field["name"]]
        pointers[:, j] = column["data_ptr"] if field["kind"] == "image" else column
    flat = pointers.reshape(-1)
    order = np.argsort(flat, kind="stable")
    foreign = flat[order] != starts
    if foreign.any():
        raise ValueError(_foreign(order, flat, starts, stored))
    owner = table["sample_id"][by_pointer] != (order // len(stored)).astype(np.uint64)
    if owner.any():
        k = int(owner.argmax())
        sample, name = _place(order[k], stored)
        given = table["sample_id"][by_pointer][k]
        raise ValueError(f"sample {sample}: {name} belongs to sample {given} in the allocation table")

    result = np.empty_like(flat)
    result[order] = sizes
    result = result.reshape(pointers.shape)
    _check_sizes(result, samples, stored)
    _check_pages(int(sizes.sum()), page_size, (pages_end - pages_start) // page_size)
    return result


def _check_rows(table: NDArray[Any], page_size: int, pages_start: int, pages_end: int) -> None:
    """Each row by itself; after this no sum of a pointer and a size can overflow."""
    pointers, sizes = table["ptr"], table["size"]
    wrong = (pointers < pages_start) | (pointers >= pages_end)
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k} points at {pointers[k]}, wanted {pages_start} to {pages_end - 1}")
    wrong = (sizes == 0) | (sizes > page_size)
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k} has {sizes[k]} bytes, wanted 1 to {page_size}")
    wrong = (pointers & np.uint64(page_size - 1)) + sizes > page_size
    if wrong.any():
        k = int(wrong.argmax())
        raise ValueError(f"allocation table: row {k}, {sizes[k]} bytes at {pointers[k]}, leaves its page")


def _foreign(order: NDArray[Any], flat: NDArray[Any], starts: NDArray[Any], stored: list[dict[str, Any]]) -> str:
    """Name the first record whose pointer the table lacks, or that another record has too."""
    at = np.minimum(np.searchsorted(starts, flat), len(starts) - 1)
    missing = starts[at] != flat
    if missing.any():
        k = int(missing.argmax())
        sample, name = _place(k, stored)
        return f"sample {sample}: {name} points at {flat[k]}, which is not in the allocation table"
    k = int((np.diff(flat[order]) == 0).argmax())
    sample, name = _place(order[k + 1], stored)
    other, other_name = _place(order[k], stored)
    return f"sample {sample}: {name} points at {flat[order[k]]}, as sample {other}'s {other_name} does"


def _place(k: Any, stored: list[dict[str, Any]]) -> tuple[int, str]:
    """Sample and field of position ``k`` in the flattened pointers."""
    return int(k) // len(stored), str(stored[int(k) % len(stored)]["name"])


def _check_sizes(sizes: NDArray[np.uint64], samples: NDArray[Any], stored: list[dict[str, Any]]) -> None:
    for j, field in enumerate(stored):
        limits = layout.sizes_limits(field, samples[field["name"]])
        wrong = (sizes[:, j] < limits[0]) | (sizes[:, j] > limits[1])
        if wrong.any():
            i = int(wrong.argmax())
            low, high = (int(np.broadcast_to(limit, len(sizes))[i]) for limit in limits)
            wanted = f"{low}" if low == high else f"{low} to {high}"
            raise ValueError(f"sample {i}: {field['name']} has {sizes[i, j]} bytes, wanted {wanted}")


def _check_pages(used: int, page_size: int, pages: int) -> None:
    """One writer opens a page only when the next sample does not fit, so two neighbours hold a page's worth together.

    More pages than that are padding: a file of holes could make a reader work for days.
    """
    most = 2 * used // page_size + 1
    if pages > most:
        raise ValueError(f"{pages} data pages for {used} bytes of data, wanted at most {most}")
