"""The files of rows beside the shards: written and read in flat memory, and refused where a stranger made them badly."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest import tables
from genrep.datasets_manifest.tables import Prompts, Sources, check_table, write_prompts, write_sources
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError

HEX = "0123456789abcdef" * 4
ROWS = [("a cat", "cat"), ('ü \U0001f415 "quoted" \\ <b>', None), ("\u0635\u0628\u0627\u062d", "\u72ac"), (" ", "cat")]


def test_prompts_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    facts = write_prompts(path, iter(ROWS))
    data = path.read_bytes()
    assert data.startswith(b'{"group":"cat","prompt":"a cat"}\n')
    assert facts == {
        "name": "prompts.jsonl",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "count": 4,
    }
    prompts = Prompts(path)
    assert len(prompts) == 4
    assert list(prompts) == [text for text, _ in ROWS]
    assert [prompts.group(i) for i in range(4)] == [group for _, group in ROWS]
    assert (prompts[-1], prompts[1:3], prompts.index("a cat")) == (" ", [ROWS[1][0], ROWS[2][0]], 0)
    for i in (4, -5):
        with pytest.raises(IndexError, match=f"row {i} of 4"):
            prompts[i]
    check_table(path, facts)
    assert [json.loads(line).get("group") for line in data.splitlines()] == [group for _, group in ROWS]
    assert os.listdir(tmp_path) == ["prompts.jsonl"]


def test_sources_are_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sources.jsonl"
    facts = write_sources(path, [("a/b.jpg", HEX), ("ü.png", HEX[::-1])])
    sources = Sources(path, facts["count"])
    assert list(sources) == ["a/b.jpg", "ü.png"]
    assert sources.sha256(1) == HEX[::-1]
    assert facts == tables.table_facts(path, "sources.jsonl")
    check_table(path, facts)


def test_a_table_goes_to_other_processes_and_threads(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", ((f"prompt {i}", None) for i in range(1000)))
    prompts = pickle.loads(pickle.dumps(Prompts(tmp_path / "prompts.jsonl", 1000)))
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(prompts.__getitem__, range(1000))) == [f"prompt {i}" for i in range(1000)]


def test_blocks_end_anywhere_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["x" * size for size in (1, 5, 40, 3, 90, 2)]
    write_prompts(tmp_path / "prompts.jsonl", ((text, None) for text in texts))
    for block in (1, 2, 7, 16, 17, 64, 1000):
        monkeypatch.setattr(tables, "BLOCK", block)
        assert list(Prompts(tmp_path / "prompts.jsonl")) == texts


MEASURED = """
import resource, sys
from pathlib import Path
from genrep.datasets_manifest.tables import Prompts, check_table, write_prompts

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

