"""Archives that want to write elsewhere, to fill the disk or the memory, or that arrived damaged."""

import gzip
import io
import os
import tarfile

import pytest

from genrep.generate.weights import archive
from genrep.generate.weights.archive import extract


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def member(name, data=b"data", **facts):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in facts.items():
        setattr(info, key, value)
    return info, data


def pack(path, *members, format=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w:gz", format=format) as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return path


def test_a_header_that_is_read_in_pieces_is_bounded_as_a_whole():
    """Newer Pythons' tarfile reads long names and headers in chunks, each of them small."""
    stream = archive._Bounded(io.BytesIO(bytes(archive.MAX_READ + (1 << 21))), archive.FREE_BYTES)
    for _ in range(16):
        assert len(stream.read(1 << 20)) == 1 << 20
    with pytest.raises(ValueError, match="a header of absurd size"):
        stream.read(1 << 20)
    stream.seek(0)  # a member's data: tarfile seeks before it reads
    assert len(stream.read(1 << 20)) == 1 << 20


def test_reading_ends_where_the_stream_is_out_of_proportion():
    stream = archive._Bounded(io.BytesIO(bytes(1 << 20)), 1000)
    stream.read(1001)
    with pytest.raises(ValueError, match="unpacks to an absurd size"):
        stream.read(1)


@pytest.mark.slow
@pytest.mark.parametrize("format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_and_folders_come_out_as_they_went_in(tmp_path, folder, format):
    names = ["net/G_ema.pth", "./net/ü.txt", "top", "net/" + "l" * 90]
    big = os.urandom(3_000_000)
    folders = member("net/empty", b"", type=tarfile.DIRTYPE, mode=0o777)
    extract(pack(tmp_path / "a.tar.gz", folders, *(member(name, big) for name in names), format=format), folder)
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert found == sorted(name.removeprefix("./") for name in names)
    assert all((folder / name).read_bytes() == big for name in names)
    assert (folder / "net" / "empty").is_dir()


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (member("/etc/x"), "not a path inside"),
        (member("../x"), "not a path inside"),
        (member("a/../../x"), "not a path inside"),
        (member("a\\..\\x"), "not a path inside"),
        (member("a\nb"), "not a path inside"),
        (member("a/" * 1500 + "x"), "not a path inside"),
        (member("link", b"", type=tarfile.SYMTYPE, linkname="/etc"), "not a regular file"),
        (member("link", b"", type=tarfile.LNKTYPE, linkname="../x"), "not a regular file"),
        (member("pipe", b"", type=tarfile.FIFOTYPE), "not a regular file"),
        (member("disk", b"", type=tarfile.BLKTYPE), "not a regular file"),
        (member("first"), "File exists"),
        (member("first/below"), "cannot be unpacked"),
        (member("."), "cannot be unpacked"),
    ],
)
def test_what_is_no_plain_file_below_the_folder_is_refused(tmp_path, folder, refused, bad, words):
    path = pack(tmp_path / "a.tar.gz", member("first"), bad)
    line = refused(extract, path, folder)
    assert words in line and str(path) in line
    assert sorted(tmp_path.iterdir()) == [path, folder]
    assert [entry.name for entry in folder.rglob("*")] == ["first"]


def test_a_bomb_of_zeros_is_refused(tmp_path, folder, refused, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    path = pack(tmp_path / "a.tar.gz", member("zeros", bytes(8 << 20)))
    assert path.stat().st_size < 100_000
    assert "absurd size" in refused(extract, path, folder)
    assert sum(entry.stat().st_size for entry in folder.iterdir()) < 4 << 20


def test_a_bomb_behind_the_end_of_the_archive_is_not_read(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archive, "FREE_BYTES", 1 << 20)
    path = pack(tmp_path / "a.tar.gz", member("small"))
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(64 << 20)))
    extract(path, folder)
    assert (folder / "small").read_bytes() == b"data"


def test_too_many_files_are_refused(tmp_path, folder, refused, monkeypatch):
    monkeypatch.setattr(archive, "MAX_FILES", 10)
    path = pack(tmp_path / "a.tar.gz", *(member(f"f{i}") for i in range(11)))
    assert "absurd size" in refused(extract, path, folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_of_absurd_size_is_not_read_into_memory(tmp_path, folder, refused, kind):
    info = tarfile.TarInfo("header")
    info.type, info.size = kind, 100 << 20
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(100 << 20)))
    assert "header of absurd size" in refused(extract, path, folder)


@pytest.mark.parametrize("size", [1 << 40, 1 << 62])
def test_a_claimed_size_is_not_believed(tmp_path, folder, refused, size):
    info = tarfile.TarInfo("net")
    info.size = size
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)))
    assert "absurd size" in refused(extract, path, folder)


def test_every_truncation_and_every_flipped_byte_is_noticed(tmp_path, folder, refused):
    whole = pack(tmp_path / "a.tar.gz", member("net", os.urandom(2000)), member("other", b"x" * 3000)).read_bytes()
    cases = [whole[:length] for length in range(0, len(whole) - 1, 97)]
    # The first ten bytes are gzip's header, whose time and name matter to nobody.
    cases += [whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :] for at in range(20, len(whole), 101)]
    for number, case in enumerate(cases):
        path, out = tmp_path / f"{number}.tar.gz", tmp_path / f"out{number}"
        path.write_bytes(case)
        out.mkdir()
        assert str(path) in refused(extract, path, out)


def test_a_full_disk_is_one_line(tmp_path, folder, refused, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(archive.shutil, "copyfileobj", full)
    assert "No space left" in refused(extract, pack(tmp_path / "a.tar.gz", member("net")), folder)
