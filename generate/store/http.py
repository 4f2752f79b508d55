"""One request to a web server: redirects, timeouts, and which failures are worth another try."""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from typing import IO, Any
from urllib.parse import urlsplit

from genrep import __version__
from genrep.untrusted import one_line

TIMEOUT = 30.0  # seconds without a byte
SCHEMES = ("http", "https")
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}
_UNREACHABLE = {errno.ECONNREFUSED, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN}


class Refused(Exception):
    """An answer, or a failure, that another try would not change. The text says which."""


class Lost(Exception):
    """A failure that another try may mend; ``unreachable`` if there was no connection at all."""

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable
        self.start: int | None = None  # the byte that the answer began with, if there was one


class RangeRefused(Lost):
    """The server has no such rest of the file: start from zero."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    def http_error_302(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any
    ) -> IO[bytes] | None:
        fp.close()  # the base class would read all of a body that may have no end
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        scheme = urlsplit(newurl).scheme.lower()
        if scheme not in SCHEMES or (req.type == "https" and scheme != "https"):
            raise Refused(f"it redirects to {one_line(newurl)}, which is no {req.type} address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def request(url: str, offset: int = 0, validator: str | None = None) -> http.client.HTTPResponse:
    """The answer to GET, from byte ``offset`` if the file still is the one of ``validator`` (an ETag or a date).

    Raises Refused or Lost.
    """
    headers = {"User-Agent": f"genrep/{__version__}", "Accept-Encoding": "identity"}
    if offset and validator:
        headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
    try:
        opener = urllib.request.build_opener(_Redirects)
        answer: http.client.HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
        return answer
    except urllib.error.HTTPError as error:
        error.close()
        raise _judge_status(error.code, str(error.reason), ranged="Range" in headers) from None
    except urllib.error.URLError as error:
        raise judge(error.reason if isinstance(error.reason, Exception) else Refused(str(error.reason))) from None
    except (http.client.HTTPException, OSError, ValueError) as error:
        raise judge(error) from None


def _judge_status(code: int, reason: str, *, ranged: bool) -> Exception:
    text = f"the server answers {code} {one_line(reason)}".rstrip()
    if ranged and code == 416:
        return RangeRefused(text)
    return Lost(text) if code in _TRANSIENT_STATUS else Refused(text)


def judge(error: Exception) -> Exception:
    """What a failure of the network is: Lost or Refused."""
    if isinstance(error, (Refused, Lost)):
        return error
    text = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _UNREACHABLE:
        return Lost(text, unreachable=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        return Refused(f"its certificate is not trusted: {one_line(error.verify_message)}")
    if isinstance(error, TimeoutError):
        return Lost(f"no answer for {TIMEOUT:g} s")
    if isinstance(error, http.client.IncompleteRead):
        return Lost("the connection ended early")
    if isinstance(error, http.client.InvalidURL) or not isinstance(error, (http.client.HTTPException, OSError)):
        return Refused(f"not an address: {text}")
    return Lost(text)
