"""Small datasets, and ways to damage them."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.datasets_manifest import layout
from genrep.datasets_manifest.beton import check_beton
from genrep.datasets_manifest.manifest import (
    Shard,
    build_manifest,
    read_manifest,
    shard_name,
    write_manifest,
    write_shard_record,
)
from genrep.datasets_manifest.schema import field_table, wanted_tables
from genrep.datasets_manifest.tables import write_prompts, write_sources
from genrep.errors import DatasetError
from genrep.files import digest_json, sha256_file

Sample = dict[str, Any]
HEX = "0123456789abcdef" * 4
CLASSES = ["cat", "dog", "cow"]
PROMPTS = [
    ("a cat", "cat"),
    ('a "dog" \\ & <b>co\u00ffee</b>', "dog"),
    ("ein Hund, \u72ac \U0001f415", "dog"),
    ("a cow", None),
]
SOURCES = [(f"train/{name}.jpg", HEX) for name in ("0", "\u00fc <b>", "2")]


def ramp(height: int, width: int, value: int) -> np.ndarray:
    """A smooth picture that is a formula of ``value``, so that JPEG keeps it recognisable."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 2 + value, columns * 2 + value, np.full_like(rows, value)], axis=-1).astype(np.uint8)


def sample(fields: list[dict[str, Any]], i: int) -> Sample:
    """Pair ``i``: every value a formula of the index and of the field's position."""
    value: Sample = {"label": i % 4 - 1, "index": i}
    for j, field in enumerate(fields):
        if field["kind"] == "image":
            value[field["name"]] = ramp(*field["shape"][:2], 5 * i + 40 * j)
        elif field["kind"] == "float32":
            size = int(np.prod(field["shape"]))
            value[field["name"]] = (np.arange(size, dtype=np.float32) / 7 + i - 100 * j).reshape(field["shape"])
        elif field["kind"] == "float":
            value[field["name"]] = 0.1 * (i + 1) + j
        elif field["name"].startswith("prompt"):
            value[field["name"]] = (i + j) % len(PROMPTS)
        elif field["name"] == "source":
            value[field["name"]] = i % len(SOURCES)
    return value


PROMPTED = field_table(
    (8, 6),
    "raw",
    num_positives=2,
    z_anchor=[2, 2, 3],
    latents_stored=False,
    floats=["strength", "weight"],
    prompts=3,
)
WriteBeton = Callable[[Path, list[dict[str, Any]], list[Any], int], None]


def rows(fields: list[dict[str, Any]], indices: range) -> list[tuple[Any, ...]]:
    """The pairs as FFCV's writer takes them."""
    return [tuple(sample(fields, i)[field["name"]] for field in layout.in_beton(fields)) for i in indices]


def build(
    write: WriteBeton, folder: Path, fields: list[dict[str, Any]], pairs: int, per_shard: int, **recipe: Any
) -> Path:
    """A finished dataset folder."""
    folder.mkdir()
    latents = [field["name"] for field in fields if field["kind"] == "float32"]
    shards = []
    for k, first in enumerate(range(0, pairs, per_shard)):
        indices = range(first, min(first + per_shard, pairs))
        path = folder / shard_name(k)
        write(path, fields, rows(fields, indices), 2 << 20)
        digest = hashlib.sha256()
        for i in indices:
            for name in latents:
                digest.update(sample(fields, i)[name].astype("<f4").tobytes())
        shard = Shard(
            name=path.name,
            first_index=first,
            count=len(indices),
            bytes=path.stat().st_size,
            sha256=sha256_file(path),
            latents_sha256=digest.hexdigest(),
            facts={"seconds": 0.5, "device": "cpu", "batch_size": 2},
        )
        write_shard_record(folder, shard)
        shards.append(shard)
    whole = {"num_pairs": pairs, "pairs_per_shard": per_shard, "seed": 0, "views": {"name": "gaussian"}, **recipe}
    tables = []
    for name, key, write_table in (
        ("prompts.jsonl", "prompts", lambda path: write_prompts(path, PROMPTS)),
        ("sources.jsonl", "anchors", lambda path: write_sources(path, SOURCES)),
    ):
        if name in wanted_tables(fields):
            facts = write_table(folder / name)
            whole[key] = {**whole.get(key, {}), "sha256": facts["sha256"], "count": facts["count"]}
            tables.append(facts)
    if layout.not_stored(fields):
        whole["latents_stored"] = False
    write_manifest(folder, build_manifest(whole, fields, CLASSES, shards, {"python": "3.11", "device": "cpu"}, tables))
    return folder


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory, write_beton: WriteBeton) -> dict[str, Path]:
    """One dataset of each kind, never modified."""
    return build_originals(write_beton, tmp_path_factory.mktemp("originals"))


