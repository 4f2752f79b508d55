"""Small datasets take little more than their content; those of earlier versions stay what they were, to the byte."""

import numpy as np
import pytest

from genrep import datasets_manifest
from genrep.across import RegenerationConfig
from genrep.datasets_manifest.recovery.rebuild import RebuildConfig, rebuild
from genrep.datasets_manifest.schema import field_table
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.plans import resolve
from genrep.generate.plans.build_plan import page_size, shard_bytes

PAIR = 2 * 3 * 32 * 32 + 2 * 4 * 128  # bytes: two raw images and two latents of the embedded generator


def build(out, **options):
    settings = {"gen": "stylegan2_fashion", "num_pairs": 5, "shard_size": "3", "device": "cpu", "processes": 1}
    return build_dataset(BuildConfig(out=out, **{**settings, **options})).manifest


@pytest.fixture
def earlier(tmp_path, monkeypatch):
    """A dataset as versions made it that knew one page size."""
    with monkeypatch.context() as patch:
        patch.setattr(resolve, "small_page", lambda *_, **__: {})
        build(tmp_path / "earlier")
    return tmp_path / "earlier"


@pytest.mark.parametrize("count", [1, 20, 100, 300, 1000])
@pytest.mark.parametrize(
    ("side", "encoding"), [(8, "raw"), (32, "raw"), (128, "raw"), (8, "jpeg:90"), (256, "jpeg:90")]
)
def test_a_shard_is_at_most_two_pages_longer_than_its_content(count, side, encoding):
    table = field_table((side, side), encoding, num_positives=1, z_anchor=[16], z_positive=[16])
    pair = 6 * side * side + 128
    content = count * pair * (1 if encoding == "raw" else 0.2)
    page = page_size(table, content)
    assert page & (page - 1) == 0 and 2 * pair <= page <= page_size(table)
    if encoding == "raw":
        assert shard_bytes(table, count, page) <= max(2.6 * content, 4 * 2 * pair) + 4096 + 100 * count + 4200
    assert page_size(table, 4 << 20) == page_size(table)  # from 4 MiB on nothing changed


@pytest.mark.slow
@pytest.mark.ffcv
def test_pages_are_small_and_ffcv_itself_reads_them(tmp_path):
    from ffcv.loader import Loader, OrderOption

    manifest = build(tmp_path / "out")
    assert [shard.bytes for shard in manifest.shards] == [3 * 16384 + 3 * 4 * 24, 2 * 16384 + 2 * 4 * 24]
    assert manifest.build["page_size"] == 16384
    datasets_manifest.require_valid(tmp_path / "out", level="full")
    dataset = datasets_manifest.open(tmp_path / "out")
    for os_cache in (True, False):
        path, options = str(tmp_path / "out/shard-00000.beton"), {"num_workers": 1, "order": OrderOption.SEQUENTIAL}
        loader = Loader(path, batch_size=3, os_cache=os_cache, **options)
        anchors, positives, z = (next(iter(loader))[k] for k in range(3))
        for i in range(3):
            np.testing.assert_array_equal(anchors[i], dataset[i]["anchor"])
            np.testing.assert_array_equal(positives[i], dataset[i]["positive"])
            np.testing.assert_array_equal(z[i], dataset[i]["z_anchor"])


def test_a_folder_that_an_earlier_version_began_is_finished_with_its_pages(earlier):
    before = datasets_manifest.read_manifest(earlier)
    assert "page_size" not in before.build
    assert before.shards[0].bytes > 4 << 20
    for name in ("manifest.json", "shard-00001.json", "shard-00001.beton"):
        (earlier / name).unlink()
    after = build(earlier)
    assert [shard.sha256 for shard in after.shards] == [shard.sha256 for shard in before.shards]


def test_rebuilding_gives_the_bytes_of_either_version(earlier, tmp_path):
    build(tmp_path / "now")
    made = {}
    for name in ("earlier", "now"):
        config = RebuildConfig(
            source=str(tmp_path / name), out=tmp_path / f"{name}-again", making=RegenerationConfig(processes=1)
        )
        report = rebuild(config)
        assert report.level == "bytes"
        made[name] = report.manifest
    assert made["earlier"].id == made["now"].id
    assert made["earlier"].num_bytes > 80 * made["now"].num_bytes


def test_the_page_of_a_strangers_manifest_is_not_believed(tmp_path):
    """It is the one that the recipe has today, or the usual one."""
    from genrep.datasets_manifest.manifest import build_manifest, write_manifest

    build(tmp_path / "now")
    found = datasets_manifest.read_manifest(tmp_path / "now")
    forged = build_manifest(
        found.recipe, found.fields, found.classes, found.shards, {**found.build, "page_size": 1 << 60}
    )
    write_manifest(tmp_path / "now", forged)
    report = rebuild(
        RebuildConfig(source=str(tmp_path / "now"), out=tmp_path / "again", making=RegenerationConfig(processes=1))
    )
    assert report.level != "bytes" and report.manifest.num_bytes < 20 << 20
