"""Shards of which only parts are fetched, and pages of datasets at an address."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from folder_server import Quiet, serving

from genrep.datasets_manifest.browsing import BrowseConfig, browse
from genrep.datasets_manifest.browsing.gather import gather
from genrep.datasets_manifest.contents import open_dataset, read_sample
from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.transport import Limits
from genrep.datasets_manifest.transport.parts import RemoteShards, merged, tables
from genrep.errors import DatasetError


class Leaving(Quiet):
    """A server that sends whole files, whatever part is asked for, to clients that leave when they have enough."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        with suppress(ConnectionError):
            super().copyfile(source, outputfile)


def test_ranges_that_lie_close_are_one() -> None:
    assert merged([(100_000, 100_010), (0, 5), (3, 9), (9, 12), (200_000, 200_001)]) == [
        *((0, 12), (100_000, 100_010), (200_000, 200_001))
    ]
    assert merged([]) == []


def test_what_is_read_is_what_lies_there(
    small: Path, nginx: Callable[[Path], str], tmp_path: Path, limits: Limits
) -> None:
    manifest = read_manifest(small)
    remote = RemoteShards(nginx(small), manifest, tmp_path, 10_000_000, limits)
    local = open_dataset(small)
    for shard in manifest.shards:
        with remote.open(shard) as beton:
            remote.prepare(beton, shard, [0], ["anchor"])
            found = read_sample(beton, 0)
        assert (found["anchor"] == local[shard.first_index]["anchor"]).all()
        assert (found["label"], found["index"]) == (local[shard.first_index]["label"], shard.first_index)
        remote.forget(shard)
    assert list(tmp_path.iterdir()) == []
    sizes = [end - start for shard in manifest.shards for start, end in tables(manifest, shard)]
    assert remote.fetched == sum(sizes) + 4 * 8 * 6 * 3  # and four images: of 17 MB of shards


def test_the_page_is_that_of_the_folder(small: Path, nginx: Callable[[Path], str]) -> None:
    near, far = gather(str(small), 10), gather(nginx(small), 10)
    assert far.remote and not near.remote and far.fetched > 0 == near.fetched
    assert [pair.index for pair in far.pairs] == [pair.index for pair in near.pairs] == [0, 1, 2, 3]
    assert all((a.images[0] == b.images[0]).all() for a, b in zip(near.pairs, far.pairs))
    assert far.counts == near.counts and far.shards == 4


def test_the_page_says_where_it_is_and_what_came(
    small: Path, nginx: Callable[[Path], str], command: Any, tmp_path: Path
) -> None:
    address, out = nginx(small), tmp_path / "page.html"
    status, told, _ = command("browse", address, "--out", out)
    assert status == 0 and told.startswith(f"OK {out}: 4 of 4 images, page of ") and "fetched from 4 shards" in told
    text = out.read_text()
    assert f"genrep-manifest pull {address} --out shards" in text
    assert "their tables were checked, no sha256 vouches for parts" in text


def test_few_shards_of_many(
    builder: Callable[..., Path], nginx: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrep.datasets_manifest.browsing.gather.MAX_REMOTE_SHARDS", 3)
    folder = builder(tmp_path / "shards", 9)
    report = browse(BrowseConfig(source=nginx(folder)))
    assert (report.shards, report.pairs) == (3, 3)
    assert b"3 of 9 images, spread evenly over 3 of 9 shards" in report.page
    assert b"Counts over the 3 images of 3 of 9 shards" in report.page


def test_a_server_of_whole_files(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(small, handler=Leaving) as address:
        whole_files(address, monkeypatch)


def whole_files(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(address, 10)
    assert len(found.pairs) == 4 and found.fetched >= found.manifest.num_bytes
    monkeypatch.setattr("genrep.datasets_manifest.browsing.gather.MAX_REMOTE_BYTES", 2 << 20)
    wanted = (
        r"shard-00000\.beton: .* would have to be fetched, wanted at most .* no parts of files\. Fetch the dataset \("
    )
    with pytest.raises(DatasetError, match=wanted):
        gather(address, 10)


def test_tables_that_are_too_large(small: Path, nginx: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genrep.datasets_manifest.browsing.gather.MAX_REMOTE_TABLES", 100)
    with pytest.raises(
        DatasetError, match=r"its shards have tables of .* wanted at most 100 bytes to fetch; .* genrep-manifest pull"
    ):
        gather(nginx(small), 10)


def test_damage_is_named_by_its_address(
    builder: Callable[..., Path], nginx: Callable[[Path], str], tmp_path: Path, limits: Limits
) -> None:
    folder = builder(tmp_path / "shards", 2)
    path, address = folder / "shard-00001.beton", nginx(folder)
    whole = path.read_bytes()
    path.write_bytes(b"\x07" + whole[1:])
    with pytest.raises(DatasetError) as caught:
        gather(address, 10, limits=limits)
    assert str(caught.value) == f"{address}/shard-00001.beton: FFCV format version 7, wanted 2"
    path.write_bytes(whole[:-1])
    with pytest.raises(
        DatasetError, match=rf"^{address}/shard-00001\.beton: {len(whole) - 1} bytes, the manifest says {len(whole)}$"
    ):
        gather(address, 10, limits=limits)
    path.unlink()
    with pytest.raises(DatasetError, match=rf"^{address}/shard-00001\.beton: the server answers 404"):
        gather(address, 10, limits=limits)


def test_sizes_that_no_file_has(
    builder: Callable[..., Path],
    nginx: Callable[[Path], str],
    tmp_path: Path,
    rewrite: Callable[..., None],
    limits: Limits,
) -> None:
    folder = builder(tmp_path / "shards", 2)
    address, real = nginx(folder), (folder / "shard-00000.beton").stat().st_size
    for size, reason in (
        (1 << 62, "no room for 4611686018427387904 bytes"),
        (1 << 30, f"{real} bytes, the manifest says"),
    ):
        rewrite(folder, lambda manifest, size=size: manifest["shards"][0].update(bytes=size))
        with pytest.raises(DatasetError, match=rf"^{address}/shard-00000\.beton: {reason}"):
            gather(address, 10, limits=limits)


def test_an_object_store(small: Path, filled: Callable[[Path], str]) -> None:
    near, far = gather(str(small), 10), gather(filled(small), 10)
    assert all((a.images[0] == b.images[0]).all() for a, b in zip(near.pairs, far.pairs))
    assert len(far.pairs) == 4 and far.fetched < 100_000


def test_any_other_store(small: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in small.iterdir():
        memory.pipe_file(f"/parts/{path.name}", path.read_bytes())
    try:
        far = gather("memory://parts", 10)
    finally:
        memory.rm("/parts", recursive=True)
    assert len(far.pairs) == 4 and far.fetched < 100_000