def build_originals(write: WriteBeton, root: Path) -> dict[str, Path]:
    """See ``originals``."""
    raw = field_table((8, 6), "raw", num_positives=1, z_anchor=[5], z_positive=[2, 3])
    jpeg = field_table((16, 24), "jpeg:90", num_positives=2, z_anchor=[4])
    return {
        "raw": build(
            write, root / "raw", raw, 5, 3, generator={"family": "stylegan2", "licence": "MIT"}, encoding="raw"
        ),
        "jpeg": build(write, root / "jpeg", jpeg, 3, 3),
        "real": build(write, root / "real", field_table((8, 6), "raw"), 2, 2),
        "prompted": build(write, root / "prompted", PROMPTED, 5, 3, generator={"family": "diffusers", "name": "tiny"}),
        "anchored": build(
            write,
            root / "anchored",
            field_table((8, 6), "raw", num_positives=1, z_positive=[4], floats=["noise_level"], sources=True),
            5,
            3,
            generator={"family": "diffusers", "name": "tiny"},
            anchors={"name": "photos", "split": "train"},
        ),
    }


@pytest.fixture
def originals_by_ffcv(tmp_path: Path, write_ffcv: WriteBeton) -> dict[str, Path]:
    """The same by FFCV's own writer."""
    return build_originals(write_ffcv, tmp_path)


