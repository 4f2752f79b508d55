"""Fuzz what a stranger's dataset folder can bring: manifests, shard jsons, tables of FFCV and of rows, damaged in many ways.

python benchmarks/fuzz_manifest.py [--seconds 600] [--seed 0] [--keep DIR]

Whatever the damage, ``verify`` must end with a list of problems within seconds, nothing but DatasetError may come out of
``datasets_manifest.open``, and a folder that passed at level full must give all of its samples. Making a pair of a changed
recipe again must end in the pair or in an error of ours. Memory is limited to 4 GB above what the program itself takes.
A finding is printed with its seed (``--seed N --seconds 0`` repeats that one alone) and kept.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import json
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

from genrep import datasets_manifest
from genrep.across import RegenerationConfig, stored_pairs
from genrep.datasets_manifest import Manifest, layout, read_manifest
from genrep.datasets_manifest.describe import describe
from genrep.datasets_manifest.recovery.compare import compare
from genrep.datasets_manifest.tables import FORBIDDEN
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, GenRepError
from genrep.files import canonical_json

MEMORY = 4 << 30  # bytes
SLOW = 5.0  # seconds of processor time that one case may take
POWERS = tuple((1 << bits) + off for bits in (15, 31, 32, 63, 64) for off in (-1, 0))
NUMBERS = (0, 1, -1, 2, 7, 255, *POWERS)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *(
        None,
        True,
        False,
        0.5,
        1e300,
        "",
        "x",
        "..",
        "/",
        "../shard-00000.beton",
        "shard-00000.beton",
        "\x1b[2J\n",
        "é" * 50,
    ),
    *("A" * 4096, "0" * 64, [], {}, [[]], [1], [8, 8, 3], {"a": 1}, "raw", "jpeg:90", "float32", "image", 10**30),
)


class Sampler:
    """A generator of prompts' pictures: noise, brighter for longer texts."""

    num_classes, image_shape, takes_prompts = 0, (8, 8), True

    def __init__(self) -> None:
        from genrep.generate import LatentSpec

        self.latent = LatentSpec(shape=(3, 8, 8))

    def synthesize(self, z: Any, y: Any = None) -> Any:
        return z / 3 + z.new_tensor([len(text) / 40 for text in y])[:, None, None, None]

    def edit(self, images: Any, z: Any, y: Any = None, *, strength: Any, noise: Any = None) -> Any:
        part = strength[:, None, None, None]
        return (1 - part) * images + part * self.synthesize(z, y)


def build_originals(folder: Path) -> list[Path]:
    """Three small datasets: raw, JPEG, and one of prompts that leaves its latents to its recipe."""
    from genrep.generate import BuildConfig, build_dataset

    texts = folder / "prompts.txt"
    texts.write_text("cat\ta cat\ncat\ta small cat\ndog\ta dog\n")
    sys.path.insert(0, str(Path(__file__).parent))
    config = BuildConfig(
        out=folder / "prompted",
        gen=f"{Path(__file__).stem}:Sampler",
        views="sdedit:strength=.2-.9",
        prompts=texts,
        store_latents="no",
        num_pairs=7,
        shard_size="4",
        processes=1,
        device="cpu",
    )
    build_dataset(config)

    for name, encoding in (("raw", "raw"), ("jpeg", "jpeg:90:444")):
        config = BuildConfig(
            out=folder / name, num_pairs=7, shard_size="4", encoding=encoding, processes=1, device="cpu"
        )
        build_dataset(config)
    return [folder / "raw", folder / "jpeg", folder / "prompted"]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    items = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, item in items:
        found.append((value, key))
        found.extend(places(item))
    return found


def mutate_json(value: dict[str, Any], rng: random.Random) -> None:
    """Replace, remove, swap, repeat or nest values anywhere."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        container, key = rng.choice(places(value))
        way = rng.randrange(6)
        if way <= 2:
            container[key] = copy.deepcopy(rng.choice(VALUES))
        elif way == 3:
            del container[key]
        elif way == 4:
            other, place = rng.choice(places(value) or [(container, key)])
            container[key] = copy.deepcopy(other[place])
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]))
        else:
            container[str(rng.choice(VALUES))] = container[key]


def seal(value: dict[str, Any]) -> None:
    """Make a manifest's id and digest right again, as far as it has any."""
    try:
        value["id"] = hashlib.sha256(canonical_json(value["recipe"])).hexdigest()
        value.pop("digest", None)
        value["digest"] = hashlib.sha256(canonical_json(value)).hexdigest()
    except (KeyError, ValueError, TypeError):
        pass


