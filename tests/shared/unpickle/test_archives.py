"""Zip archives that are not what torch writes: compressed, doubled, misleading, or damaged."""

import io
import struct
import warnings
import zipfile

import pytest
import torch

from genrep.errors import WeightsError


@pytest.fixture
def archive(saved):
    return saved({"a": torch.arange(6.0), "b": torch.ones(2)})


def members(archive):
    file = zipfile.ZipFile(io.BytesIO(archive))
    return [(name, file.read(name)) for name in file.namelist()]


def written(entries, **options):
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", **options) as file:
        warnings.simplefilter("ignore")  # of names that are there already
        for name, content in entries:
            file.writestr(name, content)
    return buffer.getvalue()


def entry_of(archive, name):
    """Where the directory's entry of a member begins."""
    at = archive.rindex(b"archive/" + name)
    return archive.rindex(b"PK\x01\x02", 0, at)


def test_other_writers_of_zip_files_are_read(read, archive):
    assert read(written(members(archive)))["a"].tolist() == [0, 1, 2, 3, 4, 5]
    renamed = [(name.replace("archive/", "été/"), content) for name, content in members(archive)]
    assert read(written(renamed))["b"].tolist() == [1, 1]
    bare = [(name.replace("archive/", ""), content) for name, content in members(archive)]
    assert read(written(bare))["b"].tolist() == [1, 1]


def test_sizes_in_64_bits_are_read(read, archive):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members(archive):
            with file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    assert read(buffer.getvalue())["b"].tolist() == [1, 1]


def test_compressed_members_are_refused(read):
    zeros = [("archive/data.pkl", b"\x80\x02N."), ("archive/data/0", bytes(50_000_000))]
    bomb = written(zeros, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        read(bomb)


def test_encrypted_members_are_refused(read, archive):
    changed = bytearray(archive)
    changed[entry_of(archive, b"data/0") + 8] |= 1
    with pytest.raises(WeightsError, match="compressed or encrypted"):
        read(bytes(changed))


def test_members_that_are_there_twice_are_refused(read, archive):
    with pytest.raises(WeightsError, match=r"two members 'archive/data/0'"):
        read(written([*members(archive), ("archive/data/0", bytes(24))]))


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "archive/../../x", "..\\x"])
def test_members_outside_of_the_archive_are_refused(read, archive, name):
    with pytest.raises(WeightsError, match="outside of it"):
        read(written([*members(archive), (name, b"")]))


@pytest.mark.parametrize(("extra", "count"), [(["b/data.pkl"], 2), (None, 0)])
def test_an_archive_needs_one_pickle(read, archive, extra, count):
    entries = [*members(archive), *((name, b"N.") for name in extra)] if extra else [("model.json", b"{}")]
    with pytest.raises(WeightsError, match=f"{count} data.pkl"):
        read(written(entries))


def test_missing_records_are_refused(read, archive):
    with pytest.raises(WeightsError, match="no record 'data/1'"):
        read(written([entry for entry in members(archive) if entry[0] != "archive/data/1"]))


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (42, 0xFFFFFFFE, "beyond its end"),
        (42, 5, "none begins"),
        (42, 0, "another one"),
        (16, 12345, "checksum differs"),
        (20, 0x7FFFFFFF, "compressed"),
    ],
)
def test_misleading_entries_are_refused(read, archive, offset, value, words):
    changed = bytearray(archive)
    struct.pack_into("<I", changed, entry_of(archive, b"data/0") + offset, value)
    with pytest.raises(WeightsError, match=words):
        read(bytes(changed))


def test_sizes_beyond_the_file_are_refused(read, archive):
    changed = bytearray(archive)
    for offset in (20, 24):  # packed and unpacked
        struct.pack_into("<I", changed, entry_of(archive, b"data/0") + offset, 0x7FFFFFF0)
    with pytest.raises(WeightsError, match="beyond its end"):
        read(bytes(changed))


def test_members_that_share_bytes_are_refused(read, archive):
    changed = bytearray(archive)
    first, second = entry_of(archive, b"data/0"), entry_of(archive, b"data/1")
    changed[second + 16 : second + 28] = changed[first + 16 : first + 28]  # checksum and sizes
    changed[second + 42 : second + 46] = changed[first + 42 : first + 46]  # place
    with pytest.raises(WeightsError, match="'data/1' is another one"):
        read(bytes(changed))


def test_a_directory_with_too_many_entries_is_refused(read, archive):
    archive = written(members(archive))  # without torch's record in 64 bits
    end = archive.rindex(b"PK\x05\x06")
    many = bytearray(archive)
    struct.pack_into("<H", many, end + 10, 0xFFFF)
    with pytest.raises(WeightsError, match="damaged directory"):
        read(bytes(many))
    # The number in 64 bits, as in archives of more than 65,535 members.
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1 << 40, 1 << 40, 100, 0)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, end, 1)
    with pytest.raises(WeightsError, match="archive of 1099511627776 members"):
        read(archive[:end] + record + locator + archive[end:])
