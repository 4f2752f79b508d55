"""Files that are whole or absent, also where several write one path."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genrep.files import write_atomic, write_json


def test_many_may_write_one_path_at_once(tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    contents = [bytes([65 + writer]) * 4096 for writer in range(8)]

    def write(writer: int) -> None:
        for _ in range(20):
            write_atomic(path, contents[writer], shared=True)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["build.json"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "build.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genrep.files.os.fsync", full)
    with pytest.raises(OSError, match="No space left") as error:
        write_json(path, {"a": 2}, shared=True)
    assert error.value.filename == str(path)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [entry.name for entry in tmp_path.iterdir()] == ["build.json"]
