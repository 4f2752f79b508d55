"""Files cut short and with changed bytes: an error in one line or an object, never anything else."""

import io
import pickle
import pickletools
import random
import zipfile

import pytest
import torch

from genrep.errors import WeightsError

HUNKS = [
    b"\xff" * 4,
    bytes(8),
    b"\xff\xff\xff\x7f",
    b"(",
    b")R",
    b"t",
    b"Q",
    b"b",
    b"\x94",
    b"\x81",
    b"}",
    b"]",
    b"h\x00",
]
HUNKS += [
    b"e",
    b"u",
    b"s",
    b"2",
    b"0",
    b"1",
    b"\x8f",
    b"\x90",
    b"\x91",
    b"\x93",
    b"\x86",
    b".",
    b"cos\nsystem\n",
    b"q\x01",
]


def refused_or_read(read, content):
    """True if it was refused, in one line."""
    try:
        read(content)
    except WeightsError as error:
        assert "\n" not in str(error)
        assert "is wanted" in str(error)
        return True
    return False


def bytes_changed(dice, content):
    changed = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        at, kind = dice.randrange(len(changed)), dice.randrange(5)
        if kind == 0:
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            changed[at] = dice.randrange(256)
        elif kind == 2:
            changed[at : at + dice.randrange(20)] = b""
        elif kind == 3:
            changed[at:at] = dice.choice(HUNKS)
        else:
            start = dice.randrange(len(changed))
            changed[at:at] = changed[start : start + dice.randrange(60)]
        if not changed:
            return b""
    return bytes(changed)


def operations_changed(dice, content):
    """Pickles remain well formed but for the order of their operations."""
    starts, stream = [], io.BytesIO(content)
    while stream.tell() < len(content):
        try:
            starts += [position for _, _, position in pickletools.genops(stream)]
        except ValueError:  # storages
            break
    parts = [content[a:b] for a, b in zip(starts, [*starts[1:], len(content)], strict=True)]
    parts = [part for part in parts if part[0] != 0x95]  # frames would no longer fit
    for _ in range(dice.choice((1, 2, 3))):
        a, b = dice.randrange(len(parts)), dice.randrange(len(parts))
        parts[a] = dice.choice((parts[b], parts[a] + parts[b], b""))
    return b"".join(parts)


def archive_changed(dice, content, change):
    """The pickle of a zip archive changed and the archive written anew, so that checksums are right."""
    source, target = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as file:
        for name in source.namelist():
            data = source.read(name)
            file.writestr(name, change(dice, data) if name.endswith("data.pkl") else data)
    return target.getvalue()


@pytest.mark.slow
def test_mutated_files_raise_nothing_but_weights_errors(read, small_files):
    dice = random.Random(3)
    refused = 0
    for turn in range(2000):
        name = dice.choice(list(small_files))
        change = dice.choice((bytes_changed, operations_changed))
        content = small_files[name]
        if name == "zip":
            changed = archive_changed(dice, content, change) if turn % 2 else bytes_changed(dice, content)
        else:
            changed = change(dice, content)
        refused += refused_or_read(read, changed)
    assert 1000 < refused < 2000


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zip", "legacy", "module", "protocol 0", "protocol 2", "protocol 4", "protocol 5"])
def test_every_shortened_file_is_refused(read, small_files, name):
    content = small_files[name]
    assert not refused_or_read(read, content)
    for length in range(0, len(content) - 1, max(1, len(content) // 200)):
        assert refused_or_read(read, content[:length]), length


def test_flipped_bits_in_the_tensors_of_a_zip_file_are_found(read, saved):
    tensor = torch.linspace(1, 2, 50)
    content = saved({"a": tensor})
    start = content.index(tensor.numpy().tobytes())
    for bit in range(0, 50 * 32, 37):
        changed = bytearray(content)
        changed[start + bit // 8] ^= 1 << bit % 8
        with pytest.raises(WeightsError, match="checksum differs"):
            read(bytes(changed))


def test_storages_without_their_data_are_refused(read, saved):
    content = saved({"a": torch.ones(3), "b": torch.ones(5)}, _use_new_zipfile_serialization=False)
    for cut in (1, 20, 21, 28, 29, 60):
        with pytest.raises(WeightsError):
            read(content[:-cut])


def test_an_object_without_an_end_is_refused(read):
    with pytest.raises(WeightsError, match="ends too early"):
        read(pickle.dumps({"a": [1, 2]}, 2)[:-1])
