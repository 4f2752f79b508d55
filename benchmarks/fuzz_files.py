"""Fuzz the readers of files that strangers prepare, guided by coverage: TOML, VOC's XML, tar archives, IDX.

pip install atheris; python benchmarks/fuzz_files.py TARGET [--seconds 600] [--corpus DIR]

Whatever a file holds, its reader must return or raise the error of its kind, in one line, within seconds and within 2 GB. What
reaches new code is kept in the corpus, and a finding is written to ``crash-*`` in the current folder;
``python benchmarks/fuzz_files.py TARGET --repeat crash-...`` shows it again.
"""

from __future__ import annotations

import argparse
import gzip
import io
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

SEEDS: dict[str, list[bytes]] = {
    "recipe": [
        b'[generator]\nfamily = "stylegan2"\nweights = "x.pt"\nsha256 = "00112233"\nextra_weights = ["https://a/b"]\n'
        b'truncation = 0.5\nclass_names = ["a", "b"]\n[latent]\nlaw = "truncated_normal"\ntruncation = 2.0\nchunks = [4, 4]\n'
        b'[views]\nname = "gaussian"\nstd = 0.2\n[image]\nuint8 = "127.5x+128"\nencoding = "jpeg:90"\ncrop = [0, 0, 8, 8]\n'
    ],
    "views": [
        b'[views]\nname = "hierarchical"\nover = "layers"\n[[views.parts]]\nlayers = "0-3"\nview = "genrep-gaussian"\n',
        b'name = "mix"\n[[parts]]\nweight = 0.5\nview = { name = "gaussian", std = 0.2 }\n'
        b'[[parts]]\nweight = 1\nview = "none"\n',
    ],
    "preset": [b'objective = "simclr"\nepochs = 20\nlr = 0.03\nmix = 0.5\nsteps = 7\n'],
    "xml": [
        b"<annotation><size><width>4</width><height>4</height></size><object><name>a</name><difficult>0</difficult><bndbox>"
        b"<xmin>1</xmin><ymin>1.5</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>",
        b'<?xml version="1.0" encoding="latin-1"?><!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>',
    ],
    "idx": [
        bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)]),
        gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, *range(24)])),
    ],
    "tar": [],
}


def tar_seeds() -> list[bytes]:
    """An archive in each of tar's formats; the target packs them with gzip."""
    import tarfile  # not before ``readers``: what is imported earlier is not instrumented

    seeds = []
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name in ("a/b", "n" * 90, "long/" * 30 + "ü" if form != tarfile.USTAR_FORMAT else "c"):
                entry = tarfile.TarInfo(name)
                entry.size = 3
                tar.addfile(entry, io.BytesIO(b"abc"))
        seeds.append(buffer.getvalue())
    return seeds


def readers(work: Path) -> dict[str, Callable[[bytes], object]]:
    """What is done with a file's bytes, by target."""
    from genrep.evaluate.voc.files import read_annotation
    from genrep.generate.generators.base import LatentSpec
    from genrep.generate.recipes.recipe import latent_spec, load_recipe
    from genrep.generate.views import parse_view
    from genrep.generate.weights.archive import extract
    from genrep.images.idx import read
    from genrep.train.presets import read_preset

    def put(name: str, data: bytes) -> Path:
        path = work / name
        path.write_bytes(data)
        return path

    def unpack(data: bytes) -> None:
        shutil.rmtree(work / "out", ignore_errors=True)
        (work / "out").mkdir()
        try:
            extract(put("a.tar.gz", gzip.compress(data, 0)), work / "out")
        finally:
            inside = list((work / "out").rglob("*"))
            assert all(not path.is_symlink() and (path.is_dir() or path.is_file()) for path in inside)
            assert {path.name for path in work.iterdir()} <= {"a.tar.gz", "out"}, "written elsewhere"

    return {
        "recipe": lambda data: latent_spec(load_recipe(str(put("a.toml", data))), LatentSpec(dim=8)),
        "views": lambda data: parse_view(str(put("v.toml", data))).to_json(),
        "preset": lambda data: read_preset(str(put("p.toml", data))),
        "xml": lambda data: read_annotation(put("a.xml", data)),
        "idx": lambda data: read(put("i.gz" if data[:2] == b"\x1f\x8b" else "i", data), 3),
        "tar": unpack,
    }


def main() -> None:
    """Fuzz one target; libFuzzer ends the process with status 77 at a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=SEEDS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--repeat", type=Path)
    options = parser.parse_args()
    from genrep.errors import GenRepError

    expected: tuple[type[Exception], ...] = (GenRepError, ValueError) if options.target == "preset" else (GenRepError,)
    with tempfile.TemporaryDirectory(prefix="genrep-fuzz-", dir="/dev/shm") as name:
        work, corpus = Path(name) / "work", options.corpus or Path(name) / "corpus"
        work.mkdir()
        corpus.mkdir(parents=True, exist_ok=True)
        with atheris.instrument_imports(include=["genrep", "tarfile", "tomllib", "xml"]):
            read = readers(work)[options.target]
        for number, seed in enumerate(tar_seeds() if options.target == "tar" else SEEDS[options.target]):
            (corpus / f"seed-{number}").write_bytes(seed)

        def one(data: bytes) -> None:
            try:
                read(data)
            except expected as error:
                text = str(error)
                assert text and "\n" not in text and len(text) < 4000, f"an error's text: {text!r}"

        limits = [f"-max_total_time={options.seconds}", "-timeout=10", "-rss_limit_mb=2048", "-max_len=20000"]
        repeated = [str(options.repeat)] if options.repeat else [str(corpus)]
        atheris.Setup([sys.argv[0], *limits, "-print_final_stats=1", *repeated], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
