"""One page, served to this machine alone."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from genrep.errors import ConfigError

ADDRESS = "127.0.0.1"
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SECONDS = 30  # that a connection may stand still


class PageServer(ThreadingHTTPServer):
    """Answers ``/`` with the page and nothing else with anything.

    Raises ConfigError where the port is taken. ``port`` 0 is any that is free.
    """

    daemon_threads = True

    def __init__(self, page: bytes, port: int) -> None:
        self.page = page
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise ConfigError.naming(
                "{serve} {}: {}; wanted a free port, or {serve} alone", port, (error.strerror or str(error)).lower()
            ) from None
        self.names = {f"{name}:{self.server_port}" for name in (ADDRESS, "localhost")}
        self.url = f"http://{ADDRESS}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever hung up is not missed."""


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    timeout = SECONDS
    server_version, sys_version = "genrep", ""

    def do_GET(self) -> None:
        """The page, for who asks for it by this machine's name: a page from elsewhere that resolves to us gets nothing."""
        if self.path.partition("?")[0] != "/" or self.headers.get("Host") not in self.server.names:
            self.send_error(404)
            return
        self.send_response(200)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.page)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.server.page)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Not on the terminal."""
