"""``genrep-manifest browse``: what it prints, how it ends, and what it serves to whom."""

from __future__ import annotations

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from genrep import datasets_manifest
from genrep.cli import invoke
from genrep.datasets_manifest import cli
from genrep.datasets_manifest.browsing import snippets
from genrep.datasets_manifest.browsing.server import PageServer

Capture = pytest.CaptureFixture[str]
Made = Callable[..., Path]


def test_it_writes_a_page_and_says_what_is_in_it(made: Made, tmp_path: Path, capsys: Capture) -> None:
    folder, out = made(), tmp_path / "page.html"
    assert invoke(cli.group, ["browse", str(folder), "--out", str(out), "--samples", "20"]) == 0
    told, err = capsys.readouterr()
    assert re.fullmatch(rf"OK {out}: 20 of 30 pairs, page of \d+ kB\n", told) and err == ""
    assert out.read_bytes().startswith(b"<!DOCTYPE html>")
    assert invoke(cli.group, ["browse", str(folder), "--out", str(out)]) == 1
    assert capsys.readouterr().err == (
        f"Error: genrep-manifest: --out {out}: exists; wanted a new file, or --force to replace it\n"
    )
    assert invoke(cli.group, ["browse", str(folder), "--out", str(out), "--force"]) == 0


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ([], 2, "wanted --out FILE.html, or --serve"),
        (["--out", "x.html", "--samples", "0"], 2, "--samples"),
        (["--out", "x.html", "--megabytes", "0.5"], 2, "--megabytes"),
        (["--serve", "65536"], 2, "--serve"),
        (["--serve", "shards"], 2, "--serve"),
    ],
)
def test_wrong_command_lines(arguments: list[str], status: int, reason: str, capsys: Capture) -> None:
    assert invoke(cli.group, ["browse", "nowhere", *arguments]) == status
    err = capsys.readouterr().err
    assert reason in err and err.count("\n") == 1


def test_what_is_no_dataset(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "page.html"
    for source in (tmp_path, tmp_path / "nothing", "file:///nowhere", "x://y/z", "http://127.0.0.1:1/shards"):
        assert invoke(cli.group, ["browse", str(source), "--out", str(out), "--retries", "0"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("Error: genrep-manifest: ") and err.count("\n") == 1
        assert not out.exists()


def test_dry_run_reads_nothing(tmp_path: Path, capsys: Capture) -> None:
    assert invoke(cli.group, ["browse", "https://user:secret@x.example/d", "--serve", "--dry-run"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert settings["source"] == "https://x.example/d" and settings["samples"] == 300 and settings["serve"] == 0


@contextmanager
def serving(server: PageServer) -> Iterator[PageServer]:
    with server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: PageServer, path: str, host: str | None = None, method: str = "GET") -> tuple[int, bytes, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, answer.read(), answer.headers
    connection.close()
    return found


def test_the_server_has_one_page_for_this_machine() -> None:
    with serving(PageServer(b"<p>page", 0)) as server:
        assert server.server_address[0] == "127.0.0.1"
        status, body, headers = ask(server, "/")
        assert (status, body) == (200, b"<p>page")
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Content-Type"] == "text/html; charset=utf-8"
        assert ask(server, "/?x=1")[:2] == (200, b"<p>page")
        assert ask(server, "/", f"localhost:{server.server_port}")[0] == 200
        assert ask(server, "/", method="HEAD")[:2] == (200, b"")
        for path in ("/manifest.json", "/../etc/passwd", "//x"):
            assert ask(server, path)[0] == 404
        assert ask(server, "/", "evil.example")[0] == 404  # a name of elsewhere that was made to resolve to here
        assert ask(server, "/", method="POST")[0] == 501


def test_a_port_that_is_taken(made: Made, capsys: Capture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert invoke(cli.group, ["browse", str(made()), "--serve", str(port)]) == 1
    err = capsys.readouterr().err
    assert err == (
        f"Error: genrep-manifest: --serve {port}: address already in use; wanted a free port, or --serve alone\n"
    )


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_it_serves_until_it_is_told_to_end(made: Made, number: int, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "genrep.datasets_manifest", "browse", str(made()), "--serve"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    with process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("OK ")
        address = re.match(r"http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert address is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(address[1]), timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().read().startswith(b"<!DOCTYPE html>")
        connection.close()
        process.send_signal(number)
        assert process.wait() == status
        told = "interrupted" if number == signal.SIGINT else "terminated"
        assert process.stderr.read().split() == ["Error:", "genrep-manifest:", told]


class Told:
    """What snippets are made from."""

    remote = False
    source = "shards"

    def __init__(self, folder: Path) -> None:
        self.manifest = datasets_manifest.read_manifest(folder)


def code(folder: Path) -> list[tuple[str, str]]:
    return snippets.snippets(Told(folder))  # type: ignore[arg-type]


KINDS = {
    "pairs": {"positives": 2},
    "anchors": {"positives": 0},
    "real": {"positives": 0, "z_anchor": None, "generator": None},
    "varying": {
        "positives": 0,
        "z_anchor": None,
        "generator": None,
        "varying": True,
        "encoding": "jpeg:90",
        "size": (40, 50),
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_python_that_it_shows_runs(made: Made, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = made(**KINDS[kind])
    monkeypatch.chdir(folder.parent)
    run = [text for title, text in code(folder) if "import" in text and "ffcv" not in text]
    assert len(run) == 2
    for text in run:
        exec(compile(text, "page", "exec"), {})
    names = re.search(r"# (.*)", run[0])
    assert names is not None
    assert set(names[1].split(", ")) <= datasets_manifest.open(folder)[0].keys()


@pytest.mark.ffcv
@pytest.mark.parametrize("kind", ["pairs", "varying"])
def test_the_code_for_ffcv_runs(made: Made, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    folder = made(**KINDS[kind])
    monkeypatch.chdir(folder.parent)
    (text,) = (text for _, text in code(folder) if "ffcv.loader" in text)
    exec(compile(text, "page", "exec"), {})


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_that_it_shows_exist(
    made: Made, monkeypatch: pytest.MonkeyPatch, kind: str, capsys: Capture
) -> None:
    from genrep.train.cli import command as train

    folder = made(pairs=300, **KINDS[kind])
    monkeypatch.chdir(folder.parent)
    commands = [text.replace("\\\n", "").split() for _, text in code(folder) if text.startswith("genrep-")]
    for program, *arguments in commands:
        if arguments[0] in ("pull", "rebuild") or program == "genrep-train":
            arguments.append("--dry-run")
        if "--level" in arguments:
            assert invoke(cli.group, [*arguments[:2], "--level", "quick"]) == 0
            continue
        assert invoke(train if program == "genrep-train" else cli.group, arguments) == 0, capsys.readouterr().err
    assert sum("rebuild" in words for words in commands) == (kind in ("pairs", "anchors"))


def test_an_address_is_quoted_for_the_shell(made: Made) -> None:
    told = Told(made())
    told.remote, told.source = True, "https://x.example/a b;rm -rf"
    assert "pull 'https://x.example/a b;rm -rf' --out shards" in snippets.snippets(told)[0][1]  # type: ignore[arg-type]
