"""Cores, processor, memory and anonymous files, on Linux and where the system is another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from genrep import machine


def test_cores_are_those_that_the_process_may_use() -> None:
    number = sorted(os.sched_getaffinity(0))[-1]
    code = "from genrep import machine; print(machine.core_numbers(), machine.cores())"
    run = subprocess.run(
        ["taskset", "-c", str(number), sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.split("\n")[0] == f"[{number}] 1"


def test_restrict_is_inherited() -> None:
    code = f"""
import subprocess, sys
from genrep import machine
machine.restrict([{min(os.sched_getaffinity(0))}])
subprocess.run([sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"], check=True)
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


def test_elsewhere_all_cores_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "sched_setaffinity")
    monkeypatch.delattr(os, "memfd_create")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    machine.restrict([0])
    assert machine.core_numbers() == [0, 1, 2, 3, 4, 5]
    assert machine.processor()  # where sysctl is missing, the architecture


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_an_anonymous_file_holds_bytes_and_leaves_none(
    platform: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    descriptor = machine.anonymous_file("genrep-test")
    os.ftruncate(descriptor, 4)
    assert os.pwrite(descriptor, b"ab", 2) == 2 and os.pread(descriptor, 9, 0) == b"\0\0ab"
    os.close(descriptor)
    assert list(tmp_path.iterdir()) == []


def test_memory_is_what_the_system_says() -> None:
    (line,) = [line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")]
    assert abs(machine.memory() - 1024 * int(line.split()[1])) < 1e6
