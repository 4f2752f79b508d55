"""What torch and NumPy write is read equal to what they read themselves."""

import argparse
import collections
import io
import pickle
import struct
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from genrep.errors import WeightsError
from genrep.unpickle import Global, Opaque, read_file

GOLDENS = Path(__file__).parent.parent.parent / "goldens"
OLD = {"_use_new_zipfile_serialization": False}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert type(found[name]) is torch.Tensor, name
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape), name
        assert found[name].stride() == tensor.stride(), name
        assert torch.equal(found[name], tensor.detach()), name
        assert not found[name].requires_grad


def tensors_of(module):
    """Parameters and buffers of an unread nn.Module, by their usual names."""
    found = {}
    for kind in ("_parameters", "_buffers"):
        found |= {name: tensor for name, tensor in module.state[kind].items() if tensor is not None}
    for name, child in module.state["_modules"].items():
        found |= {f"{name}.{key}": tensor for key, tensor in tensors_of(child).items()}
    return found


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}, {**OLD, "pickle_protocol": 5}])
def test_torch_files_are_read_like_torch_reads_them(read, saved, state, options):
    assert_same(read(saved(state, **options)), state)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_tensors_are_read(read, state, protocol):
    assert_same(read(pickle.dumps(state, protocol)), state)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_arrays_are_read(read, numpy_values, protocol):
    found = read(pickle.dumps(numpy_values, protocol))
    for name, value in numpy_values.items():
        assert isinstance(found[name], np.ndarray if isinstance(value, np.ndarray) else np.generic), name
        assert found[name].dtype == value.dtype.newbyteorder("="), name
        assert found[name].shape == value.shape, name
        assert np.array_equal(found[name], value), name


@pytest.mark.parametrize("protocol", range(6))
def test_plain_pickles_of_everyday_values_are_read(read, protocol):
    value = {
        "text": "naïve\n\\x41 😀",
        "numbers": [0, -1, 255, 2**31, -(2**80), 1.5, -0.0, True, False, None],
        "bytes": [b"", b"\x00\xff", bytearray(b"ab")],
        "sets": [{1, 2}, frozenset({"a"}), 1 + 2j],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        7: {(1, "two"): collections.OrderedDict(a=1)},
        "default": collections.defaultdict(list, x=[1]),
    }
    found = read(pickle.dumps(value, protocol))
    assert found == value
    assert type(found["default"]) is dict
    assert type(found["bytes"][2]) is bytearray


@pytest.mark.parametrize("options", [{}, OLD])
def test_tensors_that_shared_memory_still_do(read, saved, options):
    whole = torch.arange(6.0)
    found = read(saved({"whole": whole, "part": whole[2:4]}, **options))
    found["whole"][3] = 100
    assert found["part"].tolist() == [2.0, 100.0]


def test_tensors_of_unusual_types_are_read(read, saved):
    state = {"a": torch.tensor([1, 65535], dtype=torch.uint16), "b": torch.ones(3).to(torch.float8_e4m3fn)}
    found = read(saved(state))
    assert found["a"].dtype == torch.uint16 and found["a"].tolist() == [1, 65535]
    assert found["b"].dtype == torch.float8_e4m3fn and found["b"].float().tolist() == [1.0] * 3


@pytest.mark.parametrize("write", ["zip", "legacy", 2, 4])
def test_modules_become_records_with_their_tensors(read, saved, write):
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
    content = (
        pickle.dumps(module, write) if isinstance(write, int) else saved(module, **(OLD if write == "legacy" else {}))
    )
    found = read(content)
    assert isinstance(found, Opaque)
    assert found.name == "torch.nn.modules.container.Sequential"
    assert found.state["_modules"]["1"].name == "torch.nn.modules.activation.ReLU"
    assert found.state["training"] is True
    assert_same(tensors_of(found), module.state_dict())


def test_other_objects_become_records(read, saved):
    found = read(saved({"args": argparse.Namespace(lr=0.1), "class": torch.nn.ReLU, "type": torch.float16}))
    assert (found["args"].name, found["args"].state) == ("argparse.Namespace", {"lr": 0.1})
    assert (found["class"].name, found["type"].name) == ("torch.nn.modules.activation.ReLU", "torch.float16")
    assert isinstance(found["class"], Global)


