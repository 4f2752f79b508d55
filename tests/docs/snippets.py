"""The fenced blocks of the documentation's pages, and how they are run (CONTRIBUTING.md, "Snippets").

A shell command runs through its installed entry point, in this process, with the sizes of ``TINY`` in place of those that are
written. A block with ``title="FILE"`` becomes that file; a Python block without a title is executed. A block after
``<!-- not run: REASON -->`` is only parsed: its commands and their options must exist.
"""

from __future__ import annotations

import gzip
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import click
import numpy as np

from genrep.option_types import Parsed

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))

from update_help import COMMANDS as PROGRAMS  # noqa: E402

MODULES = {"genrep.generate": "genrep-generate", "genrep.train": "genrep-train"}  # of python -m, and of torchrun
# Options that a command gets instead of those that the page gives it.
TINY: dict[str, dict[str, str]] = {
    "genrep-generate dataset": {"--num-pairs": "32", "--processes": "1"},
    "genrep-generate from-folder": {"--processes": "1"},
    "genrep-generate fit-gan": {
        **{"--total-images": "32", "--batch-size": "8", "--snapshot-images": "32", "--z-dim": "8", "--w-dim": "8"},
        **{"--channel-base": "32", "--channel-max": "8"},
    },
    "genrep-generate fit-diffusion": {
        **{"--total-images": "32", "--batch-size": "8", "--snapshot-images": "32", "--embedding": "8"},
        **{"--channels": "4,8", "--norm-groups": "4"},
    },
    "genrep-generate fit-navigator": {"--samples": "8", "--batch-size": "4", "--checkpoint-samples": "8"},
    "genrep-generate fit-steer": {"--samples": "4", "--batch-size": "4", "--measure-images": "4"},
    "genrep-train": {"--epochs": "1", "--batch-size": "16", "--workers": "1"},
    "genrep-evaluate linear": {"--epochs": "2", "--workers": "1"},
    "genrep-evaluate few-label": {"--labels": "1", "--draws": "2"},
    "genrep-manifest rebuild": {"--processes": "1"},
    "genrep-manifest repair": {"--processes": "1"},
}
BLOCK = re.compile(
    r"^(?P<indent> *)(?:<!-- not run: (?P<reason>[^>]+) -->\s*)?```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n"
    r"(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)
BEGINS_WITH = re.compile(r"<!-- begins with: ([^>]+?) -->")
OTHERS = (
    *("export", ".", "python", "python3", "uv", "docker", "conda", "make", "truncate", "timeout"),
    *("torchrun", "mkdir", "cd", "cp", "pip", "git", "sudo"),
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page."""

    language: str
    text: str
    title: str | None = None
    reason: str | None = None  # why it is not run


def blocks(page: Path) -> list[Block]:
    """The page's blocks in order."""
    found = []
    for match in BLOCK.finditer(page.read_text()):
        text = "".join(line.removeprefix(match["indent"]) for line in match["text"].splitlines(keepends=True))
        found.append(Block(language=match["language"], text=text, title=match["title"], reason=match["reason"]))
    return found


def commands(block: Block) -> Iterator[list[str]]:
    """The words of each command of a shell block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


def parse(words: Sequence[str]) -> None:
    """Raise AssertionError or click's UsageError unless the command exists and knows its options."""
    words = _of_genrep(words)
    program = words[0]
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), words
    elif program not in PROGRAMS:
        assert program in OTHERS or "=" in program, f"{program}: not a command that this knows"
    else:
        command, rest = PROGRAMS[program], list(words[1:])
        context = click.Context(command, info_name=program)
        if isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            verb = rest.pop(0)
            found = command.get_command(context, verb)
            assert found is not None, f"{program} has no command {verb}"
            command, context = found, click.Context(found, info_name=verb, parent=context)
        command.make_parser(context).parse_args(list(rest))
        _check_choices(command, rest)


def _check_choices(command: click.Command, words: Sequence[str]) -> None:
    choices = {
        flag: param.type.choices
        for param in command.params
        for flag in param.opts
        if isinstance(param.type, click.Choice)
    }
    checked = {flag: param for param in command.params for flag in param.opts if isinstance(param.type, Parsed)}
    for flag, value in pairwise(words):
        if flag in checked:
            checked[flag].type.convert(value, checked[flag], None)
        assert flag not in choices or value in choices[flag], f"{flag} {value}: wanted one of {choices[flag]}"


def _of_genrep(words: Sequence[str]) -> list[str]:
    """The command of ours within a command line of torchrun, timeout or python -m."""
    for module, program in MODULES.items():
        if module in words:
            return [program, *words[words.index(module) + 1 :]]
    return list(words[2:] if words[0] == "timeout" else words)


def tiny(words: Sequence[str]) -> list[str]:
    """The command with the sizes of TINY."""
    name = words[0] if words[0] == "genrep-train" else " ".join(words[:2])
    result = list(words)
    for flag, value in TINY.get(name, {}).items():
        if flag in result:
            result[result.index(flag) + 1] = value
        else:
            result += [flag, value]
    if "--steps-per-epoch" in result:
        result[result.index("--steps-per-epoch") + 1] = "2"
    return result


@cache
def _entry_point(program: str) -> Callable[[], NoReturn]:
    (found,) = entry_points(group="console_scripts", name=program)
    loaded: Callable[[], NoReturn] = found.load()
    return loaded


def run(words: Sequence[str]) -> None:
    """Run a command of a page in the current folder. Raises AssertionError if it fails."""
    words = _of_genrep(words)
    if words[0] in ("export", "."):
        return
    if words[0] not in (*PROGRAMS, "python"):
        subprocess.run(words, check=True)
        return
    words = words[1:] if words[0] == "python" else tiny(words)
    argv, path, before = sys.argv, list(sys.path), signal.getsignal(signal.SIGTERM)
    sys.argv = list(words)
    try:
        if words[0] in PROGRAMS:
            _entry_point(words[0])()
        else:
            sys.path.insert(0, "")
            runpy.run_path(words[0], run_name="__main__")
    except SystemExit as stop:
        assert not stop.code, f"{shlex.join(words)} ended with status {stop.code}"
    finally:
        sys.argv, sys.path[:] = argv, path
        signal.signal(signal.SIGTERM, before)


def write_data(folder: Path) -> None:
    """``data``: a Fashion-MNIST of 40 training and 20 test images. ``photos``: photos of two classes, 40 and 10."""
    from PIL import Image

    stream = np.random.RandomState(0)
    raw = folder / "data/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for split, count in (("train", 40), ("t10k", 20)):
        labels = np.arange(count, dtype=np.uint8) % 10
        pixels = stream.randint(0, 256, (count, 28, 28)).astype(np.uint8) // 4 + 19 * labels[:, None, None]
        header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in pixels.shape)
        for kind, content in (("images-idx3", header + pixels.tobytes()), ("labels-idx1", _labels(labels))):
            (raw / f"{split}-{kind}-ubyte").write_bytes(content)
            (raw / f"{split}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    for split, count in (("train", 20), ("test", 5)):
        for label, name in enumerate(("dark", "light")):
            (folder / "photos" / split / name).mkdir(parents=True)
            for i in range(count):
                values = stream.normal(80 + 90 * label, 25, (32, 32, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(values).save(folder / "photos" / split / name / f"{i}.png")


def _labels(labels: np.ndarray) -> bytes:
    return bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big") + labels.tobytes()


def copy(world: Path, page: Path, folder: Path) -> None:
    """Give a page what it says that it begins with; real images everywhere."""
    names = {"data", "photos"}
    for match in BEGINS_WITH.finditer(page.read_text()):
        names |= set(match[1].split())
    for name in sorted(names):
        source, target = world / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
