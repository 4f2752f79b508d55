"""Downloads over a network that breaks, by processes that are killed or are two, onto disks that are full."""

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from genrep.errors import WeightsError
from genrep.generate.weights import download as part
from genrep.generate.weights import download as transfer
from genrep.generate.weights.download import download
from genrep.net import limits

SIZE = 300_000
ONE = """
import sys
from pathlib import Path
from genrep.errors import WeightsError
from genrep.generate.weights.download import download
try:
    print(download(sys.argv[1], Path(sys.argv[2]), sha256=None).resumed_from)
except WeightsError as error:
    sys.exit(str(error))
"""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def start(url, path):
    return subprocess.Popen(
        [sys.executable, "-c", ONE, url, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(
    "how", [{}, {"chunked": True}, {"etag": 'W/"one"', "modified": "Mon, 01 Jan 2024 00:00:00 GMT"}]
)
def test_a_cut_connection_is_resumed_where_it_was_cut(server, tmp_path, bytes_of, how):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, cuts=[100_000, 50_000], **how)
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)
    assert server.ranges_asked() == [None, "bytes=100000-", "bytes=150000-"]
    assert names(tmp_path) == ["net.pkl"]


@pytest.mark.parametrize("how", [{"ranges": False}, {"etag": None}, {"etag": 'W/"one"'}])
def test_a_server_that_cannot_resume_sends_it_all_again(server, tmp_path, bytes_of, how):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, cuts=[100_000], **how)
    facts = download(url, tmp_path / "net.pkl")
    assert (facts.sha256, facts.resumed_from) == (sha256(body), 0)


def test_attempts_that_get_no_further_end(server, tmp_path, bytes_of, refused):
    url = server.serve("net.pkl", bytes_of(SIZE), ranges=False, cuts=[100_000] * 50)
    line = refused(download, url, tmp_path / "net.pkl")
    assert "ended after 100000 of 300000 bytes" in line and url in line and str(tmp_path / "net.pkl") in line
    assert len(server.asked) <= 2 * (transfer.LIMITS.retries + 1)


def test_attempts_that_get_further_go_on(server, tmp_path, bytes_of, monkeypatch):
    monkeypatch.setattr(limits, "NEWS", 20_000)
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, cuts=[25_000] * 11)
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)


def leave_part(server, folder, body, name="net.pkl"):
    """What a run leaves that lost the network halfway."""
    url = server.serve(name, body, cuts=[100_000] + [0] * 10)
    with pytest.raises(WeightsError, match="ended after"):
        download(url, folder / name)
    assert names(folder) == [f".{name}.part", f".{name}.part.json"]
    server.files[f"/{name}"].cuts.clear()
    server.asked.clear()
    return url


def test_the_next_run_goes_on_from_the_part(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    url = leave_part(server, tmp_path, body)
    facts = download(url, tmp_path / "net.pkl")
    assert (facts.sha256, facts.resumed_from) == (sha256(body), 100_000)
    assert server.ranges_asked() == ["bytes=100000-"]
    assert server.asked[0][1]["If-Range"] == '"one"'


def test_a_file_that_changed_meanwhile_is_taken_from_zero(server, tmp_path, bytes_of):
    leave_part(server, tmp_path, bytes_of(SIZE))
    new = bytes_of(SIZE, seed=1)
    url = server.serve("net.pkl", new, etag='"two"')
    facts = download(url, tmp_path / "net.pkl")
    assert (facts.sha256, facts.resumed_from) == (sha256(new), 0)


@pytest.mark.parametrize("wrong", ["bytes 5-299999/300000", "bytes 100000-199999/200000", "pages 1-2/3", ""])
def test_a_server_that_sends_another_range_is_not_believed(server, tmp_path, bytes_of, wrong):
    body = bytes_of(SIZE)
    url = leave_part(server, tmp_path, body)
    server.files["/net.pkl"].headers["Content-Range"] = wrong
    facts = download(url, tmp_path / "net.pkl")
    assert (facts.sha256, facts.resumed_from) == (sha256(body), 0)


def test_an_etag_that_ignores_if_range_is_noticed(server, tmp_path, bytes_of):
    leave_part(server, tmp_path, bytes_of(SIZE))
    new = bytes_of(SIZE, seed=1)
    url = server.serve("net.pkl", new, etag='"two"')
    server.start = lambda served, headers: int(headers["Range"][6:-1]) if "Range" in headers else None
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(new)


@pytest.mark.parametrize("notes", ["", "[1]", '{"url": 7, "etag": 1, "modified": {}, "total": "x"}', "[" * 100_000])
def test_damaged_notes_or_a_part_of_another_address_mean_zero(server, tmp_path, bytes_of, notes):
    body = bytes_of(SIZE)
    url = leave_part(server, tmp_path, body)
    (tmp_path / ".net.pkl.part.json").write_text(notes)
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)
    assert server.ranges_asked() == [None]