def mutate_bytes(data: bytearray, rng: random.Random) -> None:
    """Flip, overwrite, cut, repeat."""
    for _ in range(rng.choice((1, 1, 3, 10))):
        if not data:
            return
        at, size = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64))
        way = rng.randrange(5)
        if way == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            data[at : at + size] = rng.randbytes(size)
        elif way == 2:
            data[at : at + size] = bytes(size)
        elif way == 3:
            data[at:] = data[at + size :]
        else:
            data[at:at] = data[at : at + size]


def fuzz_manifest(folder: Path, rng: random.Random) -> None:
    """A manifest that another sealed, or noise."""
    path = folder / "manifest.json"
    if rng.random() < 0.2:
        data = bytearray(path.read_bytes())
        mutate_bytes(data, rng)
        path.write_bytes(data)
        return
    value = json.loads(path.read_text())
    mutate_json(value, rng)
    if rng.random() < 0.95:
        seal(value)
    path.write_text(json.dumps(value))
    if rng.random() < 0.5 and isinstance(value.get("shards"), list):  # the jsons agree with it
        for shard in value["shards"]:
            if isinstance(shard, dict) and shard.get("name") in ("shard-00000.beton", "shard-00001.beton"):
                (folder / shard["name"]).with_suffix(".json").write_text(json.dumps(shard))


def fuzz_record(folder: Path, rng: random.Random) -> None:
    """A shard's json."""
    path = folder / f"shard-0000{rng.randrange(2)}.json"
    value = json.loads(path.read_text())
    mutate_json(value, rng)
    path.write_text(json.dumps(value))


def fuzz_beton(folder: Path, rng: random.Random) -> None:
    """A shard's header, descriptors, records, values or allocation table; its digests are made to agree."""
    manifest = read_manifest(folder)
    k = rng.randrange(len(manifest.shards))
    path = folder / manifest.shards[k].name
    data = bytearray(path.read_bytes())
    table = layout.HEADER.unpack_from(data)[4]
    head = layout.HEADER.size + layout.DESCRIPTOR.size * len(layout.in_beton(manifest.fields))
    records = head + manifest.shards[k].count * layout.record_dtype(manifest.fields).itemsize
    parts = ((0, layout.HEADER.size), (layout.HEADER.size, head), (head, records), (table, len(data)))
    for _ in range(rng.choice((1, 1, 2, 5))):
        start, end = rng.choice(parts) if rng.random() < 0.8 else (2 << 20, min(len(data), (2 << 20) + 30_000))
        at = rng.randrange(start, max(start + 1, min(end, len(data))))
        if rng.random() < 0.7:
            at = start + (at - start) // 8 * 8
            old = int.from_bytes(data[at : at + 8], "little")
            number = rng.choice(
                (*NUMBERS, old + 1, old - 1, old * 2, old + (2 << 20), old ^ 1 << rng.randrange(64), len(data))
            )
            data[at : at + 8] = struct.pack("<Q", number % (1 << 64))
        else:
            data[at : at + 1] = rng.randbytes(1)
    if rng.random() < 0.1:
        del data[rng.randrange(len(data)) :]
    if rng.random() < 0.1:
        data += rng.randbytes(rng.choice((1, 24, 4096)))
    path.write_bytes(data)
    facts = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    value = json.loads((folder / "manifest.json").read_text())
    value["shards"][k].update(facts)
    seal(value)
    (folder / "manifest.json").write_text(json.dumps(value))
    path.with_suffix(".json").write_text(json.dumps(value["shards"][k]))