path = Path(sys.argv[1])
before = peak()
facts = write_prompts(path, ((f"a photo of number {i}, on a table", f"group {i % 1000}") for i in range(1_000_000)))
prompts = Prompts(path)
assert (len(prompts), prompts[999_999]) == (1_000_000, "a photo of number 999999, on a table")
check_table(path, facts, "bytes")
print(facts["bytes"], peak() - before)
"""


@pytest.mark.slow
def test_memory_stays_flat_for_a_million_lines(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURED), str(tmp_path / "prompts.jsonl")],
        capture_output=True,
        text=True,
        check=True,
    )
    size, more = map(int, done.stdout.split())
    assert size > 60 << 20
    assert more < 48 << 20  # offsets of 8 MB, twice while they are put together, and blocks


CONTROLS = ["\x00", "\x1b[31m", "\x07", "\x7f", "\x9b", "\n", "\r", "\t", "\u2028", "\u202e", "\u2066", "\ud800"]
BAD_TEXTS = [*(f"a{text}b" for text in CONTROLS), "", "x" * 10_001]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_what_no_prompt_may_hold_is_not_written(tmp_path: Path, text: str) -> None:
    for row in [(text, None), ("right", text)]:
        with pytest.raises(DatasetError, match=r"prompts\.jsonl: row 1: (prompt|group) is ") as caught:
            write_prompts(tmp_path / "prompts.jsonl", [("first", None), row])
        assert str(caught.value).isprintable() and len(str(caught.value)) < 300
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../a.jpg", "a/../b.jpg", "a//b", "./a", "a/", "", "x" * 1025, "a\nb", "."]
)
def test_what_no_source_may_be_named_is_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError, match=r"sources\.jsonl: row 0: name is "):
        write_sources(tmp_path / "sources.jsonl", [(name, HEX)])
    with pytest.raises(DatasetError, match=r"sources\.jsonl: row 0: sha256 is "):
        write_sources(tmp_path / "sources.jsonl", [("a.jpg", HEX.upper())])
    assert os.listdir(tmp_path) == []


def test_a_table_without_rows_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no rows, wanted 1 at least"):
        write_prompts(tmp_path / "prompts.jsonl", [])
    assert os.listdir(tmp_path) == []


HOSTILE = {
    b"": "empty",
    b"\n": "line 1: not JSON",
    b'{"prompt":"a"}': "no newline ends its last line",
    b'{"prompt":"a"}\n\n': "line 2: not JSON",
    b'{"prompt":"a"}\r\n': "line 1: not canonical JSON",
    b'{"prompt": "a"}\n': "line 1: not canonical JSON",
    b'{"prompt":"a","prompt":"b"}\n': "line 1: not canonical JSON",
    b'{"prompt":"a","group":"b"}\n': "line 1: not canonical JSON",
    b'{"prompt":"\\u0061"}\n': "line 1: not canonical JSON",
    b'\xef\xbb\xbf{"prompt":"a"}\n': "line 1: not JSON",
    b'{"prompt":"\xff"}\n': "line 1: not UTF-8",
    b'{"prompt":"\\ud800"}\n': "line 1: prompt is 'a\\ud800', wanted".replace("a\\ud800', wanted", "\\ud800': holds"),
    b'{"prompt":"\\u001b[31m"}\n': "line 1: prompt is '\\x1b[31m': holds the control character \\x1b, wanted none",
    b'{"prompt":"a\x00"}\n': "line 1: not JSON",
    '{"prompt":"\u202eb"}\n'.encode(): "line 1: prompt is '\\u202eb': holds the control character \\u202e",
    b'{"prompt":""}\n': "line 1: prompt is '', wanted a text",
    b'{"prompt":1}\n': "line 1: prompt is 1, wanted a text",
    b'{"prompt":null}\n': "line 1: prompt is None, wanted a text",
    b'{"prompt":NaN}\n': "line 1: prompt is nan, wanted a text",
    b'{"group":null,"prompt":"a"}\n': "line 1: group is None, wanted a text",
    b'{"group":"a"}\n': "line 1: prompt is None, wanted a text",
    b'{"prompt":"a","weight":1}\n': "line 1: has the unknown key 'weight'",
    b'{"\\u001b[2J":1,"prompt":"a"}\n': "line 1: has the unknown key '\\x1b[2J'",
    b'["a"]\n': "line 1: ['a'], wanted an object",
    b"1" * 5000 + b"\n": "line 1: not JSON",
    b"[" * 60_000 + b"\n": "line 1: JSON nested too deep",
    b'{"prompt":"' + b"x" * 65536 + b'"}\n': "line 1: more than 65536 bytes",
    b'{"prompt":"a"}\n' + b"x" * 70_000: "line 2: more than 65536 bytes",
    b'{"prompt":"' + b"x" * 10_001 + b'"}\n': "line 1: prompt is 10,001 characters, wanted at most 10,000",
    b"\x89PNG\r\n\x1a\n": "line 1: not UTF-8",
    b'{"prompt":"\x1b[31mred"}\n': 'line 1: not JSON: \'{"prompt":"\\x1b[31mred"}\'',
}


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: ascii(data[:20]))
def test_a_strangers_table_is_refused_in_one_printable_line(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(data)
    facts = {"name": "prompts.jsonl", "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    said = []
    with pytest.raises(DatasetError) as caught:
        list(Prompts(path))
    said.append(str(caught.value))
    if not HOSTILE[data].startswith(("empty", "no newline")):
        with pytest.raises(DatasetError) as caught:
            check_table(path, {**facts, "count": data.count(b"\n") or 1})
        said.append(str(caught.value))
    for line in said:
        assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < len(str(path)) + 200
        assert HOSTILE[data] in line


def test_counts_sizes_and_digests_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    facts = write_prompts(path, ROWS)
    for change, words in [
        ({"bytes": 5}, "bytes, the manifest says 5"),
        ({"sha256": HEX}, f"the manifest says {HEX}"),
        ({"count": 3}, "more rows, the manifest says 3"),
        ({"count": 5}, "4 rows, the manifest says 5"),
    ]:
        with pytest.raises(DatasetError, match=words):
            check_table(path, {**facts, **change})
    check_table(path, {**facts, "sha256": HEX, "count": 7}, "quick")
    check_table(path, {**facts, "count": 7}, "bytes")
    with pytest.raises(DatasetError, match="4 rows, the manifest says 5"):
        Prompts(path, 5)[0]


@pytest.mark.parametrize("kind", ["missing", "folder", "link", "pipe"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "prompts.jsonl"
    facts = write_prompts(tmp_path / "other.jsonl", ROWS)
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        path.symlink_to(tmp_path / "other.jsonl")
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(DatasetError, match=r"prompts\.jsonl: "):
        Prompts(path)
    assert list(tables.table_faults(path, facts, "quick")) != []


def test_a_file_that_is_cut_while_it_is_open_is_told(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, ROWS)
    prompts = Prompts(path)
    assert len(prompts) == 4
    os.truncate(path, 40)
    with pytest.raises(DatasetError, match="line 3: the file was cut or changed while it was read"):
        prompts[2]


def test_limits_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.jsonl"
    write_prompts(path, ROWS)
    monkeypatch.setattr(tables, "MAX_TABLE_ROWS", 3)
    for act in (lambda: Prompts(path)[0], lambda: write_prompts(path, ROWS)):
        with pytest.raises(DatasetError, match="more than 3 rows"):
            act()
    monkeypatch.setattr(tables, "MAX_TABLE_ROWS", 4)
    monkeypatch.setattr(tables, "MAX_TABLE_BYTES", 50)
    for act in (lambda: Prompts(path)[0], lambda: write_prompts(path, ROWS)):
        with pytest.raises(DatasetError, match="wanted at most 4 rows and 50 bytes"):
            act()
    assert len(path.read_bytes().splitlines()) == 4  # what was there stays


def test_no_damage_goes_unseen_or_ends_in_anything_but_one_line(tmp_path: Path) -> None:
    """Any one byte changed: its sha256 tells. Where a stranger states the changed one, the rules tell, or the file is right."""
    path, stream = tmp_path / "prompts.jsonl", random.Random(0)
    facts = write_prompts(path, ROWS)
    right = path.read_bytes()
    for _ in range(300):
        data = bytearray(right)
        at = stream.randrange(len(data))
        data[at] = stream.randrange(256)
        if bytes(data) == right:
            continue
        path.write_bytes(data)
        assert len(list(tables.table_faults(path, facts, "bytes"))) == 1
        sealed = {**facts, "sha256": hashlib.sha256(data).hexdigest()}
        found = list(tables.table_faults(path, sealed, "full"))
        assert all(line.isprintable() for line in found)
        if not found:
            assert len(list(Prompts(path))) == len(ROWS)


@pytest.mark.parametrize(
    ("change", "levels", "words"),
    [
        (lambda path: path.unlink(), 3, "prompts.jsonl: missing"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), 3, "bytes, the manifest says"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"a cat", b"a dog")), 2, "prompts.jsonl: sha256 is"),
    ],
)
def test_verify_tells_of_tables(
    prompted: Path, change: Callable[[Path], object], levels: int, words: str, known_latents: object
) -> None:
    change(prompted / "prompts.jsonl")
    for k, level in enumerate(("full", "bytes", "quick")):
        found = [str(problem) for problem in verify(prompted, level)]
        assert [words in line for line in found] == [True] * (k < levels)


def test_verify_full_reads_every_line(prompted: Path, rewrite: Callable[..., None], known_latents: object) -> None:
    path = prompted / "prompts.jsonl"
    data = path.read_bytes().replace(b"a cow", b'"\x1b[5m')
    path.write_bytes(data)
    sha256 = hashlib.sha256(data).hexdigest()

    def seal(value: dict[str, Any]) -> None:
        value["tables"][0] |= {"sha256": sha256, "bytes": len(data)}
        value["recipe"]["prompts"]["sha256"] = sha256

    rewrite(prompted, seal)
    assert verify(prompted, "bytes") == []
    (problem,) = verify(prompted, "full")
    assert str(problem).startswith("prompts.jsonl: line 4: not JSON: ") and str(problem).isprintable()


def test_verify_full_makes_latents_again_and_compares(
    originals: dict[str, Path], prompted: Path, known_latents: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from genrep import across

    assert verify(prompted, "full") == []
    assert [indices for indices, _ in known_latents] == [[0, 1, 2], [3, 4]]
    right = across.latents

    def wrong(manifest: Any, indices: Any, names: Any) -> Any:
        made = right(manifest, indices, names)
        if 4 in indices:
            made["z_positive_1"][-1, 0, 0, 0] += 1
        return made

    monkeypatch.setattr(across, "latents", wrong)
    assert verify(prompted, "bytes") == []
    (problem,) = verify(prompted, "full")
    assert (problem.shard, problem.reason.startswith("latents_sha256 is ")) == ("shard-00001.beton", True)
