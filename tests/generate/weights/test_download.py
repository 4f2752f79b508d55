"""Downloads from a server that answers with anything but the file."""

import contextlib
import hashlib
import socket
import threading
import time

import pytest

from genrep.errors import WeightsError
from genrep.generate.weights import download as transfer
from genrep.generate.weights.download import download, file_name
from genrep.net import Limits, client

SIZE = 300_000


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("how", [{}, {"chunked": True}, {"etag": None}, {"headers": {"Content-Length": None}}])
def test_a_download_gives_the_file_and_nothing_else(server, tmp_path, bytes_of, how):
    body = bytes_of(SIZE)
    if "headers" in how:  # neither length nor chunks: the end of the connection ends the file
        how = {"headers": {"Content-Length": None, "Connection": "close"}, "length": 0}
    url = server.serve("net.pkl", body, **how)
    facts = download(url, tmp_path / "net.pkl", sha256=sha256(body))
    assert (tmp_path / "net.pkl").read_bytes() == body
    assert names(tmp_path) == ["net.pkl"]
    assert (facts.sha256, facts.bytes, facts.url, facts.resumed_from) == (sha256(body), SIZE, url, 0)
    assert server.asked[0][1]["User-Agent"].startswith("genrep/0")


@pytest.mark.parametrize(
    ("statuses", "words", "asked"),
    [
        ([404], "404", 1),
        ([403], "403", 1),
        ([204], "204", 1),
        ([206], "206", 1),
        ([500] * 9, "500", transfer.LIMITS.retries + 1),
    ],
)
def test_a_status_that_is_no_file_is_one_line_with_address_and_path(
    server, tmp_path, refused, statuses, words, asked, bytes_of
):
    url = server.serve("net.pkl", bytes_of(10), statuses=statuses)
    line = refused(download, url, tmp_path / "net.pkl")
    assert words in line and url in line and f"{tmp_path / 'net.pkl'}" in line
    assert len(server.asked) == asked
    assert names(tmp_path) == []


def test_redirects_are_followed_with_the_range(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    server.serve("real.pkl", body, cuts=[100_000])
    for name, code in (("a", 302), ("b", 307), ("c", 308)):
        url = server.serve(name, b"", statuses=[code] * 5, headers={"Location": "/real.pkl"})
        server.files["/real.pkl"].cuts[:] = [100_000]
        server.asked.clear()
        assert download(url, tmp_path / name).sha256 == sha256(body)
        assert ("/real.pkl", "bytes=100000-") in [(path, headers.get("Range")) for path, headers in server.asked]


def test_the_body_of_a_redirect_is_not_read(server, tmp_path, bytes_of):
    server.serve("real.pkl", bytes_of(SIZE))
    headers = {"Location": "/real.pkl", "Content-Length": str(10**12)}
    url = server.serve("a", b"", statuses=[302], headers=headers)
    assert download(url, tmp_path / "a").bytes == SIZE


def test_a_circle_of_redirects_ends(server, tmp_path, refused):
    url = server.serve("a", b"", statuses=[302] * 1000, headers={"Location": "/a"})
    assert "redirects more than 5 times" in refused(download, url, tmp_path / "a")


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:1", "//[bad/x"])
def test_redirects_out_of_the_web_are_refused(server, tmp_path, refused, target):
    url = server.serve("a", b"", statuses=[302], headers={"Location": target})
    assert url in refused(download, url, tmp_path / "a")
    assert names(tmp_path) == []


def test_redirects_further_inside_are_refused(server, tmp_path, bytes_of, refused, monkeypatch):
    """A public server, as this one seems to be at first, sends nobody to an address of the user's own network."""
    url = server.serve("a", b"", statuses=[302] * 2, headers={"Location": "/real.pkl"})
    server.serve("real.pkl", bytes_of(SIZE))
    rank, asked = client.rank, server.asked
    monkeypatch.setattr(client, "rank", lambda text: rank(text) if asked else 0)
    monkeypatch.setattr(client, "ranks", lambda host: [rank(host)])
    assert "an address inside this network or machine" in refused(download, url, tmp_path / "a")
    asked.clear()
    monkeypatch.setattr(client, "ranks", lambda host: [0])  # the name resolved to another address a moment ago
    assert "an address inside this network or machine" in refused(download, url, tmp_path / "a")
    assert {path for path, _ in server.asked} == {"/a"}
    assert names(tmp_path) == []


def test_a_redirect_to_the_metadata_of_a_cloud_is_refused_wherever_we_are(server, tmp_path, refused):
    url = server.serve("a", b"", statuses=[302], headers={"Location": "http://169.254.169.254/latest/meta-data/"})
    assert "an address inside this network or machine" in refused(download, url, tmp_path / "a")


@pytest.mark.parametrize("length", [SIZE + 1, 10**9])
def test_a_length_that_does_not_come_is_a_lost_connection(server, tmp_path, bytes_of, refused, length):
    url = server.serve("net.pkl", bytes_of(SIZE), length=length)
    assert f"of {length} bytes" in refused(download, url, tmp_path / "net.pkl")
    assert not (tmp_path / "net.pkl").exists()


def test_more_than_the_length_is_not_taken(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, length=1000)
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body[:1000])