def test_a_part_of_another_address_is_not_gone_on_with(server, tmp_path, bytes_of):
    leave_part(server, tmp_path, bytes_of(SIZE))
    other = bytes_of(SIZE, seed=2)
    assert download(server.serve("other.pkl", other), tmp_path / "net.pkl").sha256 == sha256(other)


def test_a_part_that_is_whole_needs_no_server_any_more(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    url = leave_part(server, tmp_path, body)
    (tmp_path / ".net.pkl.part").write_bytes(body)
    facts = download(url, tmp_path / "net.pkl", sha256=sha256(body))
    assert (facts.resumed_from, server.asked) == (SIZE, [])


def test_a_part_longer_than_the_file_is_dropped(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    url = leave_part(server, tmp_path, body)
    (tmp_path / ".net.pkl.part").write_bytes(body + b"more")
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)
    assert server.ranges_asked()[-1] is None


def test_passing_faults_of_the_server_are_tried_again(server, tmp_path, bytes_of):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body, statuses=[500, 503, 429])
    assert download(url, tmp_path / "net.pkl").sha256 == sha256(body)


@pytest.mark.parametrize(("fault", "kept"), [(28, False), (27, False), (5, True)])
def test_what_fills_a_disk_is_removed_and_other_faults_keep_the_part(
    server, tmp_path, bytes_of, refused, monkeypatch, fault, kept
):
    body = bytes_of(SIZE)
    url = server.serve("net.pkl", body)
    real, written = os.write, []

    def write(descriptor, data):
        if sum(written) > 100_000:
            raise OSError(fault, os.strerror(fault))
        written.append(real(descriptor, data[:30_000]))
        return written[-1]

    with monkeypatch.context() as full:
        full.setattr(part.os, "write", write)
        line = refused(download, url, tmp_path / "net.pkl")
    assert os.strerror(fault) in line and str(tmp_path / "net.pkl") in line
    assert bool(names(tmp_path)) == kept
    facts = download(url, tmp_path / "net.pkl", sha256=sha256(body))
    assert facts.resumed_from == (sum(written) if kept else 0)


@pytest.mark.slow
def test_a_killed_download_is_resumed(server, tmp_path, bytes_of):
    body = bytes_of(40 * 65536)
    url = server.serve("net.pkl", body, pause=0.02)
    running = start(url, tmp_path / "net.pkl")
    arrived = tmp_path / ".net.pkl.part"
    wait_for(lambda: arrived.exists() and arrived.stat().st_size > 5 * 65536)
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert not (tmp_path / "net.pkl").exists()
    server.files["/net.pkl"].pause = 0.0
    left = arrived.stat().st_size
    facts = download(url, tmp_path / "net.pkl", sha256=sha256(body))
    assert facts.resumed_from == left
    assert names(tmp_path) == ["net.pkl"]


def test_the_second_process_waits_for_the_first_and_finds_the_file(server, tmp_path, bytes_of):
    body = bytes_of(20 * 65536)
    url = server.serve("net.pkl", body, pause=0.02)
    both = [start(url, tmp_path / "net.pkl") for _ in range(2)]
    output = [process.communicate(timeout=30) for process in both]
    assert [process.returncode for process in both] == [0, 0], output
    assert (tmp_path / "net.pkl").read_bytes() == body
    assert len(server.asked) == 1
    assert names(tmp_path) == ["net.pkl"]
    assert any("another process is downloading it; waiting" in errors for _, errors in output)


@pytest.mark.slow
def test_the_second_process_takes_over_when_the_first_is_killed(server, tmp_path, bytes_of):
    body = bytes_of(40 * 65536)
    url = server.serve("net.pkl", body, pause=0.02)
    first = start(url, tmp_path / "net.pkl")
    arrived = tmp_path / ".net.pkl.part"
    wait_for(lambda: arrived.exists() and arrived.stat().st_size > 5 * 65536)
    second = start(url, tmp_path / "net.pkl")
    wait_for(lambda: second.stderr.readline())  # that it waits
    first.kill()
    first.communicate()
    resumed, _ = second.communicate(timeout=30)
    assert int(resumed) >= 5 * 65536
    assert (tmp_path / "net.pkl").read_bytes() == body


def test_a_process_that_waits_for_one_that_hangs_gives_up(server, tmp_path, bytes_of, refused, monkeypatch):
    monkeypatch.setattr(part, "STALLED", 0.3)
    url = server.serve("net.pkl", bytes_of(SIZE))
    with part.open_part(tmp_path / "net.pkl", tell=False):
        assert "has received nothing for 0.3 s" in refused(download, url, tmp_path / "net.pkl")


def test_a_part_that_the_one_before_removed_is_not_written(tmp_path, monkeypatch):
    real, calls = part._lock, []

    def late(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:  # the other process ends between the opening and the locking
            part.PartFile.place(tmp_path / "net.pkl").unlink()
        return real(descriptor)

    monkeypatch.setattr(part, "_lock", late)
    with part.open_part(tmp_path / "net.pkl", tell=False) as mine:
        assert os.path.samestat(os.stat(mine.path), os.fstat(mine.descriptor))
