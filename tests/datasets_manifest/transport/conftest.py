"""Servers on this machine: nginx, an object store, a proxy that misbehaves, and a server that says what it is told to."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli, layout
from genrep.datasets_manifest.manifest import Shard, build_manifest, shard_name, write_manifest
from genrep.datasets_manifest.schema import field_table
from genrep.datasets_manifest.transport import Limits
from genrep.files import write_json

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No proxy and no credentials of the user's."""
    for name in (*PROXIES, *(name.upper() for name in PROXIES), "HF_TOKEN", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))


@pytest.fixture
def limits() -> Limits:
    """Little patience."""
    return Limits(timeout=5, retries=3, backoff=0.01)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """``command("pull", …)`` gives exit status, stdout and stderr, which holds at most one line of error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = invoke(cli.group, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert sum(line.startswith("Error: ") for line in err.splitlines()) == (status != 0), err
        return status, out, err

    return run


def contents(folder: Path) -> dict[str, str]:
    """sha256 of everything in a folder, whatever its name."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
        for path in folder.rglob("*")
    }


@pytest.fixture
def same() -> Callable[[Path, Path], None]:
    """``same(one, other)``: two folders hold the same files, byte for byte, and nothing else."""

    def compare(one: Path, other: Path) -> None:
        assert contents(one) == contents(other)

    return compare


def noisy(data: bytes, fields: list[dict[str, Any]], index: int) -> bytes:
    """The template as pair ``index``, with noise wherever no table is: no two places look alike."""
    noise = bytearray(random.Random(index).randbytes(len(data)))
    tables = layout.HEADER.size + layout.DESCRIPTOR.size * len(fields)
    record = np.frombuffer(data, layout.record_dtype(fields), count=1, offset=tables).copy()
    record["index"] = index
    end = layout.HEADER.unpack_from(data)[4]
    noise[:tables], noise[end:] = data[:tables], data[end:]
    noise[tables : tables + record.nbytes] = record.tobytes()
    return bytes(noise)


def build(write: Callable[..., None], folder: Path, shards: int, page: int = 2 << 20) -> Path:
    """A finished dataset of one pair a shard: two pages each, by default of the smallest size that FFCV allows."""
    folder.mkdir()
    fields = field_table((8, 6), "raw")
    write(folder / "template", fields, [(np.zeros((8, 6, 3), np.uint8), 0, 0)], page)
    data = (folder / "template").read_bytes()
    (folder / "template").unlink()
    entries = []
    for k in range(shards):
        made = noisy(data, fields, k)
        (folder / shard_name(k)).write_bytes(made)
        digest = hashlib.sha256(made).hexdigest()
        nothing = hashlib.sha256().hexdigest()
        shard = Shard(
            name=shard_name(k), first_index=k, count=1, bytes=len(made), sha256=digest, latents_sha256=nothing
        )
        record = json.dumps(shard.to_json(), indent=2, sort_keys=True) + "\n"
        (folder / shard.record_name).write_text(record)  # nothing is synced: this takes the disk's time
        entries.append(shard)
    recipe = {"num_pairs": shards, "pairs_per_shard": 1, "seed": 0, "views": {"std": 0.2}}
    write_json(folder / "recipe.json", recipe)
    (folder / "README.md").write_text("# A dataset\n")
    write_manifest(folder, build_manifest(recipe, fields, ["only"], entries, {"device": "cpu"}))
    return folder


@pytest.fixture(scope="session")
def builder(write_beton: Callable[..., None]) -> Callable[..., Path]:
    """``builder(folder, shards, page=…)``: a finished dataset of noise."""
    return partial(build, write_beton)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory, builder: Callable[..., Path]) -> Path:
    """Four shards; never modified."""
    return builder(tmp_path_factory.mktemp("small") / "shards", 4)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory, builder: Callable[..., Path]) -> Iterator[Path]:
    """Two hundred shards, 840 MB; never modified, gone afterwards."""
    folder = builder(tmp_path_factory.mktemp("large") / "shards", 200)
    yield folder
    shutil.rmtree(folder)


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


NGINX = """
daemon off; master_process off; pid {root}/pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
  access_log {root}/access.log;
  client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;
  uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;
  gzip on; gzip_types *; gzip_min_length 1;
  server {{ listen 127.0.0.1:{port}; root {root}/www; }}
}}
"""


