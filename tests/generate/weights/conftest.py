"""A web server on this machine that misbehaves as told, and families of generators that cost nothing."""

import json
import sys
import threading
import time
import types
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from genrep.errors import WeightsError
from genrep.generate.generators import families
from genrep.generate.generators.base import Checkpoint
from genrep.net import Limits


@dataclass
class Served:
    """One file of the server, and how it is served."""

    body: bytes
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    statuses: list = field(default_factory=list)  # of the next requests, before it is served
    cuts: list = field(default_factory=list)  # of the next answers: bytes after which the connection is dropped
    headers: dict = field(default_factory=dict)
    length: int | None = None  # claimed
    chunked: bool = False
    pause: float = 0.0  # after each 64 KiB


class Server:
    def __init__(self):
        self.files, self.asked = {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments):
                pass

            def do_GET(self):
                try:
                    outer.answer(self)
                except ConnectionError:  # whoever asked is gone
                    self.close_connection = True

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def serve(self, name, body, **how):
        self.files[f"/{name}"] = Served(body, **how)
        return f"{self.url}/{name}"

    def ranges_asked(self):
        return [headers.get("Range") for _, headers in self.asked]

    def answer(self, handler):
        name = handler.path.partition("?")[0]
        self.asked.append((name, dict(handler.headers)))
        served = self.files.get(name)
        if served is None or served.statuses:
            code = served.statuses.pop(0) if served else 404
            handler.send_response(code)
            for key, value in (served.headers if served and 300 <= code < 400 else {}).items():
                handler.send_header(key, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        start = self.start(served, handler.headers)
        if start is not None and start >= len(served.body):
            handler.send_response(416)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        self.send(handler, served, start)

    @staticmethod
    def start(served, headers):
        known = served.etag if served.etag and not served.etag.startswith("W/") else served.modified
        wanted = headers.get("Range")
        if not served.ranges or wanted is None or headers.get("If-Range", known) != known:
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    @staticmethod
    def send(handler, served, start):
        body = served.body[start or 0 :]
        handler.send_response(200 if start is None else 206)
        own = {"ETag": served.etag, "Last-Modified": served.modified}
        if start is not None:
            own["Content-Range"] = f"bytes {start}-{len(served.body) - 1}/{len(served.body)}"
        if served.chunked:
            own["Transfer-Encoding"] = "chunked"
        else:
            own["Content-Length"] = str(len(body) if served.length is None else served.length)
        for key, value in {**own, **served.headers}.items():
            if value is not None:
                handler.send_header(key, value)
        handler.end_headers()
        cut = served.cuts.pop(0) if served.cuts else None
        for begin in range(0, len(body) if cut is None else cut, 65536):
            piece = body[begin : begin + 65536 if cut is None else min(begin + 65536, cut)]
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if served.chunked else piece)
            handler.wfile.flush()
            time.sleep(served.pause)
        if served.chunked and cut is None:
            handler.wfile.write(b"0\r\n\r\n")
        if cut is not None or served.length is not None:
            handler.close_connection = True


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.thread.join()
    server.http.server_close()


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No proxy, no cache of the user's, and no waiting between attempts."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("genrep.generate.weights.download.LIMITS", Limits(timeout=5.0, retries=4, backoff=0.005))


@pytest.fixture
def refused():
    """What a call is refused with: one line."""

    def refused(call, *arguments, error=WeightsError, **options):
        with pytest.raises(error) as caught:
            call(*arguments, **options)
        line = str(caught.value)
        assert line == " ".join(line.split()), line
        return line

    return refused


@pytest.fixture
def bytes_of():
    def bytes_of(size, seed=0):
        """Bytes that look like no format, and differ at every place."""
        import random

        return b"w" + random.Random(seed).randbytes(size - 1)

    return bytes_of


class Toy(types.ModuleType):
    """A family that knows files by a key of their dictionary, and reads a config beside them."""

    OPTIONS = frozenset()

    def __init__(self, name, key):
        super().__init__(f"toy_families_{name}")
        self.name, self.key, self.asked, self.pattern = name, key, [], f"{name}*.pt"

    def find(self, folder):
        return next(iter(sorted(folder.glob(self.pattern))), None)

    def recognise(self, content, path, *, named, network=None):
        self.asked.append(named)
        if not isinstance(content, dict) or self.key not in content:
            return None
        if content[self.key] == "broken":
            raise WeightsError(f"weights {path}: a broken {self.name}")
        beside = path.with_name("config.json")
        scale = json.loads(beside.read_text())["scale"] if beside.exists() else 1
        weight = content[self.key] * scale
        return Checkpoint(family=self.name, tensors={"weight": weight}, config={"taps": (1, 3), "scale": scale})


@pytest.fixture
def toys(monkeypatch):
    toys = [Toy("red", "r"), Toy("green", "g")]
    for toy in toys:
        monkeypatch.setitem(sys.modules, toy.__name__, toy)
    monkeypatch.setattr(families, "FAMILIES", {toy.name: toy.__name__ for toy in toys})
    return toys