@pytest.fixture
def copy_of(originals: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """``copy_of("raw")`` is a folder to damage."""

    def copy(kind: str) -> Path:
        return Path(shutil.copytree(originals[kind], tmp_path / kind))

    return copy


@pytest.fixture
def raw(copy_of: Callable[[str], Path]) -> Path:
    """Five pairs of raw images of 8 x 6 in two shards."""
    return copy_of("raw")


@pytest.fixture
def jpeg(copy_of: Callable[[str], Path]) -> Path:
    """Three anchors with two positives each, JPEG of 16 x 24, in one shard."""
    return copy_of("jpeg")


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """``rewrite(folder, mutate)``: a hostile manifest whose id and digest are right again after the change."""

    def rewritten(folder: Path, mutate: Callable[[dict[str, Any]], object], *, seal: bool = True) -> None:
        path = folder / "manifest.json"
        value = json.loads(path.read_text())
        mutate(value)
        if seal:
            value["id"] = digest_json(value["recipe"])
            value["digest"] = digest_json({key: item for key, item in value.items() if key != "digest"})
        path.write_text(json.dumps(value))

    return rewritten


@pytest.fixture
def reseal(rewrite: Callable[..., None]) -> Callable[[Path, int], None]:
    """``reseal(folder, k)``: make shard k's json and the manifest state the damaged file's size and sha256."""

    def resealed(folder: Path, k: int = 0) -> None:
        path = folder / shard_name(k)
        facts = {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        record = path.with_suffix(".json")
        record.write_text(json.dumps(json.loads(record.read_text()) | facts))
        rewrite(folder, lambda manifest: manifest["shards"][k].update(facts))

    return resealed


@pytest.fixture
def expected() -> Callable[[list[dict[str, Any]], int], Sample]:
    """``expected(fields, i)``: pair i as it was written."""
    return sample


class Patch:
    """A shard's bytes with views of its tables that write through."""

    def __init__(self, folder: Path, k: int = 0) -> None:
        manifest = read_manifest(folder)
        shard = manifest.shards[k]
        self.path, self.fields = folder / shard.name, layout.in_beton(manifest.fields)
        self.count, self.first = shard.count, shard.first_index
        self.data = bytearray(self.path.read_bytes())
        self.records_start = layout.HEADER.size + layout.DESCRIPTOR.size * len(self.fields)
        self.table_start = layout.HEADER.unpack_from(self.data)[4]
        record = layout.record_dtype(self.fields)
        self.records = np.frombuffer(self.data, record, count=self.count, offset=self.records_start)
        self.table = np.frombuffer(self.data, layout.ALLOCATION, offset=self.table_start)

    def header(self, **changes: int) -> None:
        names = ("version", "num_fields", "page_size", "num_samples", "table_start")
        values = dict(zip(names, layout.HEADER.unpack_from(self.data))) | changes
        layout.HEADER.pack_into(self.data, 0, *values.values())

    def check(self, data: bytes | None = None) -> None:
        self.path.write_bytes(self.data if data is None else data)
        check_beton(self.path, self.fields, self.count, self.first)

    def refused(self, match: str, data: bytes | None = None) -> None:
        with pytest.raises(DatasetError, match=match) as caught:
            self.check(data)
        assert str(caught.value).startswith(f"{self.path}: ")
        assert "\n" not in str(caught.value)


@pytest.fixture
def prompted(copy_of: Callable[[str], Path]) -> Path:
    """Five pairs of an anchor and two positives, a prompt and a strength each, whose latents are not stored; two shards."""
    return copy_of("prompted")


@pytest.fixture
def anchored(copy_of: Callable[[str], Path]) -> Path:
    """Five real anchors with a positive each, in two shards."""
    return copy_of("anchored")


@pytest.fixture
def known_latents(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[str]]]:
    """``genrep.across.latents`` gives what the sets here were written with; its calls are told: indices and names."""
    from genrep import across

    calls: list[tuple[list[int], list[str]]] = []

    def latents(manifest: dict[str, Any], indices: Any, names: Any) -> dict[str, Any]:
        calls.append((list(map(int, indices)), list(names)))
        return {name: np.stack([sample(manifest["fields"], int(i))[name] for i in indices]) for name in names}

    monkeypatch.setattr(across, "latents", latents, raising=False)
    return calls


@pytest.fixture
def patch_of() -> type[Patch]:
    """``patch_of(folder, k)``: shard k's bytes and tables, to be changed."""
    return Patch


@pytest.fixture
def patch(raw: Path) -> Patch:
    """The first shard of the raw set."""
    return Patch(raw)


def shards(*counts: int) -> list[Shard]:
    firsts = [sum(counts[:k]) for k in range(len(counts))]
    return [
        Shard(
            name=shard_name(k),
            first_index=firsts[k],
            count=count,
            bytes=1000 + k,
            sha256=HEX,
            latents_sha256=HEX[::-1],
            facts={"seconds": 1.5, "threads": 1},
        )
        for k, count in enumerate(counts)
    ]


@pytest.fixture
def entries() -> Callable[..., list[Shard]]:
    """``entries(3, 3, 1)``: descriptions of shards of so many pairs, of files that do not exist."""
    return shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a good manifest of seven pairs and nothing else."""
    recipe = {"num_pairs": 7, "pairs_per_shard": 3, "seed": 2**63, "views": {"std": 0.2, "note": "σ"}}
    fields = field_table((8, 8), "raw", num_positives=1, z_anchor=[4])
    write_manifest(tmp_path, build_manifest(recipe, fields, ["a", "b"], shards(3, 3, 1), {"torch": "2.6"}))
    return tmp_path


@pytest.fixture
def writer(write_beton: WriteBeton) -> Callable[[Path, list[dict[str, Any]], range], None]:
    """``writer(path, fields, indices)``: a beton of those pairs."""
    return lambda path, fields, indices: write_beton(path, fields, rows(fields, indices), 2 << 20)


@pytest.fixture
def each_writer(write_either: WriteBeton) -> Callable[[Path, list[dict[str, Any]], range], None]:
    """As ``writer``, by our writer and by FFCV's own."""
    return lambda path, fields, indices: write_either(path, fields, rows(fields, indices), 2 << 20)


@pytest.fixture(scope="session")
def fashion_original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of the embedded generator: 20 pairs in shards of 8, made in batches of 4. Never modified."""
    from genrep.generate import BuildConfig, build_dataset

    folder = tmp_path_factory.mktemp("fashion") / "shards"
    build_dataset(
        BuildConfig(out=folder, num_pairs=20, shard_size="8", batch_size=4, processes=1, device="cpu", views="uniform")
    )
    return folder


@pytest.fixture
def fashion(fashion_original: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    return Path(shutil.copytree(fashion_original, tmp_path / "fashion"))


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """``contents(folder)``: the bytes of every file."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}