def fuzz_table(folder: Path, rng: random.Random) -> None:
    """The table of prompts, with digests that agree; of a set without one, its manifest."""
    path = folder / "prompts.jsonl"
    if not path.exists():
        fuzz_manifest(folder, rng)
        return
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    data = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        mutate_bytes(data, rng)
    else:
        for row in rows:
            mutate_json(row, rng)
            row.setdefault("prompt", "")
        data = bytearray(
            b"".join(json.dumps(row, separators=(",", ":"), sort_keys=True).encode() + b"\n" for row in rows)
        )
    path.write_bytes(data)
    value = json.loads((folder / "manifest.json").read_text())
    facts = {"sha256": hashlib.sha256(data).hexdigest(), "count": max(data.count(b"\n"), 1)}
    value["tables"][0] |= {**facts, "bytes": len(data)}
    value["recipe"]["prompts"] |= facts
    seal(value)
    (folder / "manifest.json").write_text(json.dumps(value))


WAYS = {"manifest": fuzz_manifest, "record": fuzz_record, "beton": fuzz_beton, "table": fuzz_table}


def look(folder: Path, original: Manifest) -> str:
    """Do with a folder what users do; raises whatever is not as it should be. Returns in short what came of it."""
    problems = verify(folder, "full", jobs=2)
    for problem in problems:
        text = str(problem)
        assert text and "\n" not in text and text.isprintable(), f"a problem's text: {text!r}"
        assert len(text) < 2000, f"a problem's text has {len(text)} characters"
    try:
        dataset = datasets_manifest.open(folder)
    except DatasetError:
        assert problems, "open refuses what verify takes"
        return "refused"
    lines = [*describe(folder, dataset.manifest), *compare(original, dataset.manifest).lines()]
    assert all(line.isprintable() and len(line) < 2000 for line in lines), "what show or diff print"
    if original.recipe != dataset.manifest.recipe or original.classes != dataset.manifest.classes:
        make_again(dataset.manifest)
    failed = 0
    for i in range(min(len(dataset), 50)):
        try:
            sample = dataset[i]
        except DatasetError as error:
            assert "\n" not in str(error)
            failed += 1
            continue
        assert sample["index"] == i
        if dataset.prompts is not None:
            try:
                text = dataset.prompts[sample["prompt"]]
            except DatasetError as error:
                assert str(error).isprintable()
                failed += 1
            except IndexError:
                failed += 1
            else:
                assert not FORBIDDEN.search(text)
    assert problems or not failed, "a sample cannot be read of a folder without problems"
    return "problems" if problems else "passed"


def make_again(manifest: Manifest) -> None:
    """Follow a stranger's recipe as far as it can be."""
    try:
        next(stored_pairs(manifest.to_json(), [0], RegenerationConfig(device="cpu")))
    except GenRepError as error:
        assert str(error) and "\n" not in str(error) and len(str(error)) < 2000


def one(seed: int, originals: list[Path], work: Path) -> tuple[str, str, str | None]:
    """One case: the way, what came of it, and the finding if there is one."""
    rng = random.Random(seed)
    source = rng.choice(originals)
    way = rng.choice(("manifest", "manifest", "beton", "beton", "beton", "record", "table"))
    folder = work / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    WAYS[way](folder, rng)
    started = time.process_time()
    try:
        result = look(folder, read_manifest(source))
    except Exception:
        return way, "finding", traceback.format_exc()
    seconds = time.process_time() - started
    return way, result, None if seconds < SLOW else f"took {seconds:.1f} s"


def main() -> None:
    """Fuzz for a while; exit status 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Copy the folders of findings here.")
    options = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    findings = 0
    with tempfile.TemporaryDirectory(prefix="genrep-fuzz-") as name:
        work = Path(name)
        originals = build_originals(work)
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        seed, end = options.seed, time.monotonic() + options.seconds
        while seed == options.seed or time.monotonic() < end:
            way, result, finding = one(seed, originals, work)
            counts[way, result] += 1
            if finding is not None:
                findings += 1
                print(f"--seed {seed} ({way}): {finding}", flush=True)
                if options.keep is not None:
                    shutil.copytree(work / "case", options.keep / str(seed))
            seed += 1
    for (way, result), count in sorted(counts.items()):
        print(f"{way:10} {result:10} {count}")
    print(f"{sum(counts.values())} cases, {findings} findings")
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
