"""Facts of the machine: cores, processor, memory. Linux and macOS report them differently."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path


def core_numbers() -> list[int]:
    """The cores that this process may use. macOS knows no such limit: there it is all of them."""
    if sys.platform == "linux":
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def cores() -> int:
    """How many cores this process may use, 1 at least."""
    return len(core_numbers())


def restrict(numbers: Collection[int]) -> None:
    """Restrict this process, and those that it starts from now on, to these cores. Does nothing on macOS."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, numbers)


def processor() -> str:
    """The processor's name, as its maker writes it; the architecture where the system does not tell."""
    try:
        if sys.platform == "darwin":
            command = ["sysctl", "-n", "machdep.cpu.brand_string"]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return platform.machine() or "CPU"


def memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def anonymous_file(name: str) -> int:
    """The descriptor of an empty file without a name, in memory where the system has such files.

    Args:
        name: what tools that list a process's files call it.
    """
    if sys.platform == "linux":
        return os.memfd_create(name)
    import tempfile

    with tempfile.TemporaryFile(prefix=name) as file:
        return os.dup(file.fileno())
