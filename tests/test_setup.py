"""``make setup`` on machines that have a compiler, root, both or neither: stand-ins take the place of programs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TOOLS = ("bash", "sh", "env", "cat", "chmod", "touch", "rm", "mkdir", "grep", "tr", "sed", "dirname", "awk", "tee")
PYTHON = """#!/bin/sh
case "$1 $2" in
    "-m venv") mkdir -p .venv/bin; cp "$0.venv" .venv/bin/python ;;
    *Python.h*) [ -e "$HERE/headers" ] ;;
esac
"""
VENV = """#!/bin/sh
echo "pip $*" >> "$HERE/log"
case "$*" in *"pip>="*) [ ! -e "$HERE/old" ] || { echo "ERROR: no network" >&2; exit 1; } ;; esac
case "$*" in *"[testing,"*)
    [ ! -e "$HERE/offline" ] || { echo "ERROR: no network" >&2; exit 1; }
    echo "Collecting torch"; echo "  Downloading six.whl (11 kB)"
    echo "  Downloading torch-2.14.1-cp313-linux_x86_64.whl (850.6 MB)" ;;
esac
case "$*" in *"[ffcv]"*) [ -e "$HERE/headers" ] || { echo "a page of a compiler's words" >&2; exit 1; } ;; esac
"""
APT = """#!/bin/sh
echo "apt-get $*" >> "$HERE/log"
case "$1" in install) cp "$HERE"/spare/* "$HERE/bin/"; touch "$HERE/headers" ;; esac
"""
Setup = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """``setup(compiler=…, root=…, apt=…)``: `make setup` in a folder of its own."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("without make")
    for name in ("bin", "spare"):
        (tmp_path / name).mkdir()
    for name in ("Makefile", "setup.cfg", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)

    def script(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    for tool in (*TOOLS, "cp"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or pytest.fail(tool))

    def run(*, compiler: bool = False, root: bool = False, apt: bool = True) -> subprocess.CompletedProcess[str]:
        script("bin/python3", PYTHON)
        script("bin/python3.venv", VENV)
        script("bin/id", f"#!/bin/sh\necho {0 if root else 1000}\n")
        for tool in ("g++", "pkg-config"):
            script(f"{'bin' if compiler else 'spare'}/{tool}", "#!/bin/sh\n")
        if compiler:
            (tmp_path / "headers").touch()
        if apt:
            script("bin/apt-get", APT)
        environment = {"PATH": str(tmp_path / "bin"), "HERE": str(tmp_path)}
        return subprocess.run(
            [make, "setup"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


def test_ffcv_is_installed_where_it_can_be_built(setup: Setup, tmp_path: Path) -> None:
    done = setup(compiler=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Installing genrep into .venv: several GB, a few minutes the first time (.venv/setup.log)",
        "  torch 2.14.1 (850.6 MB)",
    ]
    assert [line.split()[-1] for line in log(tmp_path)] == [
        "pip>=25.3",
        ".[testing,testing-cloud,testing-formats,dev]",
        ".[ffcv]",
    ]
    assert all("-c constraints.txt" in line for line in log(tmp_path)[1:])


def test_root_installs_what_it_is_built_with(setup: Setup, tmp_path: Path) -> None:
    done = setup(root=True)
    assert (done.returncode, done.stderr) == (0, "")
    packages = "g++ pkg-config libopencv-dev libturbojpeg0-dev python3-dev"
    assert done.stdout.splitlines()[2:] == [f"Installing {packages}"]
    assert log(tmp_path)[2:4] == ["apt-get update -qq", f"apt-get install -y -qq {packages}"]
    assert log(tmp_path)[4].endswith(".[ffcv]")


@pytest.mark.parametrize("apt", [True, False])
def test_without_compiler_and_root_the_setup_goes_on(setup: Setup, tmp_path: Path, apt: bool) -> None:
    done = setup(apt=apt)
    assert (done.returncode, done.stderr) == (0, "")
    (note,) = done.stdout.splitlines()[2:]
    packages = "g++ pkg-config libopencv-dev libturbojpeg0-dev python3-dev"
    wanted = f"Note: FFCV is not installed (it builds with {packages}: sudo apt-get install these, then make -B setup; "
    assert note.startswith(wanted)
    assert "Nothing here needs it but FFCV's own Loader" in note
    assert "a page of a compiler's words" in (tmp_path / ".venv/ffcv.log").read_text()
    assert (tmp_path / ".venv/.ready").exists()
    assert os.fspath(tmp_path) not in done.stdout


@pytest.mark.parametrize("at", ["offline", "old"])
def test_where_pip_fails_the_setup_ends_and_names_the_log(setup: Setup, tmp_path: Path, at: str) -> None:
    """Where it installs the packages, and where it renews itself before."""
    (tmp_path / at).touch()
    done = setup(compiler=True)
    assert done.returncode == 2 and not (tmp_path / ".venv/.ready").exists()
    assert "Error: pip could not install genrep's packages: see .venv/setup.log" in done.stderr
    assert "  ERROR: no network" in done.stdout
    assert "ERROR: no network" in (tmp_path / ".venv/setup.log").read_text()
