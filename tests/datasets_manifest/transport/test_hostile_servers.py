"""Servers that stall, lie, truncate, change their minds or send one elsewhere: one line, in time, nothing beside the folder."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.transport import Limits, PullConfig, pull, read_remote_manifest
from genrep.errors import DatasetError, ResumeError

Same = Callable[[Path, Path], None]


class Script:
    """A server that answers as the test says: ``answers[path]`` is called with the connection and the headers asked with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.answers: dict[str, Callable[[socket.socket, dict[str, str]], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/d"
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.talk, args=(client,), daemon=True).start()

    def talk(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            data = b""
            while b"\r\n\r\n" not in data:
                data += client.recv(65536) or b"\r\n\r\n"
            if not data.strip():
                return
            first, *lines = data.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
            path = first.split(" ")[1]
            self.asked.append((path, headers))
            self.answers.get(path, lambda client, headers: self.file(client, headers, path))(client, headers)

    def file(self, client: socket.socket, headers: dict[str, str], path: str, *, tag: str = '"1"') -> None:
        """What an honest server does."""
        file = self.folder / path.removeprefix("/d/")
        if not file.exists():
            client.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        body = file.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        if found and headers.get("if-range", tag) == tag:
            start = int(found[1])
            head = f"206 Partial Content\r\nContent-Range: bytes {start}-{len(body) - 1}/{len(body)}"
        else:
            start, head = 0, "200 OK"
        send(client, head, body[start:], ETag=tag)

    def close(self) -> None:
        self.closing.set()
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


def send(client: socket.socket, head: str, body: bytes, *, length: int | None = None, **headers: str) -> None:
    """An answer; ``length``: what it claims."""
    lines = [f"HTTP/1.1 {head}", f"Content-Length: {len(body) if length is None else length}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


@pytest.fixture
def script(small: Path) -> Iterator[Script]:
    server = Script(small)
    yield server
    server.close()


@pytest.fixture
def hasty() -> Limits:
    return Limits(timeout=5, retries=2, backoff=0.01)


@pytest.fixture
def refused(script: Script, hasty: Limits, tmp_path: Path) -> Callable[..., str]:
    """What a pull is refused with. Nothing has its final name, and nothing lies beside the folder."""

    def refusal(**options: Any) -> str:
        beside = set(os.listdir(tmp_path))
        with pytest.raises(DatasetError) as caught:
            pull(PullConfig(source=script.url, out=tmp_path / "out", shards=(0,), **{"limits": hasty, **options}))
        out = tmp_path / "out"
        assert [path.name for path in out.iterdir() if path.name != ".genrep-pull"] == [] if out.exists() else True
        assert set(os.listdir(tmp_path)) <= beside | {"out"}
        line = str(caught.value)
        assert line.isprintable(), line
        return line

    return refusal


SHARD = "/d/shard-00000.beton"


def forever(client: socket.socket, piece: bytes, pause: float, closing: threading.Event) -> None:
    while not closing.wait(pause):
        client.sendall(piece)


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
STALLS = {
    "silence": (b"", b""),
    "a slow status": (b"", b"H"),
    "a slow header": (HEAD, b"X"),
    "no body": (HEAD + b"Content-Length: 4194328\r\n\r\n", b""),
    "a slow body": (HEAD + b"Content-Length: 4194328\r\n\r\n", b"x"),
    "a slow chunk size": (CHUNKED, b"0"),
    "endless trailers": (CHUNKED + b"4\r\nabcd\r\n0\r\n", b"trailer: x\r\n"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", STALLS)
def test_stalling_and_dripping(kind: str, script: Script, refused: Callable[..., str]) -> None:
    head, piece = STALLS[kind]

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        client.sendall(head)
        forever(client, piece, 0.05, script.closing)

    script.answers[SHARD] = answer
    line = refused(limits=Limits(timeout=0.5, retries=1, backoff=0.01))
    assert line.startswith(f"{script.url}: shard-00000.beton: ")
    assert re.search(r"has stalled|ended after|garbled", line), line


@pytest.mark.parametrize("kind", ["silence", "endless trailers"])
def test_a_manifest_that_stalls(kind: str, script: Script, refused: Callable[..., str]) -> None:
    head, piece = STALLS[kind]

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        client.sendall(head)
        forever(client, piece, 0.05, script.closing)

    script.answers = {"/d/manifest.json": answer}
    assert "has stalled" in refused(limits=Limits(timeout=0.5, retries=1, backoff=0.01))


def test_truncating_at_the_same_place_every_time(script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", b"x" * 1000, length=4194328)
    assert refused().endswith("the connection ended after 1000 of 4194328 bytes")
    assert [path for path, _ in script.asked].count(SHARD) == 3


def test_a_server_that_ignores_ranges_and_cuts_once_is_begun_anew(
    script: Script, small: Path, same: Same, hasty: Limits, tmp_path: Path
) -> None:
    body = (small / "shard-00000.beton").read_bytes()
    answers = [body[:3000000], body]
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", answers.pop(0), length=len(body), ETag='"1"')
    report = pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert [headers.get("range") for path, headers in script.asked if path == SHARD] == [None, "bytes=3000000-"]
    assert report.fetched == read_manifest(small).num_bytes + 3000000
    same(tmp_path / "out", small)


def test_a_file_that_changed_midway_is_begun_anew(
    script: Script, small: Path, same: Same, hasty: Limits, tmp_path: Path
) -> None:
    body = (small / "shard-00000.beton").read_bytes()
    asked: list[dict[str, str]] = []

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        asked.append(headers)
        if len(asked) == 1:
            send(client, "200 OK", b"old" * 500000, length=len(body), ETag='"old"')
        else:
            script.file(client, headers, SHARD, tag='"new"')

    script.answers[SHARD] = answer
    pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert [(headers.get("range"), headers.get("if-range")) for headers in asked] == [
        (None, None),
        ("bytes=1500000-", '"old"'),
    ]
    same(tmp_path / "out", small)


def test_a_date_serves_where_there_is_no_strong_tag(script: Script, small: Path, hasty: Limits, tmp_path: Path) -> None:
    body = (small / "shard-00000.beton").read_bytes()
    tags = {"ETag": 'W/"1"', "Last_Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    ranges = []

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        ranges.append(headers.get("if-range"))
        start = 2000000 if "range" in headers else 0
        head = f"206 Partial Content\r\nContent-Range: bytes {start}-{len(body) - 1}/*" if start else "200 OK"
        send(client, head, body[start:] if start else body[:2000000], length=len(body) - start, **tags)

    script.answers[SHARD] = answer
    pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert ranges == [None, "mon, 01 jan 2024 00:00:00 gmt"]


@pytest.mark.parametrize(
    "told",
    [
        "bytes 0-4194327/4194328",
        "bytes 5-4194327/4194328",
        "bytes x",
        "",
        "bytes 3000000-10/4194328",
        "bytes 3000000-4194327/99",
    ],
)
def test_ranges_answered_wrongly(told: str, script: Script, small: Path, refused: Callable[..., str]) -> None:
    body = (small / "shard-00000.beton").read_bytes()

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        if "range" in headers:
            send(client, f"206 Partial Content\r\nContent-Range: {told}", body[3000000:])
        else:
            send(client, "200 OK", body[:3000000], length=len(body), ETag='"1"')

    script.answers[SHARD] = answer
    assert re.search(r"another part than was asked for|ended after 3000000|99 bytes, the manifest says", refused())


def test_a_range_that_cannot_be_satisfied_is_begun_anew(
    script: Script, small: Path, same: Same, hasty: Limits, tmp_path: Path
) -> None:
    body = (small / "shard-00000.beton").read_bytes()
    heads = [("200 OK", body[:500]), ("416 Range Not Satisfiable", b""), ("200 OK", body)]

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        head, data = heads.pop(0)
        send(client, head, data, length=0 if not data else len(body), ETag='"1"')

    script.answers[SHARD] = answer
    pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    same(tmp_path / "out", small)


def test_more_than_promised_is_not_read(script: Script, small: Path, same: Same, hasty: Limits, tmp_path: Path) -> None:
    body = (small / "shard-00000.beton").read_bytes()

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)
        forever(client, b"x" * 1000000, 0, script.closing)

    script.answers[SHARD] = answer
    report = pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert report.fetched == read_manifest(small).num_bytes
    same(tmp_path / "out", small)


@pytest.mark.parametrize("length", [4194329, 10**18, 1])
def test_another_length_than_the_manifests(length: int, script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", b"x", length=length)
    assert refused().endswith(f"shard-00000.beton: {length} bytes, the manifest says 4194328")


def test_other_bytes_are_fetched_three_times_and_refused(script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", b"x" * 4194328)
    assert re.search(r"its sha256 is [0-9a-f]{64}, the manifest says [0-9a-f]{64}$", refused())
    assert [path for path, _ in script.asked].count(SHARD) == 3


def test_a_shard_with_wrong_tables_and_the_right_digest_is_refused(
    raw: Path, patch_of: Any, reseal: Callable[..., None], hasty: Limits, tmp_path: Path
) -> None:
    patch = patch_of(raw)
    patch.records["anchor"]["data_ptr"][0] = 1 << 60
    patch.path.write_bytes(patch.data)
    reseal(raw)
    with pytest.raises(DatasetError, match=r"shard-00000.beton: .*; the dataset itself is damaged"):
        pull(PullConfig(source=str(raw), out=tmp_path / "out", limits=hasty))
    assert not (tmp_path / "out" / "shard-00000.beton").exists()


def test_compressed_answers_and_web_pages(script: Script, small: Path, refused: Callable[..., str]) -> None:
    bomb = gzip.compress(bytes(100 << 20))
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", bomb, Content_Encoding="gzip")
    assert "sends it compressed (gzip), which was not asked for" in refused()
    script.answers[SHARD] = lambda client, headers: send(client, "200 OK", b"<html>", Content_Type="text/html; x=y")
    assert "a web page instead of the file" in refused()


def test_a_manifest_without_an_end_costs_little_memory(script: Script, refused: Callable[..., str]) -> None:
    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        forever(client, b"[" * 1000000, 0, script.closing)

    script.answers["/d/manifest.json"] = answer
    tracemalloc.start()
    try:
        assert refused().endswith("more than the limit of 67108864 bytes")
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()
    script.answers["/d/manifest.json"] = lambda client, headers: send(client, "200 OK", b"", length=10**12)
    assert "1000000000000 bytes, wanted at most" in refused()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\0" * 100,
        b"HTTP/1.1 99999 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 99999,
    ],
)
def test_garbage(garbage: bytes, script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: client.sendall(garbage)
    assert "garbled" in refused()


def test_a_hostile_reason_is_one_line(script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: send(client, "418 \x1b[31m tea\rpot", b"")
    assert refused().endswith("the server answers 418  [31m tea pot")


@pytest.mark.slow
def test_passing_faults_are_tried_again_after_the_time_that_was_asked_for(
    script: Script, hasty: Limits, tmp_path: Path
) -> None:
    heads = ["503 Busy", "429 Slow down"]

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        if heads:
            send(client, heads.pop(), b"", Retry_After="1")
        else:
            script.file(client, headers, SHARD)

    script.answers[SHARD] = answer
    started = time.monotonic()
    pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert time.monotonic() - started > 2


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://127.0.0.1",
        "http://169.254.169.254/latest/meta-data",
        "http://[fd00:ec2::254]/latest",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/latest",
        "http://100.100.100.200/",
        "http://0.0.0.0/",
        "http://user:pass@127.0.0.1/",
        "http://%31%32%37.0.0.1/",
        "http://[::1",
        "",
    ],
)
def test_redirects_to_where_nobody_is_sent(location: str, script: Script, refused: Callable[..., str]) -> None:
    script.answers[SHARD] = lambda client, headers: send(client, "302 Found", b"x" * 100, Location=location)
    line = refused()
    assert "it redirects to " in line
    assert "pass" not in line.replace("/etc/passwd", "")
    script.answers = {"/d/manifest.json": script.answers[SHARD]}
    assert "it redirects to " in refused()


def test_a_public_server_sends_nobody_inside(script: Script, hasty: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    from genrep.net import client

    def rank(text: str) -> int:
        return 0 if not inside else http_rank(text)

    http_rank, inside = client.rank, []
    monkeypatch.setattr(client, "rank", rank)  # as if this machine were a public one, until it redirects

    def answer(connection: socket.socket, headers: dict[str, str]) -> None:
        inside.append(True)
        send(connection, "302 Found", b"", Location=f"http://127.0.0.1:{script.port}/e/manifest.json")

    script.answers["/d/manifest.json"] = answer
    with pytest.raises(DatasetError, match="an address inside this network or machine"):
        read_remote_manifest(script.url, limits=hasty)
    inside.clear()
    monkeypatch.setattr(client, "ranks", lambda host: [0])  # the name resolved to another address a moment ago
    with pytest.raises(DatasetError, match="an address inside this network or machine"):
        read_remote_manifest(script.url, limits=hasty)
    assert [path for path, _ in script.asked] == ["/d/manifest.json"] * 2


def test_redirects_are_followed_five_times_without_the_password(
    script: Script, small: Path, hasty: Limits, nginx: Callable[[Path], str]
) -> None:
    elsewhere = nginx(small)
    for k in range(6):
        target = f"/d/{k + 1}/manifest.json" if k < 4 else f"{elsewhere}/manifest.json"
        script.answers[f"/d/{k}/manifest.json"] = lambda client, headers, target=target: send(  # type: ignore[misc]
            client, "307 Temporary Redirect", b"", Location=target
        )
    address = script.url.replace("http://", "http://me:secret@")
    assert read_remote_manifest(f"{address}/0", limits=hasty) == read_manifest(small)
    assert all(headers["authorization"] == "basic bwu6c2vjcmv0" for _, headers in script.asked)
    for path in ("/d/manifest.json", "/d/manifest.json?token=secret"):
        script.answers[path] = lambda client, headers: send(client, "301 x", b"", Location="manifest.json")
    with pytest.raises(DatasetError) as caught:
        read_remote_manifest(f"{address}?token=secret", limits=hasty)
    assert str(caught.value) == f"{script.url}: manifest.json: it redirects more than 5 times"


def test_the_password_stays_with_its_server(script: Script, small: Path, hasty: Limits) -> None:
    other = Script(small)
    try:
        script.answers["/d/manifest.json"] = lambda client, headers: send(
            client, "302 Found", b"", Location=f"{other.url}/manifest.json"
        )
        read_remote_manifest(script.url.replace("http://", "http://me:secret@"), limits=hasty)
        assert "authorization" in script.asked[0][1]
        assert "authorization" not in other.asked[0][1]
    finally:
        other.close()


def test_a_query_goes_with_every_file(script: Script, small: Path, hasty: Limits, tmp_path: Path) -> None:
    for path in small.iterdir():
        script.answers[f"/d/{path.name}?token=t"] = lambda client, headers, name=path.name: script.file(  # type: ignore[misc]
            client, headers, f"/d/{name}"
        )
    pull(PullConfig(source=f"{script.url}/?token=t", out=tmp_path / "out", limits=hasty))
    assert all(path.endswith("?token=t") for path, _ in script.asked)


def test_what_else_a_server_offers_is_bounded_and_checked(
    script: Script, hasty: Limits, same: Same, tmp_path: Path
) -> None:
    recipe = json.dumps({"num_pairs": 1}).encode()
    script.answers["/d/recipe.json"] = lambda client, headers: send(client, "200 OK", recipe)
    script.answers["/d/build.json"] = lambda client, headers: send(client, "200 OK", b"[" * 100)
    script.answers["/d/contact-sheet.png"] = lambda client, headers: send(client, "200 OK", b"", length=1 << 40)
    report = pull(PullConfig(source=script.url, out=tmp_path / "out", limits=hasty))
    assert [line.partition(":")[0] for line in report.left_out] == ["recipe.json", "build.json", "contact-sheet.png"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"manifest.json", "README.md"} | {
        f"shard-0000{k}.{end}" for k in range(4) for end in ("beton", "json")
    }


def test_a_server_that_is_not_there_is_one_line(hasty: Limits) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DatasetError, match=rf"^http://127.0.0.1:{port}/d: manifest.json: Connection refused$"):
        read_remote_manifest(f"http://127.0.0.1:{port}/d", limits=hasty)


@pytest.mark.parametrize("sign, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_whoever_waits_for_a_silent_server_can_be_interrupted(
    sign: signal.Signals, status: int, script: Script, tmp_path: Path
) -> None:
    asked = threading.Event()

    def answer(client: socket.socket, headers: dict[str, str]) -> None:
        asked.set()
        script.closing.wait()

    script.answers[SHARD] = answer
    # A shell's background job ignores SIGINT, and so do the processes that it starts.
    heeding = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    run = f"{heeding}; from genrep.datasets_manifest.cli import main; main()"
    arguments = ["pull", script.url, "--out", tmp_path / "out", "--timeout", "3000"]
    puller = subprocess.Popen([sys.executable, "-c", run, *arguments], stderr=subprocess.PIPE, text=True)
    assert asked.wait(60)
    time.sleep(0.2)
    puller.send_signal(sign)
    _, told = puller.communicate(timeout=60)
    assert (puller.returncode, len(told.strip().splitlines())) == (status, 1)


@pytest.mark.parametrize("name", ["shard-00000.beton", "shard-00000.note", "verified", "manifest.json", ""])
def test_links_in_the_folder_are_not_followed(name: str, script: Script, hasty: Limits, tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    (out / ".genrep-pull" if name else out).mkdir(parents=True)
    (out / ".genrep-pull" / name).symlink_to(outside)
    with pytest.raises(
        ResumeError, match=r"\.genrep-pull there was not left by a pull: it is a link or a folder; remove it"
    ):
        pull(PullConfig(source=script.url, out=out, limits=hasty))
    assert not outside.exists()