@pytest.fixture(scope="session")
def nginx_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, int]]:
    """A running nginx: the folder it serves, and its port."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        lacking = "nginx is not installed (apt-get install nginx-light)"
        pytest.fail(lacking) if os.environ.get("GENREP_CI") else pytest.skip(lacking)
    root, port = tmp_path_factory.mktemp("nginx"), free_port()
    (root / "www").mkdir()
    (root / "conf").write_text(NGINX.format(root=root, port=port))
    server = subprocess.Popen([program, "-e", root / "error.log", "-c", root / "conf"])
    for _ in range(200):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        assert server.poll() is None, (root / "error.log").read_text()
        time.sleep(0.02)
    yield root / "www", port
    server.terminate()
    server.wait()


@pytest.fixture
def nginx(nginx_root: tuple[Path, int]) -> Iterator[Callable[[Path], str]]:
    """``nginx(folder)``: the address at which nginx serves a folder."""
    www, port = nginx_root
    links = []

    def serve(folder: Path) -> str:
        link = www / f"d{len(list(www.iterdir()))}-{folder.name}"
        link.symlink_to(folder)
        links.append(link)
        return f"http://127.0.0.1:{port}/{link.name}"

    yield serve
    for link in links:
        link.unlink()


class Proxy:
    """Between a client and a server: counts what it hands on, cuts connections, flips bits of large bodies."""

    def __init__(self, port: int) -> None:
        self.upstream = port
        self.handed = 0  # bytes to clients
        self.taken = 0  # bytes to the server
        self.most = float("inf")  # of those: it hands on no more
        self.flips = 0  # that are still to be done
        self.cuts = 0.0  # how often a connection is cut: part of those there are
        self.cut_off = self.flipped = 0
        self.random = random.Random(0)
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client: socket.socket) -> None:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
        with client, socket.create_connection(("127.0.0.1", self.upstream)) as server:
            threading.Thread(target=self.ask, args=(client, server), daemon=True).start()
            with suppress(OSError):
                self.answer(client, server)
            for end in (client, server):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)  # closing alone waits for the thread that reads from it

    def ask(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while (data := client.recv(65536)) and self.taken <= self.most:
                server.sendall(data)
                with self.lock:
                    self.taken += len(data)
            while client.recv(65536):  # keeps whoever sends waiting for an answer
                pass
            server.shutdown(socket.SHUT_RDWR)

    def answer(self, client: socket.socket, server: socket.socket) -> None:
        with self.lock:
            cut = self.random.randrange(1, 4 << 20) if self.random.random() < self.cuts else None
        seen, body = 0, -1
        while data := bytearray(server.recv(1 << 18)):
            if body < 0 and b"\r\n\r\n" in data:
                body = seen + data.index(b"\r\n\r\n") + 4
            self.damage(data, seen, body)
            seen += len(data)
            if cut is not None and seen > cut:
                self.cut_off += 1
                return
            client.sendall(data)
            self.handed += len(data)

    def damage(self, data: bytearray, seen: int, body: int) -> None:
        with self.lock:
            if self.flips and seen > body > 0 and len(data) > 100_000 and self.random.random() < 0.1:  # no manifest
                self.flips -= 1
                self.flipped += 1
                data[self.random.randrange(len(data) // 2, len(data))] ^= 1 << self.random.randrange(8)  # no headers

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def proxy(nginx_root: tuple[Path, int]) -> Iterator[Proxy]:
    """Before nginx, for whatever it serves."""
    with closing(Proxy(nginx_root[1])) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def store_url() -> Iterator[str]:
    """A running S3 server."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(store_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """``s3://…`` of a new bucket on it."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", store_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    name = f"bucket-{random.SystemRandom().randrange(10**9)}"
    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


@pytest.fixture
def store_proxy(store_url: str, bucket: str) -> Iterator[Proxy]:
    """Before the S3 server, for processes whose AWS_ENDPOINT_URL it is: s3fs keeps what it opened in this one."""
    with closing(Proxy(int(store_url.rpartition(":")[2]))) as proxy:
        yield proxy


@pytest.fixture
def filled(bucket: str) -> Iterator[Callable[[Path], str]]:
    """``filled(folder)``: the address of a copy in the bucket; gone afterwards, as the server keeps it in memory."""
    import boto3

    client, name = boto3.client("s3"), bucket.removeprefix("s3://")

    def fill(folder: Path) -> str:
        for path in folder.iterdir():
            client.put_object(Bucket=name, Key=f"d/{path.name}", Body=path.read_bytes())
        return f"{bucket}/d"

    yield fill
    for entry in client.list_objects_v2(Bucket=name).get("Contents", []):
        client.delete_object(Bucket=name, Key=entry["Key"])
