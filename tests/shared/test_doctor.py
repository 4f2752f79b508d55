"""``genrep doctor``: what is there, what is missing, what would fail."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from genrep import doctor, extras
from genrep.cli import invoke


def finding(about: str) -> doctor.Finding:
    (found,) = [item for item in doctor.examine() if item.about == about]
    return found


def without(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """As if these distributions were not installed."""
    version: Callable[[str], str] = metadata.version

    def lookup(name: str) -> str:
        if name in names:
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", lookup)


def test_it_ends_well_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(doctor.group, ["doctor"]) == 0
    out = capsys.readouterr().out
    assert "FAULT" not in out and "Nothing would fail" in out
    assert metadata.version("torch") in out


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(doctor.group, ["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["fault"] is False
    assert {"genrep", "Python", "PyTorch", "JPEG", "caches"} <= {item["about"] for item in facts["findings"]}


def test_a_missing_extra_is_a_note_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "matplotlib", "scipy")
    plots, evaluate = finding("extra plots"), finding("extra evaluate")
    assert (plots.state, plots.mend) == ("note", "pip install matplotlib")
    assert "scipy not installed" in evaluate.found and "scikit-learn" not in evaluate.found
    assert evaluate.mend == "pip install pycocotools scikit-learn scipy"


def test_a_missing_package_is_a_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    without(monkeypatch, "safetensors")
    assert invoke(doctor.group, ["doctor"]) == 1
    out = capsys.readouterr().out
    assert re.search(r"FAULT  packages +not installed: safetensors", out) and "1 fault: what they name" in out


def test_a_torchvision_of_another_pytorch_is_a_fault() -> None:
    code = """
import sys
class Broken:
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
sys.meta_path.insert(0, Broken())
sys.argv = ["genrep", "doctor"]
from genrep.doctor import main
main()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 1 and run.stderr == ""
    assert "operator torchvision::nms does not exist" in run.stdout
    assert "pip install --upgrade torch torchvision" in run.stdout


def test_a_folder_that_cannot_be_written_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "cache"))
    assert finding("caches").state == "ok"
    (tmp_path / "cache/weights").mkdir(parents=True)
    (tmp_path / "cache/weights/file").write_bytes(bytes(5_000_000))
    assert "5.0 MB in use: weights and digests, which may be removed" in finding("caches").found
    monkeypatch.setattr("os.access", lambda place, mode: not Path(place).is_relative_to(tmp_path))
    found = finding("caches")
    assert found.state == "fault" and str(tmp_path) in found.found and "GENREP_HOME" in found.mend


def test_a_host_name_that_does_not_resolve_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    found = finding("host name")
    assert found.state == "note" and "torchrun" in found.found and "--master-addr" in found.mend


def test_what_breaks_while_it_looks_is_itself_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> str:
        raise ValueError("no such registry\nsecond line")

    monkeypatch.setattr("genrep.images.turbojpeg.jpeg_encoder", broken)
    found = finding("jpeg")
    assert (found.state, found.found) == ("fault", "ValueError: no such registry")


def test_every_extra_for_users_is_explained() -> None:
    ours = {"test", "testing", "testing-cloud", "testing-formats", "dev", "docs", "release", ""}
    assert set(extras.FOR_USERS) == set(extras.requirements()) - ours
    assert extras.requirements()["plots"] == ("matplotlib",)


def test_a_group_alone_shows_what_it_can_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(doctor.group, []) == 2
    said = capsys.readouterr()
    assert not said.out and "Commands:\n  doctor" in said.err and "Error" not in said.err


def test_where_genrep_was_not_installed_a_missing_package_is_still_told() -> None:
    code = """
from importlib import metadata
def requires(name):
    raise metadata.PackageNotFoundError(name)
metadata.requires = requires
import genrep.papers.report.write
from genrep.extras import install
print(install("plots"))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (0, "install genrep with its extra 'plots'\n", "")
