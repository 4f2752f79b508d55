"""Small files that claim to be large, or would become so, cost neither memory nor time."""

import io
import pickle
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
import torch

from genrep.errors import WeightsError
from genrep.unpickle import Opaque, limits, read_file
from genrep.unpickle.limits import check_nesting
from genrep.unpickle.torch_formats import read_pickle

MEBI = 1 << 20
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident(field):
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


@pytest.fixture
def cost(tmp_path):
    """Reads bytes: the object or error, the bytes by which memory rose at most, and the seconds."""
    if not RESET.exists():
        pytest.skip("the peak of memory can be reset on Linux only")
    path = tmp_path / "bomb.bin"
    path.write_bytes(pickle.dumps(torch.ones(1)))
    read_file(path)

    def cost(content):
        path.write_bytes(content)
        RESET.write_text("5")
        before, start = resident("VmRSS"), time.process_time()
        try:
            found = read_file(path)
        except WeightsError as error:
            found = error
        return found, resident("VmHWM") - before, time.process_time() - start

    return cost


def u4(number):
    return struct.pack("<I", number)


def repeated(function, args, times=100_000):
    """A list of ``times`` calls of one function with the same arguments, at five bytes each."""
    return b"\x80\x04(c" + function + b"\x94" + args + b"\x94" + b"h\x00h\x01R" * times + b"l."


def storage(count):
    buffer = io.BytesIO()
    torch.save(torch.zeros(count)._typed_storage(), buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    return b"ctorch.storage\n_load_from_bytes\nB" + u4(len(content)) + content + b"\x85"


def tensor(size, stride, *, offset=0, count=1000):
    numbers = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in size) + b"t"
    steps = b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", number) for number in stride) + b"t"
    start = b"\x8a\x08" + struct.pack("<q", offset)
    return b"(" + storage(count) + b"R" + start + numbers + steps + b"\x89Nt"


REBUILD = b"torch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    "claim",
    [
        b"\x8e" + struct.pack("<Q", 1 << 60),
        b"\x96" + struct.pack("<Q", 1 << 60),
        b"\x8d" + struct.pack("<Q", (1 << 64) - 1),
        b"\x95" + struct.pack("<Q", 1 << 40),
        b"B" + u4(0xFFFFFFFF),
        b"T" + u4(0x7FFFFFFF),
        b"X" + u4(0x7FFFFFFF),
        b"\x8b" + u4(0x7FFFFFFF),
        b"\x8b" + u4(2000) + b"\x01" * 2000,
        b"L" + b"9" * 100_000 + b"L\n",
        b"I" + b"9" * 100_000 + b"\n",
        b"c" + b"x" * 100_000 + b"\n" + b"y\n",
        b"V" + b"x" * 100_000,
    ],
)
def test_claimed_sizes_allocate_nothing(cost, claim):
    found, memory, _ = cost(b"\x80\x04" + claim + b".")
    assert isinstance(found, WeightsError)
    assert memory < 8 * MEBI


def test_storages_larger_than_the_file_are_refused(cost):
    whole = io.BytesIO()
    torch.save({"a": torch.zeros(255)}, whole, _use_new_zipfile_serialization=False)
    huge = whole.getvalue().replace(b"K\xffNt", b"\x8a\x05" + (1 << 36).to_bytes(5, "little") + b"Nt")
    assert huge != whole.getvalue()
    found, memory, _ = cost(huge)
    assert "storage of 68719476736 numbers" in str(found)
    assert memory < 8 * MEBI


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((1 << 40,), (0,), 0),  # one number, seen 2^40 times
        ((1000, 1000), (0, 1), 0),
        ((1 << 62, 0), (1, 1), 0),
        ((1 << 32, 1 << 32), (0, 0), 0),  # whose product is 0 in 64 bits
        ((1001,), (1,), 0),
        ((10,), (1,), 991),
        ((10,), (112,), 0),
        ((1,), (1,), 1 << 62),
        ((2, 500), (500, 1), -1),
        ((-1,), (1,), 0),
        ((2,), (-1,), 5),
        ((10,), (1, 1), 0),
        ((1,) * 100, (1,) * 100, 0),
    ],
)
def test_views_that_leave_their_storage_or_multiply_it_are_refused(cost, size, stride, offset):
    found, memory, _ = cost(b"\x80\x04c" + REBUILD + tensor(size, stride, offset=offset) + b"R.")
    assert any(words in str(found) for words in ("of its storage", "in a storage of 1000", "size, stride", "as size"))
    assert memory < 8 * MEBI


def test_views_within_their_storage_are_read(cost):
    found, _, _ = cost(b"\x80\x04c" + REBUILD + tensor((10, 100), (100, 1)) + b"R.")
    assert found.shape == (10, 100)
    assert cost(b"\x80\x04c" + REBUILD + tensor((0, 5), (5, 1), offset=1000) + b"R.")[0].shape == (0, 5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "args"),
    [
        (REBUILD, tensor((250_000,), (1,), count=250_000)),
        (b"torch.storage\n_load_from_bytes\n", storage(250_000).partition(b"bytes\n")[2]),
        (b"builtins\nbytearray\n", b"B" + u4(MEBI) + bytes(MEBI) + b"\x85"),
        (b"_codecs\nencode\n", b"X" + u4(MEBI) + b"x" * MEBI + b"X\x06\x00\x00\x00latin1\x86"),
        (b"builtins\nset\n", b"(" + b"".join(b"J" + u4(i) for i in range(100_000)) + b"l\x85"),
        (b"collections\nOrderedDict\n", b"(" + b"".join(b"J" + u4(i) + b"N\x86" for i in range(100_000)) + b"l\x85"),
        (
            b"numpy.core.multiarray\nscalar\n",
            b"cnumpy\ndtype\nX\x07\x00\x00\x00S999999\x89\x88\x87RB" + u4(999_999) + bytes(999_999) + b"\x86",
        ),
    ],
)
def test_one_part_of_a_file_used_many_times_does_not_multiply(cost, function, args):
    content = repeated(function, args)
    found, memory, seconds = cost(content)
    assert any(words in str(found) for words in ("three times the file", "eight times the file", "operations"))
    assert memory < 200 * MEBI
    assert seconds < 20