def test_subclasses_of_containers_keep_their_items(read, monkeypatch):
    strange = types.ModuleType("strange")
    monkeypatch.setitem(sys.modules, "strange", strange)
    for base in (dict, list):
        made = type(f"A{base.__name__}", (base,), {"__module__": "strange"})
        setattr(strange, made.__name__, made)
    content = pickle.dumps([strange.Adict(a=1), strange.Alist([5])], 2)
    dictionary, sequence = read(content)
    assert (dictionary.name, dictionary.items) == ("strange.Adict", [("a", 1)])
    assert (sequence.name, sequence.items) == ("strange.Alist", [5])


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_easy_dictionaries_of_dnnlib_are_dictionaries(read, monkeypatch, protocol):
    package, util = types.ModuleType("dnnlib"), types.ModuleType("dnnlib.util")
    util.EasyDict = type("EasyDict", (dict,), {"__module__": "dnnlib.util"})
    monkeypatch.setitem(sys.modules, "dnnlib", package)
    monkeypatch.setitem(sys.modules, "dnnlib.util", util)
    content = pickle.dumps([util.EasyDict(path="x", size=3), util.EasyDict()], protocol)
    monkeypatch.undo()
    assert read(content) == [{"path": "x", "size": 3}, {}]


def test_an_ada_snapshot_is_read():
    content = read_file(GOLDENS / "cond32_fp16cfg/network-snapshot.nosrc.proto4.pkl")
    expected = torch.load(GOLDENS / "cond32_fp16cfg/state_dict.pt", weights_only=True)
    generator = content["G_ema"]
    assert generator.name == "torch_utils.persistence._reconstruct_persistent_obj"

    def collect(record):
        (meta,) = record.args
        state = meta["state"]
        found = {name: tensor for name, tensor in state["_parameters"].items() if tensor is not None}
        found |= state["_buffers"]
        for name, child in state["_modules"].items():
            found |= {f"{name}.{key}": tensor for key, tensor in collect(child).items()}
        return found

    assert generator.args[0]["class_name"] == "Generator"
    found = collect(generator)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_python_2_pickles_are_read(read):
    array = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\n"
        b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x08"
        + struct.pack("<2f", 1.0, -3.5)
        + b"tb."
    )
    assert read(array).tolist() == [1.0, -3.5]
    assert read(rb"S'\n\r\t\a\b\f\v\\\'\"\101\7\x41\q'" + b"\n.") == "\n\r\t\a\b\f\v\\'\"A\x07A\\q"
    assert read(b"(dp0\nS'a\\tb'\np1\nI01\nsS'caf\\xe9'\nL5L\ns.") == {"a\tb": True, b"caf\xe9": 5}


def test_big_endian_checkpoints_are_read(read, saved):
    state = {"a": torch.tensor([1.0, -2.5]), "b": torch.tensor([3, -4]), "c": torch.tensor([1 + 2j])}
    content = rewritten(
        saved(state),
        lambda name, content: (
            b"big"
            if name.endswith("byteorder")
            else np.frombuffer(content, {"0": "f4", "1": "i8", "2": "f4"}[name[-1]]).byteswap().tobytes()
            if "/data/" in name
            else content
        ),
    )
    assert_same(read(content), state)


def test_checkpoints_without_checksums_are_read(read, saved):
    torch.serialization.set_crc32_options(False)
    try:
        content = saved({"a": torch.ones(2)})
    finally:
        torch.serialization.set_crc32_options(True)
    assert read(content)["a"].tolist() == [1, 1]


def rewritten(archive, change, **options):
    """A zip archive with each member changed."""
    source, target = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO()
    with zipfile.ZipFile(target, "w", **options) as output:
        for name in source.namelist():
            output.writestr(name, change(name, source.read(name)))
    return target.getvalue()


def test_views_of_storages_in_the_oldest_files_are_read(read, saved):
    content = saved({"a": torch.arange(6.0)}, **OLD)
    # Before torch 0.4 a storage could be part of another: its id ends with (name, offset, size) instead of None.
    whole = b"K\x06Nt"
    assert content.count(whole) == 1
    part = content.replace(whole, b"K\x06(X\x01\x00\x00\x00vK\x02K\x04tt").replace(b"K\x00K\x06\x85", b"K\x01K\x03\x85")
    assert read(part)["a"].tolist() == [3.0, 4.0, 5.0]
    with pytest.raises(WeightsError, match="reaches out of its storage"):
        read(part.replace(b"K\x01K\x03\x85", b"K\x02K\x03\x85"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "ends too early"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
        (b"<!DOCTYPE html><html>Quota exceeded</html>", "a web page"),
        (b"\x1f\x8b\x08" + bytes(30), "gzip"),
        (b"\x80\x09.", "protocol 9"),
    ],
)
def test_other_files_are_named(read, content, words):
    with pytest.raises(WeightsError, match=words) as error:
        read(content)
    assert "weights.bin" in str(error.value)
    assert "is wanted" in str(error.value)


def test_missing_files_and_folders_are_refused(tmp_path):
    with pytest.raises(WeightsError, match="missing"):
        read_file(tmp_path / "missing.pkl")
    with pytest.raises(WeightsError, match="wanted a regular file"):
        read_file(tmp_path)
