"""Every kind of file that is written names itself when the disk is full: here, when files may have no more than 100 bytes."""

import contextlib
import json
import resource
import signal

import numpy as np
import pytest
import torch

from genrep.cli import describe
from genrep.datasets_manifest.exporting.formats import whole_file
from genrep.datasets_manifest.schema import field_table
from genrep.files import write_atomic, write_json
from genrep.generate.build.shard import ShardWriter
from genrep.look.sheets import save_png
from genrep.runs import metrics as lines
from genrep.runs.checkpoints import write_state


@contextlib.contextmanager
def full_disk():
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def write_shard(path):
    with ShardWriter(path, field_table((64, 64), "raw", num_positives=0, z_anchor=[4]), 1, 1 << 21) as writer:
        writer.finish()


def write_part(path):
    with whole_file(path) as file:
        file.write(bytes(1000))


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
WRITERS = {
    "text.md": lambda path: write_atomic(path, bytes(1000)),
    "facts.json": lambda path: write_json(path, {"a": "b" * 1000}),
    "metrics.jsonl": lambda path: lines.Metrics(path.parent, after=0).write({"step": 1, "text": "b" * 1000}),
    "checkpoint.pt": lambda path: write_state(path, {"weight": torch.zeros(1000)}),
    "sheet.png": lambda path: save_png(path, NOISE),
    "pairs-000000.tar": write_part,
    "shard-00000.beton": write_shard,
}


@pytest.mark.parametrize("name", WRITERS)
def test_the_file_is_named(tmp_path, name):
    with full_disk(), pytest.raises(OSError, match="File too large") as caught:
        WRITERS[name](tmp_path / name)
    assert describe(caught.value) == f"{tmp_path / name}: File too large"
    if name != "metrics.jsonl":
        assert list(tmp_path.iterdir()) == []


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    metrics = lines.Metrics(tmp_path, after=0)
    metrics.write({"step": 1})
    with full_disk(), pytest.raises(OSError, match="File too large"):
        metrics.write({"step": 2, "text": "b" * 1000})
    assert lines.read_lines(path) == [{"step": 1}]
    path.write_text(path.read_text() + "\n" + json.dumps({"step": 3}) + "\n" + "[" * 100_000 + "\n")
    assert lines.read_lines(path) == [{"step": 1}, {"step": 3}]
