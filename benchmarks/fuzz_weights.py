"""Fuzz what a stranger's weights file can bring, guided by coverage (atheris, which `pip install atheris` brings).

python benchmarks/fuzz_weights.py unpickle|encoders [--seconds 600] [--seed 0] [--keep DIR]

unpickle: bytes, begun from real pickles and checkpoints of torch. encoders: these, safetensors, and checkpoints made of
the names that layouts have, through load_encoder. Whatever the bytes, an object comes back or a GenRepError of one short
printable line, within seconds. The first finding ends the run, and is kept.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(
    include=["genrep.unpickle", "genrep.encoders", "genrep.state_dicts", "genrep.tensor_files"]
):
    from genrep.encoders import files
    from genrep.errors import GenRepError
    from genrep.unpickle import read_file
    from genrep.unpickle import torch_formats as _containers  # noqa: F401  read_file imports it late, past the instruments

import numpy as np
import torch
from safetensors.torch import save

SLOW = 5.0  # seconds of processor time that one case may take
PARTS = (
    *(
        "module",
        "_orig_mod",
        "encoder_q",
        "encoder_k",
        "model",
        "state_dict",
        "ema",
        "resnet",
        "backbone",
        "layers",
        "stem",
    ),
    *(
        "encoder",
        "stages",
        "layer",
        "convolution",
        "normalization",
        "embedder",
        "shortcut",
        "downsample",
        "norm",
        "total_ops",
    ),
    *(
        "layer1",
        "layer2",
        "layer3",
        "layer4",
        "res2",
        "res3",
        "res4",
        "conv1",
        "bn1",
        "conv2",
        "conv2_x",
        "residual_function",
    ),
    *("0", "1", "2", "3", "4", "5", "weight", "bias", "running_mean", "num_batches_tracked", "", "\x1b[2J", "é" * 30),
)


def seeds() -> list[bytes]:
    """Small files of every format."""
    state = {f"layer{i}.0.conv1.weight": torch.ones(2, 2) for i in (1, 2, 3, 4)} | {
        "conv1.weight": torch.zeros(1, 3, 7, 7)
    }
    new, old = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": state, "epoch": 3}, new)
    torch.save({"state_dict": state, "epoch": 3}, old, _use_new_zipfile_serialization=False)
    arrays = {
        "model": {name: tensor.numpy() for name, tensor in state.items()},
        "x": np.float32(1),
        "s": {1, 2},
        "b": b"x" * 9,
    }
    facts = {"arch": "resnet18", "stem": "imagenet", "size": "32", "mean": "[0,0,0]", "std": "[1,1,1]"}
    return [
        new.getvalue(),
        old.getvalue(),
        *(pickle.dumps(arrays, protocol) for protocol in range(6)),
        save(state),
        save({"conv1.weight": torch.zeros(2)}, facts),
        b"(dp0\nS'a\\x41'\np1\nI01\nsVx\\u1234\nL5L\ns.",
    ]


def named(data: bytes) -> bytes:
    """A checkpoint of the names that layouts have, nested as the bytes say."""
    choose = atheris.FuzzedDataProvider(data)
    root: dict[str, Any] = {}
    folders = [root]
    for _ in range(choose.ConsumeIntInRange(1, 60)):
        parts = [PARTS[choose.ConsumeIntInRange(0, len(PARTS) - 1)] for _ in range(choose.ConsumeIntInRange(1, 9))]
        folder = folders[choose.ConsumeIntInRange(0, len(folders) - 1)]
        kind = choose.ConsumeIntInRange(0, 9)
        if kind == 0:
            folder[".".join(parts)] = inner = {}
            folders.append(inner)
        elif kind == 1:
            folder[".".join(parts)] = folders[choose.ConsumeIntInRange(0, len(folders) - 1)]
        else:
            shape = [choose.ConsumeIntInRange(0, 4) for _ in range(choose.ConsumeIntInRange(0, 4))]
            dtype = (torch.float32, torch.float16, torch.int64, torch.bool, torch.complex64)[
                choose.ConsumeIntInRange(0, 4)
            ]
            folder[".".join(parts)] = torch.zeros(shape, dtype=dtype)
    buffer = io.BytesIO()
    torch.save(root, buffer)
    return buffer.getvalue()


def look(target: str, path: Path) -> None:
    """Raises AssertionError for a finding, and whatever else comes out."""
    started = time.process_time()
    try:
        if target == "unpickle":
            read_file(path)
        else:
            files.load_encoder(path)
    except GenRepError as error:
        text = str(error)
        assert text and text.isprintable() and len(text) < 4000, f"an error's text: {text[:300]!r}"
    seconds = time.process_time() - started
    assert seconds < SLOW, f"took {seconds:.1f} s"


def main() -> None:
    """Fuzz for a while; another exit status than 0 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=("unpickle", "encoders"))
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Copy the file of a finding here.")
    options = parser.parse_args()
    warnings.simplefilter("error")  # a warning is a line that nobody asked for
    work = Path(tempfile.mkdtemp(prefix="genrep-fuzz-"))
    corpus = work / "corpus"
    corpus.mkdir()
    for i, data in enumerate(seeds()):
        (corpus / str(i)).write_bytes(b"\0" + data)
    counts = {"cases": 0}

    def one(data: bytes) -> None:
        counts["cases"] += 1
        content = named(data[1:]) if options.target == "encoders" and data[:1] > b"\x7f" else data[1:]
        path = work / ("case.safetensors" if data[:1] == b"\x01" else "case.pth")
        path.write_bytes(content)
        try:
            look(options.target, path)
        except BaseException:
            if options.keep is not None:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, options.keep / f"{options.target}-{counts['cases']}{path.suffix}")
            print(json.dumps(counts), flush=True)
            raise
        path.unlink()

    flags = [f"-max_total_time={options.seconds}", f"-seed={options.seed + 1}", "-max_len=8192", "-rss_limit_mb=4096"]
    atheris.Setup([sys.argv[0], str(corpus), *flags, f"-artifact_prefix={work}/", "-print_final_stats=1"], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
