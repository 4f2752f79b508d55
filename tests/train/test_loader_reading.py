"""What the compiled loops and the reused memory must never do: read elsewhere, hide a damaged picture, change a kept batch."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genrep.datasets_manifest import Beton, Shard, build_manifest, field_table, layout, read_manifest, write_manifest
from genrep.errors import DatasetError
from genrep.train import PairLoader
from genrep.train.data.loader import Buffers

MakeDataset = Callable[..., Path]


@pytest.mark.slow
def test_memory_is_reused_only_when_nothing_refers_to_it() -> None:
    buffers = Buffers(4, (3,), np.dtype(np.float32), spare=2, pinned=False)
    first = buffers.tensor(4)
    address = first.data_ptr()
    keepers: list[Callable[[torch.Tensor], Any]] = [
        lambda tensor: tensor,
        lambda tensor: tensor[1:2],
        lambda tensor: tensor.numpy()[2:],
        lambda tensor: tensor.flatten().view(torch.int32),
        lambda tensor: tensor.untyped_storage(),
        lambda tensor: torch.utils.dlpack.to_dlpack(tensor),
    ]
    for keep in keepers:
        kept = keep(first)
        del first
        gc.collect()
        other = buffers.tensor(4)
        assert other.data_ptr() != address
        del kept
        first = buffers.tensor(2)
        assert first.data_ptr() == address
        del other


def test_a_piece_of_a_batch_outlives_it_unchanged(dataset: MakeDataset) -> None:
    loader = PairLoader(dataset(), batch_size=4, workers=1)
    kept = []
    for _ in range(4):
        for batch in loader:
            kept.append((batch["index"].tolist()[1], batch["z_anchor"][1, :2], batch["anchor"].numpy()[1]))
            del batch
    images: dict[int, bytes] = {}
    for index, z, image in kept:
        assert z.tolist() == [10 * index, 10 * index + 1]
        assert images.setdefault(index, image.tobytes()) == image.tobytes()
    assert len(set(images.values())) == len(images)


def damaged(folder: Path, to: Path, edit: Callable[[bytearray], None]) -> Path:
    """A copy in which the anchor of sample 3 has been changed."""
    shutil.copytree(folder, to)
    manifest = read_manifest(to)
    shard = manifest.shards[0]
    with Beton(to / shard.name, manifest.fields, shard.count, 0) as beton:
        start, size = int(beton.samples["anchor"]["data_ptr"][3]), int(beton.jpeg_sizes["anchor"][3])
    data = bytearray((to / shard.name).read_bytes())
    picture = data[start : start + size]
    edit(picture)
    data[start : start + size] = picture
    (to / shard.name).write_bytes(data)
    return to


def cut(picture: bytearray) -> None:
    for at in range(len(picture) * 3 // 4, len(picture) - 1, 2):
        picture[at : at + 2] = b"\xff\xd9"  # the end, early


def smaller(picture: bytearray) -> None:
    at = picture.index(b"\xff\xc0")
    picture[at + 5 : at + 9] = (16).to_bytes(2) + (24).to_bytes(2)


def no_frame(picture: bytearray) -> None:
    at = picture.index(b"\xff\xc0")
    picture[at + 1] = 0xDA


def endless(picture: bytearray) -> None:
    picture[4:6] = b"\xff\xff"  # the first segment's length


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (cut, "is a damaged JPEG"),
        (smaller, "is a JPEG of another size than the manifest says"),
        (no_frame, "is not a JPEG"),
        (endless, "is not a JPEG"),
    ],
)
def test_a_damaged_picture_is_told(
    dataset: MakeDataset, tmp_path: Path, edit: Callable[[bytearray], None], reason: str
) -> None:
    folder = damaged(dataset(encoding="jpeg:95", size=24), tmp_path / "damaged", edit)
    with pytest.raises(
        DatasetError, match=rf"shard-00000\.beton: sample 3: anchor, at byte \d+, {reason}; run genrep-manif"
    ):
        list(PairLoader(folder, batch_size=4))
    assert len(list(PairLoader(folder, batch_size=4, fields=("positive",)))) == 10


@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:95", "size": 24}], ids=str)
@pytest.mark.parametrize("row", [-1, 40, 1 << 40])
def test_rows_that_are_not_there_are_an_error(dataset: MakeDataset, options: dict[str, Any], row: int) -> None:
    sets = PairLoader(dataset(**options), batch_size=4).sets
    outputs = sets.outputs(["anchor"], None)
    out = np.empty((2, *outputs[0].field.shape), dtype=np.uint8)
    with pytest.raises(IndexError, match=f"row {row} of 40"):
        sets.read(np.array([0, row]), outputs, [out])


def test_pointers_beyond_four_gigabytes(tmp_path: Path) -> None:
    """A file of holes: header, records, one page of 2 GiB from 2 GiB on, and the tables after it."""
    table, page, count, size = field_table((2, 2), "raw"), layout.MAX_PAGE, 3, 12
    records = np.zeros(count, dtype=layout.record_dtype(table))
    pointers = page + np.array([100, 0, page - size])
    for part, value in (("mode", 1), ("width", 2), ("height", 2), ("data_ptr", pointers)):
        records["anchor"][part] = value
    records["label"], records["index"] = -1, np.arange(count)
    rows = np.zeros(count, dtype=layout.ALLOCATION)
    rows["sample_id"], rows["ptr"], rows["size"] = np.arange(count), pointers, size
    path = tmp_path / "shard-00000.beton"
    with open(path, "wb") as file:
        file.write(layout.HEADER.pack(layout.VERSION, len(table), page, count, 2 * page))
        file.write(b"".join(map(layout.descriptor, table)) + records.tobytes())
        for i, pointer in enumerate(pointers.tolist()):
            file.seek(pointer)
            file.write(bytes([i + 1] * size))
        file.write(rows.tobytes())
    facts = {"bytes": path.stat().st_size, "sha256": "0" * 64, "latents_sha256": "0" * 64}
    shard = Shard(name=path.name, first_index=0, count=count, **facts)
    recipe = {"num_pairs": count, "pairs_per_shard": count, "seed": 0}
    write_manifest(tmp_path, build_manifest(recipe, table, [], [shard], {}))
    batch = next(iter(PairLoader(tmp_path, batch_size=3)))
    for index, image in zip(batch["index"].tolist(), batch["anchor"]):
        assert image.flatten().tolist() == [index + 1] * size
