"""Signatures, against the real minisign: what it wrote is read here, and what is written here it reads."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import cli
from genrep.datasets_manifest.manifest import read_manifest
from genrep.datasets_manifest.signing import (
    SIGNATURE_NAME,
    NewKey,
    SignConfig,
    new_key,
    read_public_key,
    sign,
    verify_signature,
)
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError

Capture = pytest.CaptureFixture[str]
WRITTEN_BY_MINISIGN = Path(__file__).parent / "minisign"  # minisign 0.11: -S, and -S -l for legacy.md
KEY = "RWQr7yoDt3TwfwJ3i4F9VnT1qeZR4b/frpHdaVY2AkIwrSmQxyPcogrQ"


@pytest.fixture
def key(tmp_path: Path) -> NewKey:
    return new_key(tmp_path / "lab.key")


@pytest.fixture
def signed(raw: Path, key: NewKey) -> Path:
    """A dataset that ``key`` signed."""
    sign(SignConfig(folder=raw, key=key.secret))
    return raw


@pytest.mark.parametrize("name", [SIGNATURE_NAME, "legacy.md"])
@pytest.mark.parametrize("public", [KEY, WRITTEN_BY_MINISIGN / "minisign.pub"])
def test_what_minisign_wrote_is_accepted(tmp_path: Path, name: str, public: str | Path) -> None:
    shutil.copy(WRITTEN_BY_MINISIGN / "manifest.json", tmp_path)
    shutil.copy(WRITTEN_BY_MINISIGN / name, tmp_path / SIGNATURE_NAME)
    assert verify_signature(tmp_path, public) == read_manifest(tmp_path).digest
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text + "\n")
    with pytest.raises(DatasetError, match=f"does not match the manifest; wanted one by {KEY[:8]}"):
        verify_signature(tmp_path, public)


@pytest.fixture
def minisign() -> str:
    """The program."""
    program = shutil.which("minisign")
    if program is None:
        lacking = "minisign is not installed (apt-get install minisign)"
        pytest.fail(lacking) if os.environ.get("GENREP_CI") else pytest.skip(lacking)
    return program


@pytest.mark.parametrize("password", [None, "pass word"])
def test_minisign_accepts_what_is_written_here(raw: Path, tmp_path: Path, password: str | None, minisign: str) -> None:
    key = new_key(tmp_path / "lab.key", password)
    assert sign(SignConfig(folder=raw, key=key.secret), lambda: password or "") == key.text
    files = ["-m", str(raw / "manifest.json"), "-x", str(raw / SIGNATURE_NAME)]
    for public in (["-p", str(key.public)], ["-P", key.text]):
        done = subprocess.run([minisign, "-V", *public, *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert f"Trusted comment: genrep dataset {read_manifest(raw).digest}" in done.stdout
    (raw / SIGNATURE_NAME).unlink()
    made = subprocess.run(
        [minisign, "-S", "-s", str(key.secret), *files], input=f"{password}\n", capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert verify_signature(raw, key.public) == read_manifest(raw).digest


def test_the_commands(raw: Path, tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "lab.key"
    assert invoke(cli.group, ["sign", "--new-key", str(path)]) == 0
    text = capsys.readouterr().out.splitlines()[-1]
    assert (tmp_path / "lab.key.pub").read_text().splitlines()[1] == text
    assert invoke(cli.group, ["sign", str(raw), "--key", str(path)]) == 0
    assert capsys.readouterr().out == f"{raw / SIGNATURE_NAME}: signed by {text}\n"
    assert verify_signature(raw, text) == read_manifest(raw).digest
    assert verify(raw, "full") == []


def test_verify_reports_the_signature(raw: Path, key: NewKey, tmp_path: Path, capsys: Capture) -> None:
    report = tmp_path / "report.json"
    missing = f"{raw / SIGNATURE_NAME}: missing: the dataset is not signed"

    def checked(signer: object, *more: str) -> tuple[int, dict[str, Any], str]:
        report.unlink(missing_ok=True)
        status = invoke(cli.group, ["verify", str(raw), "--signer", str(signer), "--report", str(report), *more])
        out, err = capsys.readouterr()
        assert err.count("\n") == (status == 1)
        return status, json.loads(report.read_text()), out

    status, value, out = checked(key.text, "--level", "full", "--regenerate", "1")  # which is not begun
    assert (status, value["ok"], out) == (1, False, f"{missing}\n")
    assert value["problems"] == [{"shard": None, "reason": missing}]
    assert value["signer"] == {"key": key.text, "ok": False}
    sign(SignConfig(folder=raw, key=new_key(tmp_path / "other.key").secret))
    status, value, out = checked(key.public)
    assert (status, value["ok"], value["signer"]["ok"]) == (1, False, False)
    assert "by another key; wanted one by" in value["problems"][0]["reason"]
    sign(SignConfig(folder=raw, key=key.secret, force=True))
    status, value, out = checked(key.public)
    assert (status, value["ok"], value["signer"]) == (0, True, {"key": str(key.public), "ok": True})
    assert "level bytes, signed" in out
    (raw / "manifest.json").unlink()
    status, value, out = checked(key.text)
    assert (status, len(value["problems"]), value["signer"]["ok"]) == (1, 1, False)


def test_the_secret_key_is_nobody_elses(key: NewKey) -> None:
    assert stat.S_IMODE(key.secret.stat().st_mode) == 0o600
    for one in (key.secret, key.public):
        with pytest.raises(DatasetError, match=f"^new_key {key.secret}"):
            new_key(key.secret)
        one.unlink()


@pytest.mark.parametrize("there", ["lab.key", "lab.key.pub"])
def test_no_key_is_written_over(tmp_path: Path, there: str) -> None:
    (tmp_path / there).symlink_to(tmp_path / "nothing")
    with pytest.raises(DatasetError, match=f"^new_key {tmp_path / there}: exists"):
        new_key(tmp_path / "lab.key")
    assert [path.name for path in tmp_path.iterdir()] == [there]


KILLED = """
import os, signal, sys
from genrep.datasets_manifest.cli import main
call, calls = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]
real = getattr(os, call)
def dies(*arguments, **options):
    global calls
    calls -= 1
    if calls < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **options)
