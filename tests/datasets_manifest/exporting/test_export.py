"""Exports that are cut short, that go where something else is, and of data that somebody damaged."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genrep.cli import invoke
from genrep.datasets_manifest import cli, exporting
from genrep.datasets_manifest import exporting as running
from genrep.datasets_manifest.commands.make import export_command
from genrep.datasets_manifest.exporting import ExportReport
from genrep.errors import DatasetError, ResumeError
from genrep.files import locked_folder

Run = Callable[..., tuple[Path, ExportReport]]
Tree = Callable[[Path], dict[str, bytes]]
Capture = pytest.CaptureFixture[str]
FORMATS = ("folder", "webdataset", "parquet")
EACH = pytest.mark.parametrize("kind", FORMATS)


def test_the_command_knows_the_formats() -> None:
    assert tuple(exporting.FORMATS) == FORMATS
    assert tuple(next(one.type.choices for one in export_command.params if one.name == "format")) == FORMATS


@pytest.mark.slow
@EACH
def test_the_command(originals: dict[str, Path], tmp_path: Path, capsys: Capture, kind: str) -> None:
    arguments = ["export", str(originals["raw"]), "--format", kind, "--out", str(tmp_path / "out")]
    assert invoke(cli.group, [*arguments, "--dry-run"]) == 0
    assert f'"format": "{kind}"' in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert invoke(cli.group, arguments) == 0
    assert capsys.readouterr().out.startswith(
        f"OK {tmp_path / 'out'}: 5 pairs in {'10 files' if kind == 'folder' else '1 file'}, "
    )
    assert invoke(cli.group, arguments) == 0
    assert ", 5 were there, " in capsys.readouterr().out


@EACH
def test_the_same_bytes_each_time(originals: dict[str, Path], run: Run, tree: Tree, kind: str) -> None:
    first, _ = run(originals["raw"], kind, 2, "first")
    time.sleep(0.01)
    second, _ = run(originals["raw"], kind, 2, "second")
    assert tree(first) == tree(second)


@EACH
@pytest.mark.parametrize("name", ["raw", "prompted"])
@pytest.mark.parametrize("stop", [0, 1, 2, 3, 4])
def test_cut_short_it_goes_on_to_the_same_bytes(
    originals: dict[str, Path],
    run: Run,
    tree: Tree,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    name: str,
    stop: int,
    known_latents: object,
) -> None:
    """Stopped after ``stop`` of five samples that come in files of two."""
    whole, _ = run(originals[name], kind, 2, "whole")
    real = running.Samples.range

    def cut(self: Any, start: int, end: int, *, images: bool = True) -> Iterator[Any]:
        for sample in real(self, start, end, images=images):
            if sample.integers["index"] == stop:
                raise KeyboardInterrupt
            yield sample

    with monkeypatch.context() as patch:
        patch.setattr(running.Samples, "range", cut)
        with pytest.raises(KeyboardInterrupt):
            run(originals[name], kind, 2)
    out, report = run(originals[name], kind, 2)
    assert report.written_pairs == 5 - stop // 2 * 2
    assert tree(out) == tree(whole)


@EACH
def test_killed_while_it_writes_the_last_words_it_goes_on(
    originals: dict[str, Path], run: Run, tree: Tree, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    whole, _ = run(originals["raw"], kind, 2, "whole")

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exporting.FORMATS[kind], "finish", die)
        with pytest.raises(KeyboardInterrupt):
            run(originals["raw"], kind, 2)
    out, report = run(originals["raw"], kind, 2)
    assert report.written_pairs == 0
    assert tree(out) == tree(whole)


def test_killed_for_good_and_again_it_ends_the_same(fashion: Path, run: Run, tree: Tree, tmp_path: Path) -> None:
    whole, _ = run(fashion, "folder", 1, "whole")
    out = tmp_path / "killed"
    code = "from genrep.datasets_manifest.cli import main; main()"
    arguments = ["export", str(fashion), "--format", "folder", "--out", str(out), "--per-file", "1"]
    for number in range(1, 5):
        process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.DEVNULL)
        while process.poll() is None and not (out / f"anchor/{3 * number:05d}").exists():
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
    run(fashion, "folder", 1, "killed")
    assert tree(out) == tree(whole)


@EACH
def test_a_full_disk_is_one_line(originals: dict[str, Path], tmp_path: Path, kind: str) -> None:
    program = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
import sys
sys.argv = ["genrep-manifest", "export", {str(originals["jpeg"])!r}, "--format", {kind!r}, "--out", {str(tmp_path / "x")!r}]
from genrep.datasets_manifest import exporting
exporting.write_json = lambda *arguments: None
from genrep.datasets_manifest.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"{tmp_path / 'x'}/" in done.stderr and os.strerror(errno.EFBIG) in done.stderr
    assert [path for path in (tmp_path / "x").rglob("*") if path.is_file()] == []


@EACH
def test_a_folder_that_holds_something_else_is_left_alone(
    originals: dict[str, Path], run: Run, tree: Tree, tmp_path: Path, kind: str
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").write_text("dear")
    with pytest.raises(ResumeError, match=r"mine: is neither empty nor an export of this program"):
        run(originals["raw"], kind, None, "mine")
    assert tree(tmp_path / "mine") == {"letter.txt": b"dear"}
    out, _ = run(originals["raw"], kind, 2)
    before = tree(out)
    other = FORMATS[(FORMATS.index(kind) + 1) % 3]
    for folder, name, per_file, reason in (
        (originals["raw"], other, 2, f"an export with format {kind}, wanted {other}"),
        (originals["raw"], kind, 3, "an export with per_file 2, wanted 3"),
        (originals["real"], kind, 2, "an export of another dataset"),
    ):
        with pytest.raises(ResumeError, match=reason):
            run(folder, name, per_file)
    assert tree(out) == before


@pytest.mark.parametrize("state", [b"", b"[]", b"{}", b"null", b'{"format": {}}'])
def test_a_state_that_is_none_is_one_line(
    originals: dict[str, Path], tmp_path: Path, capsys: Capture, state: bytes
) -> None:
    (tmp_path / "export.json").write_bytes(state)
    arguments = ["export", str(originals["raw"]), "--format", "folder", "--out", str(tmp_path)]
    assert invoke(cli.group, arguments) == 1
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1 and "unexpected" not in err


def test_not_into_the_dataset_itself(raw: Path, run: Run, tree: Tree, tmp_path: Path) -> None:
    before = tree(raw)
    (tmp_path / "link").symlink_to(raw)
    for name in ("raw", "raw/below", "link/below"):
        with pytest.raises(ResumeError, match="lies in the dataset"):
            run(raw, "folder", None, name)
    assert tree(raw) == before


def test_one_at_a_time(originals: dict[str, Path], run: Run, tmp_path: Path) -> None:
    with locked_folder(tmp_path / "out"), pytest.raises(ResumeError, match="another process is using"):
        run(originals["raw"], "folder")


@EACH
def test_damaged_and_missing_shards(raw: Path, run: Run, kind: str) -> None:
    os.truncate(raw / "shard-00001.beton", 5000)
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: truncated"):
        run(raw, kind, 3)
    (raw / "shard-00001.beton").unlink()
    with pytest.raises(DatasetError, match=r"shard-00001\.beton: missing"):
        run(raw, kind, 3)


def hostile_jpegs() -> dict[str, bytes]:
    exif, made = Image.Exif(), {}
    exif[0x112] = 6
    noise = Image.fromarray(np.full((16, 24, 3), 9, np.uint8))
    options: dict[str, Any] = {"exif": {"exif": exif}, "png": {"format": "PNG"}, "small": {}, "gray": {}}
    for name, arguments in options.items():
        image = noise.resize((8, 8)) if name == "small" else noise.convert("L") if name == "gray" else noise
        image.save(buffer := io.BytesIO(), **{"format": "JPEG", **arguments})
        made[name] = buffer.getvalue()
    return made | {"html": b"<script>alert(1)</script>", "zeros": b"\0" * 50}


@EACH
@pytest.mark.parametrize("what", ["exif", "png", "small", "gray", "html", "zeros"])
def test_what_is_no_jpeg_is_not_passed_on(
    jpeg: Path, run: Run, patch_of: Any, reseal: Callable[..., None], kind: str, what: str
) -> None:
    data = hostile_jpegs()[what]
    patch = patch_of(jpeg)
    row = next(row for row in patch.table if row["ptr"] == patch.records["anchor"]["data_ptr"][1])
    place, size = int(row["ptr"]), int(row["size"])
    patch.data[place : place + size] = data.ljust(size, b"\0")[:size]
    patch.path.write_bytes(patch.data)
    reseal(jpeg)
    with pytest.raises(DatasetError, match=r"shard-00000\.beton: sample 1: anchor is not a plain JPEG of 16 x 24 RGB"):
        run(jpeg, kind)


def test_parquet_without_pyarrow(originals: dict[str, Path], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DatasetError, match=r"needs pyarrow; pip install pyarrow$"):
        run(originals["raw"], "parquet")