ENDLESS = [b"]", b"}", b"\x8f", b"(", b"N\x94", b"cx\ny\n)R", b"N2", b"cx\ny\n", b"\x82\x01", b"(K\x01\x91", b"N\x85"]


@pytest.mark.parametrize("operation", ENDLESS)
def test_endless_small_objects_are_refused(operation):
    content = memoryview(b"\x80\x04(" + operation * 20_000 + b"l.")
    allowance = limits.ReadingLimits(len(content), operations=10_000)
    tracemalloc.start()
    with pytest.raises(limits.Malformed, match="operations, which no weights file needs"):
        read_pickle(content, allowance)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak * limits.OPERATIONS / 10_000 < 800 * MEBI


@pytest.mark.slow
@pytest.mark.parametrize("empty", [{}, [], set()])
def test_empty_containers_cost_nothing_more_to_look_into(empty):
    content = [type(empty)() for _ in range(100_000)]
    tracemalloc.start()
    check_nesting(content)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MEBI


def test_a_quoted_string_takes_what_its_line_takes(cost):
    found, memory, seconds = cost(b"S'" + b"\\x41" * (4 * MEBI) + b"'\n.")
    assert found == "A" * (4 * MEBI)
    assert memory < 5 * 16 * MEBI
    assert seconds < 10


def test_the_limit_of_operations_holds_in_nested_files():
    def read(times):
        content = memoryview(b"\x80\x04(" + (storage(1) + b"R") * times + b"l.")
        return read_pickle(content, limits.ReadingLimits(len(content), operations=10_000))

    assert len(read(10)) == 10
    with pytest.raises(limits.Malformed, match="operations"):
        read(1000)


@pytest.mark.slow
def test_the_limit_of_operations_holds_for_files(cost):
    found, memory, seconds = cost(b"\x80\x04(" + b"}" * 5_000_000 + b"l.")
    assert "operations, which no weights file needs" in str(found)
    assert memory < 500 * MEBI
    assert seconds < 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "nested",
    [
        b"]" * 100_000 + b"a" * 99_999,
        b")" + b"\x85" * 100_000,
        b"}" + b"K\x01}" * 100_000 + b"s" * 100_000,
        b"cx\ny\n)\x81" * 100_000 + b"b" * 99_999,
        b"cx\ny\n" * 100_000 + b")" + b"R\x85" * 99_999 + b"R",
    ],
)
def test_deep_nesting_is_refused(cost, nested):
    found, memory, _ = cost(b"\x80\x04" + nested + b".")
    assert "nested endlessly" in str(found)
    assert memory < 200 * MEBI


def test_objects_that_double_at_each_level_are_refused(cost):
    levels = b"".join(b"]\x94h" + bytes([i, ord("a"), ord("h"), i, ord("a")]) for i in range(100))
    found, memory, _ = cost(b"\x80\x04]\x94" + levels + b".")
    assert "nested endlessly" in str(found)
    assert memory < 8 * MEBI


def test_objects_may_contain_themselves(cost):
    found = cost(b"\x80\x04]\x94h\x00a.")[0]
    assert found[0] is found
    found = cost(b"\x80\x04}\x94K\x01h\x00s.")[0]
    assert found[1] is found
    found = cost(b"\x80\x04cx\ny\n)R\x94h\x00\x85b.")[0]
    assert isinstance(found, Opaque)
    assert found.state == (found,)


@pytest.mark.parametrize(
    "key",
    [b"]", b"}", b"\x8f", b")" + b"\x85" * 1000, b"]\x85", b"cx\ny\n)R", b"c" + REBUILD + tensor((2,), (1,)) + b"R"],
)
def test_keys_that_cannot_be_hashed_are_refused(cost, key):
    assert "as key" in str(cost(b"\x80\x04}" + key + b"Ns.")[0])
    assert "as key" in str(cost(b"\x80\x04\x8f(" + key + b"\x90.")[0])
    assert "as key" in str(cost(b"\x80\x04(" + key + b"\x91.")[0])
    assert "as key" in str(cost(b"\x80\x04cbuiltins\nset\n(" + key + b"l\x85R.")[0])


@pytest.mark.slow
def test_keys_made_to_collide_take_no_time(cost):
    same = b"".join(b"\x8a\x0a" + (((1 << 61) - 1) * i).to_bytes(10, "little") + b"N" for i in range(1, 20_000))
    found, _, seconds = cost(b"\x80\x04}(" + same + b"u.")
    assert "keys that are neither text nor small integers" in str(found)
    assert seconds < 20
    long = b"(" + b"".join(b"J" + u4(i) for i in range(100_000)) + b"t\x94"
    found, _, seconds = cost(b"\x80\x04}" + long + b"0" + b"h\x00Ns" * 10_000 + b".")
    assert "operations" in str(found)
    assert seconds < 20


def test_honest_files_take_twice_their_size(cost, saved):
    state = {f"w{i}": torch.ones(2 * MEBI) for i in range(4)}
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    for content in (
        saved(state),
        saved(state, _use_new_zipfile_serialization=False),
        pickle.dumps(state, 4),
        pickle.dumps(arrays, 4),
        pickle.dumps(arrays, 5),
    ):
        found, memory, _ = cost(content)
        assert len(found) == 4
        assert memory < 2.5 * len(content)
