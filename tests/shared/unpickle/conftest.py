"""Files in every format, small and harmless, and a way to read bytes as if they were a file."""

import collections
import io
import pickle

import numpy as np
import pytest
import torch

from genrep.unpickle import read_file


@pytest.fixture
def read(tmp_path):
    """Bytes -> what read_file makes of a file that holds them."""

    def read(content):
        path = tmp_path / "weights.bin"
        path.write_bytes(content)
        return read_file(path)

    return read


def torch_bytes(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def saved():
    """``torch.save`` into bytes: saved(value, _use_new_zipfile_serialization=False) for the older format."""
    return torch_bytes


@pytest.fixture(scope="session")
def state():
    """A state dict with every kind of tensor that a generator's may have, two of which share a storage."""
    steps = torch.arange(24.0).reshape(2, 3, 4)
    return collections.OrderedDict(
        steps=steps,
        row=steps[1],
        turned=steps.permute(2, 0, 1),
        every_other=steps[:, :, ::2],
        half=torch.linspace(-1, 1, 5).half(),
        brain=torch.linspace(-1, 1, 5).bfloat16(),
        double=torch.linspace(0, 1, 3, dtype=torch.float64),
        wide=torch.tensor([-(2**40), 2**40]),
        counts=torch.tensor([1, 2, 3], dtype=torch.int32),
        short=torch.tensor([-5], dtype=torch.int16),
        byte=torch.tensor([200, 3], dtype=torch.uint8),
        flags=torch.tensor([True, False, True]),
        complex=torch.tensor([1 + 2j, 3 - 1j]),
        scalar=torch.tensor(7.5),
        empty=torch.empty(0, 3),
        image=torch.arange(48.0).reshape(1, 3, 4, 4).to(memory_format=torch.channels_last),
        gain=torch.nn.Parameter(torch.ones(3)),
    )


@pytest.fixture(scope="session")
def numpy_values():
    return {
        "matrix": np.arange(6.0).reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "turned": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(1, 0, 2),
        "big_endian": np.arange(3, dtype=">f4"),
        "flags": np.array([True, False]),
        "names": np.array(["anchor", "ö"]),
        "bytes": np.array([b"ab", b"c"]),
        "complex": np.array([1j, 2]),
        "point": np.array(2.5),
        "none": np.empty((0, 3)),
        "long": np.arange(5000),
        "scalar": np.float32(0.1),
        "integer": np.int64(-3),
        "flag": np.bool_(True),
    }


@pytest.fixture(scope="session")
def small_files(state, numpy_values):
    """One small file of each format, by name."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    values = {key: value for key, value in numpy_values.items() if key != "long"}
    files = {
        "zip": torch_bytes({"state": state, "module": module}),
        "legacy": torch_bytes({"state": state, "values": values}, _use_new_zipfile_serialization=False),
        "module": pickle.dumps({"module": module, "set": {1, "a"}, "deep": [((1,), {"b": None})]}, 4),
    }
    return files | {f"protocol {protocol}": pickle.dumps(values, protocol) for protocol in range(6)}