setattr(os, call, dies)
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("call", "after"), [("fsync", 0), ("fsync", 2), ("replace", 0), ("fsync", 4)])
def test_a_new_key_that_is_killed_leaves_a_pair_or_a_way_out(
    tmp_path: Path, capsys: Capture, call: str, after: int
) -> None:
    path, public = tmp_path / "lab.key", tmp_path / "lab.key.pub"
    again = ["sign", "--new-key", str(path)]
    killed = subprocess.run([sys.executable, "-c", KILLED, call, str(after), *again], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert path.exists() == (after == 4)  # which is after the last file
    assert invoke(cli.group, again) == 1
    said = capsys.readouterr().err
    if path.exists():
        assert f"--new-key {path}: exists" in said
    else:
        assert f"--new-key {public}: exists, without the secret key lab.key; remove it if" in said
        public.unlink()
        assert invoke(cli.group, again) == 0
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lab.key", "lab.key.pub"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert _of_secret(path) == read_public_key(public).to_base64()


def _of_secret(path: Path) -> bytes:
    import minisign

    return bytes(minisign.SecretKey.from_bytes(path.read_bytes()).get_public_key().to_base64())


def test_no_key_lies_in_a_dataset(raw: Path) -> None:
    with pytest.raises(DatasetError, match="which is meant to be published"):
        new_key(raw / "key.json")


def test_the_same_key_gives_the_same_bytes_again(signed: Path, key: NewKey) -> None:
    first = (signed / SIGNATURE_NAME).read_bytes()
    sign(SignConfig(folder=signed, key=key.secret))
    assert (signed / SIGNATURE_NAME).read_bytes() == first


def test_another_labs_signature_is_not_written_over(signed: Path, key: NewKey, tmp_path: Path) -> None:
    first = (signed / SIGNATURE_NAME).read_bytes()
    other = new_key(tmp_path / "other.key")
    with pytest.raises(DatasetError, match="not a signature by this key; force replaces it"):
        sign(SignConfig(folder=signed, key=other.secret))
    assert (signed / SIGNATURE_NAME).read_bytes() == first
    with pytest.raises(DatasetError, match=re.escape(f"by another key; wanted one by {other.text[:8]}")):
        verify_signature(signed, other.text)
    sign(SignConfig(folder=signed, key=other.secret, force=True))
    verify_signature(signed, other.text)


def test_an_older_signature_of_the_same_key_is_replaced(
    signed: Path, key: NewKey, rewrite: Callable[..., None]
) -> None:
    rewrite(signed, lambda value: value["build"].update(licence="MIT"))
    with pytest.raises(DatasetError, match="does not match the manifest"):
        verify_signature(signed, key.text)
    sign(SignConfig(folder=signed, key=key.secret))
    verify_signature(signed, key.text)


def test_every_flipped_byte_is_noticed(signed: Path, key: NewKey) -> None:
    path = signed / SIGNATURE_NAME
    good = path.read_bytes()
    first = len(good.splitlines()[0])  # the untrusted comment, which nobody vouches for
    for place in range(first + 1, len(good) - 1):
        if good[place + 1 : place + 2] == b"=":  # bits of base64 that stand for nothing
            continue
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(DatasetError) as caught:
            verify_signature(signed, key.text)
        assert "\n" not in str(caught.value)


def test_a_key_of_the_same_number_is_another_key(signed: Path, key: NewKey, tmp_path: Path) -> None:
    other = base64.b64decode(new_key(tmp_path / "other.key").text)
    forged = base64.b64encode(base64.b64decode(key.text)[:10] + other[10:]).decode()
    with pytest.raises(DatasetError, match="does not match the manifest"):
        verify_signature(signed, forged)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 300, b"a\nb\nc\nd\n", b"untrusted comment: x\nRUQ=\ntrusted comment: \n\n", b"x" * 30_000]
)
def test_what_is_no_signature(raw: Path, key: NewKey, data: bytes) -> None:
    (raw / SIGNATURE_NAME).write_bytes(data)
    with pytest.raises(DatasetError, match=SIGNATURE_NAME):
        verify_signature(raw, key.text)
    with pytest.raises(DatasetError, match=SIGNATURE_NAME):
        sign(SignConfig(folder=raw, key=key.secret))


