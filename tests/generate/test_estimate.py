"""``--plan``: the bytes that it tells are those of the files that are built."""

import re

import numpy as np
import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import layout
from genrep.datasets_manifest.schema import field_table
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.build import dataset as estimate
from genrep.generate.build import plan_dataset
from genrep.generate.build.shard import ShardWriter
from genrep.generate.cli import cli
from genrep.generate.plans.build_plan import page_size, shard_bytes
from genrep.generate.sources.base import Batch


def write(folder, table, count, side):
    """A shard of noise; returns the writer's facts and the average bytes of a sample's JPEGs."""
    rng = np.random.default_rng(0)
    views = sum(row["kind"] == "image" for row in table)
    noise = rng.integers(0, 256, (count, side, side // 2, 3), dtype=np.uint8)
    images = np.concatenate([noise, np.zeros_like(noise)], axis=2)
    dims = [row["shape"] for row in table if row["kind"] == "float32"]
    latents = [np.zeros((count, *shape), dtype=np.float32) for shape in dims]
    labels = np.zeros(count, dtype=np.int64)
    with ShardWriter(folder / "shard-00000.beton", table, count, page_size(table)) as writer:
        writer.append(Batch(indices=np.arange(count), labels=labels, images=[images] * views, latents=latents))
        facts = writer.finish()
        data = (folder / "shard-00000.beton").read_bytes()
        sizes = np.frombuffer(data, layout.ALLOCATION, offset=layout.HEADER.unpack_from(data)[-1])["size"].tolist()
    return facts["bytes"], (sum(sizes) - 4 * sum(z.size for z in latents)) / count


@pytest.mark.parametrize("count", [1, 84, 85, 200])  # 84 pairs with one positive fill a page
@pytest.mark.parametrize("positives", [0, 1, 3])
def test_raw_shards_are_as_large_as_told(tmp_path, count, positives):
    table = field_table((64, 64), "raw", num_positives=positives, z_anchor=[16] if positives else None)
    told = shard_bytes(table, count, page_size(table))
    assert write(tmp_path, table, count, 64)[0] == told
    assert told % 2**21 == 24 * count * (2 * (positives + 1) if positives else 1)


@pytest.mark.parametrize(("count", "encoding"), [(20, "jpeg:90"), (600, "jpeg:90:444")])
def test_jpeg_shards_are_as_large_as_told_from_their_images(tmp_path, count, encoding):
    table = field_table((80, 80), encoding, num_positives=1, z_anchor=[16])
    size, jpegs = write(tmp_path, table, count, 80)
    assert shard_bytes(table, count, page_size(table), jpegs) == size


@pytest.mark.slow
@pytest.mark.parametrize("probe_seconds", [0.0, 10.0], ids=["nothing finished", "all finished"])
@pytest.mark.parametrize("options", [{}, {"encoding": "jpeg:90", "num_positives": 2}, {"views": "none"}])
def test_a_plan_tells_the_bytes_of_the_build(toy_folder, monkeypatch, probe_seconds, options):
    monkeypatch.setattr(estimate, "PROBE_SECONDS", probe_seconds)
    settings = {"gen": "toygen:plain", "num_pairs": 100, "shard_size": "30", "batch_size": 7, "processes": 1}
    config = BuildConfig(out=toy_folder / "out", device="cpu", **settings, **options)
    told = plan_dataset(config)
    assert not config.out.exists()
    built = build_dataset(config).manifest
    assert (told.num_pairs, told.num_shards) == (100, 4)
    # How JPEGs of different sizes fill small pages shows only when they are written: about a page a shard.
    slack = 4 * built.build["page_size"] if "encoding" in options and not probe_seconds else 0
    assert abs(told.bytes - built.num_bytes) <= slack


def test_the_command_prints_it(toy_folder, capsys):
    options = "dataset --gen toygen:plain --num-pairs 20 --out out --plan --device cpu --processes 1"
    assert invoke(cli, options.split()) == 0
    shown = capsys.readouterr().out
    assert "pairs          20\n" in shown and "shards         20 of 1 pairs\n" in shown
    assert int(re.search(r"bytes +about (\d+) \(", shown)[1]) == 20 * (
        3 * 4096 + 24 * 4
    )  # two pages of tables, one of data