@pytest.mark.parametrize("length", ["10e3", "-5", "9" * 30])
def test_an_absurd_length_ends_in_a_file_or_in_one_line(server, tmp_path, bytes_of, length):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, headers={"Content-Length": length, "Connection": "close"}, length=0)
    try:
        assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)
    except WeightsError as error:
        assert "do not fit on the disk" in str(error)
        assert names(tmp_path) == []


def test_a_file_larger_than_the_disk_is_refused_before_it_comes(server, tmp_path, bytes_of, refused):
    url = server.serve("net.pkl", bytes_of(100), length=10**17)
    assert "do not fit on the disk" in refused(download, url, tmp_path / "net.pkl")
    assert names(tmp_path) == []


def test_an_empty_file_is_refused(server, tmp_path, refused):
    assert "empty" in refused(download, server.serve("net.pkl", b""), tmp_path / "net.pkl")
    assert names(tmp_path) == []


@pytest.mark.parametrize("wanted", ["0" * 64, "3659b4b6", "3659B4B6"])
def test_another_content_than_published_is_removed_and_both_are_named(server, tmp_path, bytes_of, refused, wanted):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body)
    line = refused(download, url, tmp_path / "net.pkl", sha256=wanted)
    assert wanted.lower() in line and sha256(body) in line and url in line
    assert names(tmp_path) == []


@pytest.mark.parametrize("digits", [8, 16, 64])
def test_the_first_digits_of_the_sha256_are_enough(server, tmp_path, bytes_of, digits):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body)
    assert download(url, tmp_path / "net.pkl", sha256=sha256(body)[:digits].upper()).bytes == SIZE


@pytest.mark.parametrize("wanted", ["", "abc", "g" * 64, "0" * 65, 12345678.5])
def test_what_is_no_sha256_is_refused(server, tmp_path, bytes_of, refused, wanted):
    assert "64 hex digits" in refused(download, server.serve("a", b"x"), tmp_path / "a", sha256=wanted)


def test_a_file_that_is_there_is_not_downloaded_but_checked(server, tmp_path, bytes_of, refused):
    (tmp_path / "net.pkl").write_bytes(b"by hand")
    url = server.serve("net.pkl", bytes_of(SIZE))
    assert download(url, tmp_path / "net.pkl", sha256=sha256(b"by hand")).bytes == 7
    assert "remove it" in refused(download, url, tmp_path / "net.pkl", sha256="0" * 64)
    assert (tmp_path / "net.pkl").read_bytes() == b"by hand"
    assert server.asked == []


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"<!DOCTYPE html><html>Sign in</html>", {}),
        (
            b"\xef\xbb\xbf\n <HTML><body>Google Drive can't scan this file</body>",
            {"Content-Type": "application/octet-stream"},
        ),
        (b"anything", {"Content-Type": "text/html; charset=utf-8"}),
    ],
)
def test_a_web_page_instead_of_the_file_is_named(server, tmp_path, refused, body, headers):
    line = refused(download, server.serve("net.pkl", body, headers=headers), tmp_path / "net.pkl")
    assert "web page" in line and str(tmp_path / "net.pkl") in line
    assert names(tmp_path) == []


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("host", [None, "no-such-host.invalid"])
def test_without_a_network_one_line_says_whence_and_whereto_at_once(tmp_path, refused, monkeypatch, host):
    monkeypatch.setattr(transfer.Patience, "again", lambda *arguments: pytest.fail("it waited"))
    url = f"http://{host or '127.0.0.1'}:{closed_port()}/net.pkl"
    line = refused(download, url, tmp_path / "net.pkl")
    assert url in line and "put it at that path" in line and str(tmp_path / "net.pkl") in line
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://x/y",
        "net.pkl",
        "http://",
        "http://a b/c",
        "http://\n/c",
        "http://[::1/x",
        "http://x:port/a",
    ],
)
def test_what_is_no_address_is_refused(tmp_path, refused, url):
    assert "addres" in refused(download, url, tmp_path / "a") or url == "http://"