def test_unsigned_linked_and_unfinished(raw: Path, key: NewKey, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="missing: the dataset is not signed"):
        verify_signature(raw, key.text)
    os.symlink(WRITTEN_BY_MINISIGN / SIGNATURE_NAME, raw / SIGNATURE_NAME)
    with pytest.raises(DatasetError, match="a symbolic link"):
        verify_signature(raw, KEY)
    with pytest.raises(DatasetError, match=r"manifest\.json: missing"):
        sign(SignConfig(folder=tmp_path, key=key.secret))


@pytest.mark.parametrize(
    "text", ["RW", "RWQr7yoDt3TwfwJ3", "nothing.pub", "RW" + "é" * 54, KEY[:-1] + "\n", "RW" * 5000, "a\0b"]
)
def test_what_is_no_public_key(signed: Path, text: str) -> None:
    with pytest.raises(DatasetError) as caught:
        read_public_key(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_a_secret_key_is_no_public_key(signed: Path, key: NewKey) -> None:
    with pytest.raises(DatasetError, match="not a minisign public key"):
        verify_signature(signed, key.secret)
    with pytest.raises(DatasetError, match="not a minisign secret key"):
        sign(SignConfig(folder=signed, key=key.public))


def test_a_password_is_asked_for(raw: Path, tmp_path: Path) -> None:
    def run(*arguments: str, given: str) -> subprocess.CompletedProcess[str]:
        code = "from genrep.datasets_manifest.cli import main; main()"
        command = [sys.executable, "-c", code, "sign", *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True)

    path = str(tmp_path / "lab.key")
    empty = run("--new-key", path, "--password", given="\n")
    assert (empty.returncode, "not empty" in empty.stderr) == (2, True)
    assert run("--new-key", path, "--password", given="open sesame\n").returncode == 0
    wrong = run(str(raw), "--key", path, given="open barley\n")
    assert wrong.returncode == 1 and "wrong password" in wrong.stderr and len(wrong.stderr.splitlines()) == 1
    assert run(str(raw), "--key", path, given="open sesame\n").returncode == 0
    verify_signature(raw, tmp_path / "lab.key.pub")


@pytest.mark.parametrize(
    "arguments",
    [[], ["DIR"], ["--key", "k"], ["DIR", "--new-key", "k"], ["DIR", "--key", "k", "--password"], ["--force"]],
)
def test_wrong_command_lines(arguments: list[str], capsys: Capture) -> None:
    assert invoke(cli.group, ["sign", *arguments]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_the_library(raw: Path, key: NewKey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minisign", None)
    with pytest.raises(DatasetError, match=r"signatures need py-minisign; pip install py-minisign$"):
        verify_signature(raw, KEY)
