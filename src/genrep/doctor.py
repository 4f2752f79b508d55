"""``genrep doctor``: what this installation and this machine are, what they lack, and what would fail.

A finding is ``ok``, a ``note`` (something is missing that not everybody needs) or a ``fault`` (something will fail, or go wrong
in silence). The exit status is 1 if there is a fault.
"""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import sys
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

from genrep import __version__

from . import extras, machine
from .cli import Group, run, tell
from .errors import suggestion
from .files import home, nearest, size_text

LEAST_DISK, LEAST_SHARED_MEMORY, LEAST_FILES = 2_000_000_000, 64_000_000, 1024  # bytes, bytes, descriptors
SHADOWING = ("evaluate", "generate", "train", "datasets_manifest", "papers")
PROGRAMS = ("genrep-generate", "genrep-manifest", "genrep-train", "genrep-evaluate")
MARKS = {"ok": "ok   ", "note": "note ", "fault": "FAULT"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    about: str
    state: str  # ok, note, fault
    found: str
    mend: str = ""  # the way out, of a note or fault


def examine() -> list[Finding]:
    """Everything that ``genrep doctor`` prints, in its order."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _machine,
        _torch,
        _devices,
        _jpeg,
        _extras,
        _folders,
        _processes,
    )
    found: list[Finding] = []
    for look in looks:
        try:
            found += look()
        except Exception as error:  # an examination goes on past what is broken: that is what it is for
            what = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            found.append(Finding(about=look.__name__.strip("_"), state="fault", found=what))
    return found


def _python() -> Iterator[Finding]:
    place = Path(__file__).parent
    yield Finding(about="genrep", state="ok", found=f"{__version__} in {place}")
    version = platform.python_version()
    inside = "a virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    gil = " without the GIL" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
    yield Finding(about="Python", state="ok", found=f"{version}{gil} in {inside}, {sys.prefix}")
    broken = list(extras.missing(""))
    if broken:
        yield Finding(
            about="packages", state="fault", found=f"not installed: {', '.join(broken)}", mend="reinstall genrep"
        )
    shadows = [name for name in SHADOWING if Path(name, "__init__.py").exists()]
    if shadows and sys.path[:1] == [""]:
        found = f"{', '.join(shadows)} in this folder hide the installed packages of these names"
        yield Finding(
            about="import path", state="note", found=found, mend="set PYTHONSAFEPATH=1, or work in another folder"
        )


def _machine() -> Iterator[Finding]:
    found = f"{platform.system()} {platform.release()}, {machine.processor()}, {machine.cores()} cores, "
    yield Finding(about="machine", state="ok", found=found + size_text(machine.memory()))


def _torch() -> Iterator[Finding]:
    import torch

    threads = torch.get_num_threads()
    yield Finding(about="PyTorch", state="ok", found=f"{torch.__version__}, {threads} thread{'s' * (threads > 1)}")
    try:
        import torchvision
    except Exception as error:  # built for another PyTorch: 'operator torchvision::nms does not exist'
        mend = "install both together: pip install --upgrade torch torchvision"
        yield Finding(about="torchvision", state="fault", found=str(error).partition("\n")[0][:200], mend=mend)
    else:
        yield Finding(about="torchvision", state="ok", found=torchvision.__version__)


def _devices() -> Iterator[Finding]:
    import torch

    from .devices import pick_precision

    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        precision = pick_precision("auto", torch.device("cuda", number))
        yield Finding(
            about=f"cuda:{number}", state="ok", found=f"{facts.name}, {size_text(facts.total_memory)}, {precision}"
        )
    if torch.cuda.is_available():
        return
    has_driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()
    if has_driver:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        mend = "install the build of PyTorch that fits this driver, or update the driver"
        yield Finding(
            about="GPU",
            state="fault",
            found=f"there is an NVIDIA driver, but PyTorch, {built}, finds no GPU",
            mend=mend,
        )
    else:
        yield Finding(about="GPU", state="ok", found="none; generators and trainings run on the CPU")
    precision = pick_precision("auto", torch.device("cpu"))
    yield Finding(about="cpu", state="ok", found=f"trains in {precision}")


def _jpeg() -> Iterator[Finding]:
    from .images.turbojpeg import jpeg_encoder, library

    reader = "libturbojpeg" if library() is not None else "simplejpeg"
    yield Finding(about="JPEG", state="ok", found=f"written by {jpeg_encoder()}, read by {reader}")


def _extras() -> Iterator[Finding]:
    for extra, lost in extras.FOR_USERS.items():
        if missing := list(extras.missing(extra)):
            found = f"{', '.join(missing)} not installed: no {lost}"
            yield Finding(about=f"extra {extra}", state="note", found=found, mend=extras.install(extra))
        else:
            versions = ", ".join(f"{name} {metadata.version(name)}" for name in extras.requirements()[extra])
            yield Finding(about=f"extra {extra}", state="ok", found=versions)


def _folders() -> Iterator[Finding]:
    for about, folder, mend in (
        ("caches", home(), "GENREP_HOME=DIR puts them elsewhere"),
        ("this folder", Path.cwd(), "work in another one"),
    ):
        there = nearest(folder)
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            yield Finding(about=about, state="fault", found=f"{folder}: no permission to write in {there}", mend=mend)
            continue
        free = shutil.disk_usage(there).free
        found = f"{folder}, {size_text(free)} free"
        if about == "caches" and folder.exists():
            held = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())
            found += f", {size_text(held)} in use: weights and digests, which may be removed at any time"
        few = free < LEAST_DISK
        yield Finding(about=about, state="note" if few else "ok", found=found, mend=mend if few else "")


def _processes() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft < LEAST_FILES
    mend = f"ulimit -n {hard}, for datasets of many shards" if few else ""
    yield Finding(about="open files", state="note" if few else "ok", found=f"{soft} per process", mend=mend)
    shared = Path("/dev/shm")
    if shared.exists():
        size = shutil.disk_usage(shared).total
        small = size < LEAST_SHARED_MEMORY
        mend = "docker run --shm-size=1g …, for loaders of other libraries" if small else ""
        yield Finding(about="shared memory", state="note" if small else "ok", found=size_text(size), mend=mend)
    name = socket.gethostname()
    try:
        socket.getaddrinfo(name, None)
    except OSError:
        mend = "torchrun --master-addr 127.0.0.1 …, or a line for it in /etc/hosts"
        yield Finding(about="host name", state="note", found=f"{name} does not resolve: torchrun would hang", mend=mend)
    else:
        yield Finding(about="host name", state="ok", found=name)


def report(findings: list[Finding]) -> str:
    """The findings as lines of text, with a sentence that sums them up."""
    width = max(len(item.about) for item in findings)
    lines = []
    for item in findings:
        lines.append(f"{MARKS[item.state]}  {item.about:{width}}  {item.found}")
        if item.mend:
            lines.append(f"{'':{width + 9}}{item.mend}")
    faults, notes = (sum(item.state == state for item in findings) for state in ("fault", "note"))
    if faults:
        lines.append(f"\n{faults} fault{'s' * (faults > 1)}: what they name would fail.")
    else:
        told = f"; {notes} note{'s say' if notes > 1 else ' says'} what is missing for some uses" if notes else ""
        lines.append(f"\nNothing would fail{told}.")
    return "\n".join(lines)


class _Genrep(Group):
    """A group that points to the programs that do the work, for ``genrep train`` and the like."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the first argument names. Raises UsageError for one that there is not."""
        if args[0] not in self.commands and not args[0].startswith("-") and not ctx.resilient_parsing:
            meant = f"genrep-{args[0]}"
            hint = f" (did you mean {meant}?)" if meant in PROGRAMS else suggestion(args[0], self.commands)
            ctx.fail(f"no command {args[0]!r}; wanted doctor, or one of the programs {', '.join(PROGRAMS)}{hint}")
        return super().resolve_command(ctx, args)


@click.group(name="genrep", cls=_Genrep, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def group() -> None:
    """Turn a pretrained image generator into a dataset, and a dataset into visual representations.

    The work is done by four other commands:

    \b
    genrep-generate   build datasets of anchor/positive pairs from generators
    genrep-manifest   inspect, verify, repair, publish and fetch datasets
    genrep-train      train encoders on datasets
    genrep-evaluate   measure encoders, and repeat the papers' tables

    \b
    Example:
      genrep doctor
    """


@group.command("doctor")
def doctor_command() -> int:
    """Report what this installation and this machine have, what they lack, and what would fail.

    Each line is marked ok, note (something is missing that only some uses need) or FAULT (something would fail), with the way
    out below it. The exit status is 1 if there is a fault.

    \b
    Example:
      genrep doctor
      genrep doctor --json
    """
    findings = examine()
    fault = any(item.state == "fault" for item in findings)
    tell({"version": __version__, "fault": fault, "findings": findings}, report(findings))
    return int(fault)


def main() -> None:
    """Entry point of the console script."""
    run(group)