def test_a_server_that_speaks_no_http_is_refused(tmp_path, refused):
    listener = socket.create_server(("127.0.0.1", 0))

    def babble():
        for _ in range(transfer.LIMITS.retries + 1):
            connection, _ = listener.accept()
            connection.recv(4096)
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.close()

    thread = threading.Thread(target=babble)
    thread.start()
    assert "put it at that path" in refused(download, f"http://127.0.0.1:{listener.getsockname()[1]}/a", tmp_path / "a")
    thread.join()
    listener.close()


def test_a_body_without_an_end_is_left_and_removed(server, tmp_path, bytes_of, refused, monkeypatch):
    monkeypatch.setattr(transfer, "MAX_BYTES", 200_000)
    url = server.serve("net.pkl", bytes_of(SIZE), chunked=True)
    assert "sends more than the limit of 200,000 bytes" in refused(download, url, tmp_path / "net.pkl")
    url = server.serve("net.pkl", bytes_of(SIZE))
    assert "more than the limit of 200,000" in refused(download, url, tmp_path / "net.pkl")
    assert names(tmp_path) == []


def drip(head, each, seconds):
    """A server that never ends an answer; its address."""
    listener = socket.create_server(("127.0.0.1", 0))

    def feed(connection):
        with contextlib.suppress(OSError), connection:
            connection.recv(4096)
            connection.sendall(head)
            while True:
                connection.sendall(each)
                time.sleep(seconds)

    def listen():
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=feed, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.getsockname()[1]}/net.pkl"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "each"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X-Patience: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b"w"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nw\r\n"),
        (b"HTTP/1.1 302 Found\r\n", b"X-Patience: 1\r\n"),
    ],
)
def test_a_server_that_drips_is_left(tmp_path, refused, monkeypatch, head, each):
    monkeypatch.setattr(transfer, "LIMITS", Limits(timeout=0.3, retries=4, backoff=0.005))
    listener, url = drip(head, each, 0.02)
    line = refused(download, url, tmp_path / "net.pkl")
    assert "has stalled: less than 4096 bytes/s in 0.3 s" in line
    listener.close()


@pytest.mark.parametrize("place", ["/proc/net.pkl", "missing/net.pkl", "file/net.pkl", "n" * 300])
def test_a_place_that_cannot_be_written_is_one_line(server, tmp_path, bytes_of, refused, place):
    (tmp_path / "file").write_text("")
    line = refused(download, server.serve("a", b"x"), tmp_path / place)
    assert "cannot write" in line


def test_progress_is_shown_on_a_terminal_only_if_wanted(server, tmp_path, bytes_of, monkeypatch, capsys):
    labels = []

    class Spy(transfer.Progress):
        def __init__(self, total, unit, label, **options):
            labels.append((total, unit, label, options))
            super().__init__(total, unit, label, **options)

    monkeypatch.setattr(transfer, "Progress", Spy)
    url = server.serve("net.pkl", bytes_of(SIZE), cuts=[100_000])
    download(url, tmp_path / "net.pkl")
    label = "downloading net.pkl"
    assert labels == [(SIZE, "byte", label, {"initial": 0}), (SIZE, "byte", label, {"initial": 100_000})]
    download(url, tmp_path / "again.pkl", progress=False)
    assert len(labels) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://x/models/stylegan2_car-3659b4b6.pt", "stylegan2_car-3659b4b6.pt"),
        ("https://www.dropbox.com/s/9w2i45h455k3b4p/BigBiGAN_x1.pth?dl=1", "BigBiGAN_x1.pth"),
        ("https://x/a%20b.pkl#part", "a b.pkl"),
    ],
)
def test_the_file_has_its_published_name(url, name):
    assert file_name(url) == name


@pytest.mark.parametrize("tail", ["", "..", ".", "a%2Fb", "%2e%2e", ".hidden", "a%00b", "a%0Ab", "%ff", "n" * 201])
def test_an_address_whose_end_is_no_file_name_is_refused(refused, tail):
    assert "not end in a file name" in refused(file_name, f"http://x/{tail}")
