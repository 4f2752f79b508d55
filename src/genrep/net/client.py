"""Files on a web server: one request per open file, with ranges, bounded redirects and nothing compressed.

Range requests after RFC 9110, section 14; If-Range (13.1.5) tells a file that changed from one that is still the same. A
redirect leads no further inside than the address itself, and an address is printed without what is secret in it.
"""

from __future__ import annotations

import base64
import errno
import http.client
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cached_property, partial
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from .. import __version__
from ..untrusted import one_line
from .limits import Limits, Lost, Missing, RangeRefused, Refused, Stop, Watch

PUBLIC, PRIVATE, LOOPBACK, NEVER = range(4)  # how far inside; a redirect leads no further inside than we were
_METADATA = {ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")}
_TRANSLATED = IPv6Network("64:ff9b::/96")  # IPv4 behind NAT64


def rank(text: str) -> int:
    """How far inside an address lies: PUBLIC, PRIVATE, LOOPBACK, or NEVER for link-local, metadata and the like."""
    address = _unwrapped(ip_address(text.partition("%")[0]))
    if address.is_loopback:
        return LOOPBACK
    if address in _METADATA or address.is_link_local or address.is_multicast or address.is_unspecified:
        return NEVER
    if address.is_global:
        return PUBLIC
    return NEVER if address.is_reserved else PRIVATE


def _unwrapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.sixtofour is not None:
            return address.sixtofour
    return address


def ranks(host: str) -> list[int]:
    """The ranks of all addresses of a host; none if its name cannot be resolved here."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [rank(str(entry[4][0])) for entry in found]


def shown(url: str) -> str:
    """An address without user, password and query, which may be secret; other text as it is, in one line."""
    if "://" not in url:
        return one_line(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return one_line(url.partition("://")[0]) + "://..."
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


SCHEMES = ("http", "https")
MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_MISSING = {403, 404, 410}  # stores without a right to list say 403 of what is not there
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_HOST = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]*)?")  # nothing quoted: it would be read otherwise further on
_UNREACHABLE = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}
_PAGES = ("text/html", "application/xhtml+xml")


class HttpFolder:
    """The files under one http or https address, or the file at it.

    ``headers`` go to that server only, never on with a redirect.
    """

    def __init__(self, url: str, limits: Limits, stop: Stop, headers: dict[str, str] | None = None) -> None:
        self.limits, self.stop, self.where = limits, stop, shown(url)
        self.headers = dict(headers or {})
        try:
            parts = urlsplit(url)
            self.host, _ = parts.hostname, parts.port
        except ValueError:
            parts, self.host = urlsplit(""), None
        if parts.scheme not in SCHEMES or not self.host:
            raise Refused("not an http or https address")
        user, _, netloc = parts.netloc.rpartition("@")
        if user:
            self.headers["Authorization"] = f"Basic {base64.b64encode(unquote(user).encode()).decode()}"
        self.parts = parts._replace(netloc=netloc, fragment="")

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The system's certificates, read once."""
        return ssl.create_default_context()

    def open(
        self, name: str | None, offset: int = 0, validator: str | None = None, size: int | None = None
    ) -> HttpAnswer:
        """Ask for a file from byte ``offset``, if it still is the one of ``validator`` (an ETag or a date).

        ``name``: under the address; None = the file that the address itself names. ``size``: that many bytes and no more,
        where the server can. Raises Refused, Lost or Stopped.
        """
        headers = {"User-Agent": f"genrep/{__version__}", "Accept-Encoding": "identity"}
        if ranged := offset > 0 or size is not None:
            headers["Range"] = f"bytes={offset}-{'' if size is None else offset + size - 1}"
            if validator:
                headers["If-Range"] = validator
        watch = Watch(self.limits, self.stop)
        try:
            path = self.parts.path if name is None else f"{self.parts.path.rstrip('/')}/{name}"
            url = urlunsplit(self.parts._replace(path=path))
            return HttpAnswer(_Request(self, watch).ask(url, headers), offset if ranged else None, watch)
        except BaseException:
            watch.close()
            raise


class HttpAnswer:
    """An answer: ``start``, the place of its first byte; ``total``, the file's size; ``validator``, the file's version."""

    def __init__(self, response: http.client.HTTPResponse, offset: int | None, watch: Watch) -> None:
        self.response, self.watch = response, watch
        headers = response.headers
        try:
            self.start, self.total = _placed(response, offset)
            coding = headers.get("Content-Encoding", "identity").strip().lower()
            if coding not in ("", "identity"):
                raise Refused(f"the server sends it compressed ({one_line(coding)}), which was not asked for")
            if headers.get_content_type() in _PAGES:
                raise Refused("the server sends a web page instead of the file")
        except BaseException:
            self.close()
            raise
        etag = headers.get("ETag")
        self.etag: str | None = etag if etag and etag.startswith('"') else None  # a weak one does not tell bytes apart
        self.modified: str | None = headers.get("Last-Modified")
        self.validator = self.etag or self.modified

    def read(self, size: int) -> bytes:
        """Up to ``size`` of the next bytes; none at the end, be it too early. Raises Lost or Stopped."""
        try:
            data = self.response.read1(size)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise judge(error, self.watch) from None
        self.watch.count(len(data))
        self.watch.stop.check()
        if not data and self.watch.expired:
            raise judge(TimeoutError(), self.watch)
        return data

    def close(self) -> None:
        """Hang up."""
        self.watch.close()
        self.response.close()


def _placed(response: http.client.HTTPResponse, offset: int | None) -> tuple[int, int | None]:
    """Start and total of an answer to a request from ``offset`` on; None = for the whole file."""
    if response.status == 200:
        return 0, response.length
    if response.status == 206 and offset is not None:
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found and int(found[1]) == offset <= int(found[2]):
            return offset, None if found[3] == "*" else int(found[3])
        raise RangeRefused("the server sends another part than was asked for")
    if response.status == 416 and offset is not None:
        raise RangeRefused("the server has no such part of the file")
    text = f"the server answers {response.status} {one_line(response.reason or '')}".rstrip()
    if response.status in _TRANSIENT:
        wait = response.headers.get("Retry-After", "")
        raise Lost(text, wait=float(wait) if re.fullmatch(r"[0-9]{1,6}", wait) else 0.0)
    raise Missing(text) if response.status in _MISSING else Refused(text)


class _Request:
    """One request and the redirects that it meets with."""

    def __init__(self, source: HttpFolder, watch: Watch) -> None:
        self.source, self.watch = source, watch
        self.allowed: int | None = None  # how far inside a redirect may lead; None before there was one
        self.peer: int | None = None  # how far inside the first server is; None behind a proxy

    def ask(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """The answer. Raises Refused or Lost."""
        first = urlsplit(url)
        for _ in range(MAX_REDIRECTS + 1):
            here = urlsplit(url)
            ours = (here.scheme, here.netloc) == (first.scheme, first.netloc)
            response = self._send(url, {**headers, **(self.source.headers if ours else {})})
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location")
            response.close()
            url = self._follow(url, location)
        raise Refused(f"it redirects more than {MAX_REDIRECTS} times")

    def _follow(self, url: str, location: str | None) -> str:
        """The address that a redirect leads to, if it may."""
        if self.allowed is None:
            self.allowed = self.peer if self.peer is not None else min(ranks(self.source.host or ""), default=0)
            self.allowed = min(self.allowed, NEVER - 1)
        try:
            target = urljoin(url, location or "")
            parts = urlsplit(target)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise Refused("it redirects to something that is not an address") from None
        if not location or parts.scheme not in SCHEMES or not host or not _HOST.fullmatch(parts.netloc):
            raise Refused(f"it redirects to {shown(target)}, which is not the address of a web server")
        if parts.scheme != "https" and urlsplit(url).scheme == "https":
            raise Refused(f"it redirects from https to {shown(target)}")
        if max(ranks(host), default=0) > self.allowed:
            raise _inward(target)
        return target

    def _send(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        opener = urllib.request.OpenerDirector()  # knows http or https and nothing else, and judges no status
        opener.add_handler(urllib.request.ProxyHandler())
        opener.add_handler(_Web(self._gate, self.source))
        try:
            response = opener.open(urllib.request.Request(url, headers=headers), timeout=self.source.limits.timeout)
        except urllib.error.URLError as error:
            reason = error.reason if isinstance(error.reason, Exception) else OSError(str(error.reason))
            raise judge(reason, self.watch) from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise judge(error, self.watch) from None
        assert isinstance(response, http.client.HTTPResponse)
        if self.watch.expired:  # its headers ended with the connection
            response.close()
            raise judge(TimeoutError(), self.watch)
        return response

    def _gate(self, connection: socket.socket, proxied: bool) -> None:
        """Look at a new connection before anything is asked over it: names may resolve otherwise than a moment ago."""
        self.watch.attach(connection)
        if proxied:
            return
        found = rank(str(connection.getpeername()[0]))
        if self.allowed is None:
            self.peer = found
        elif found > self.allowed:
            raise _inward(f"{connection.getpeername()[0]}")


def _inward(target: str) -> Refused:
    return Refused(f"it redirects to {shown(target)}, an address inside this network or machine")


class _Web(urllib.request.AbstractHTTPHandler):
    """http and https; ``gate`` looks at each connection before anything is asked over it."""

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def __init__(self, gate: Callable[[socket.socket, bool], None], source: HttpFolder) -> None:
        super().__init__()
        self.gate, self.source = gate, source

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, http.client.HTTPConnection, req), req)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        kind = partial(http.client.HTTPSConnection, context=self.source.context)
        return self.do_open(partial(self._connection, kind, req), req)

    def _connection(
        self, kind: Callable[..., http.client.HTTPConnection], req: urllib.request.Request, host: str, **options: Any
    ) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        connect, proxied = connection.connect, req.host != unquote(urlsplit(req.full_url).netloc)

        def connect_and_look() -> None:
            connect()
            self.gate(connection.sock, proxied)

        connection.connect = connect_and_look  # type: ignore[method-assign]
        return connection


def judge(error: Exception, watch: Watch) -> Exception:
    """Classify a failure of the network as Lost or Refused. Its text names no address."""
    if isinstance(error, (Refused, Lost)):
        return error
    if watch.expired or isinstance(error, TimeoutError):
        return Lost(
            f"the connection has stalled: less than {watch.limits.min_rate:g} bytes/s in {watch.limits.timeout:g} s",
            stalled=True,
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"its certificate is not trusted: {one_line(error.verify_message)}")
    if isinstance(error, (http.client.InvalidURL, UnicodeError)):
        return Refused("not an address")
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME:
        return Refused("there is no host of that name")
    if isinstance(error, http.client.IncompleteRead):
        return Lost("the connection ended early")
    if isinstance(error, (http.client.HTTPException, ValueError)):
        return Lost("its answer is garbled")
    unreachable = isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _UNREACHABLE
    reason = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    return Lost(reason, unreachable=unreachable)
