"""What holds for all four commands."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

import genrep
from genrep.cli import invoke
from genrep.errors import DatasetError, Terminated

PACKAGES = ("generate", "train", "evaluate", "datasets_manifest")
HEAVY = ("torch", "torchvision", "ffcv", "numpy.random")


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def module():
    """docs/update_help.py."""
    path = Path(__file__).parent.parent / "docs/update_help.py"
    spec = importlib.util.spec_from_file_location("update_help", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_help_texts_in_docs_are_current(module):
    stored = {file.name: file.read_text() for file in module.FOLDER.glob("*.txt")}
    assert stored == dict(module.help_texts()), "run: python docs/update_help.py"


def test_the_help_texts_do_not_depend_on_how_a_command_was_used_before(module, monkeypatch):
    for name, command in module.COMMANDS.items():
        monkeypatch.setitem(vars(command), "_help_option", None)
        command.get_help(click.Context(command, info_name=name))  # without the settings that give it -h
    assert all("  -h, --help" in text for _, text in module.help_texts())


def test_every_command_with_a_root_of_real_images_can_download_them(module):
    """What is not under the root is told with --download (genrep.images.sets.DOWNLOAD)."""
    found = [text for _, text in module.help_texts() if re.search(r"^ +--root DIR ", text, re.MULTILINE)]
    assert len(found) == 18
    assert [text.splitlines()[0] for text in found if not re.search(r"^ +--download ", text, re.MULTILINE)] == []


@pytest.mark.parametrize("package", PACKAGES)
def test_every_command_tells_its_version(package):
    code = f"from genrep.{package}.cli import main; import sys; sys.argv = ['genrep', '--version']; main()"
    assert python(code).endswith(f", version {genrep.__version__}\n")


@pytest.mark.parametrize("package", PACKAGES)
def test_help_loads_nothing_heavy(package):
    code = f"import sys, genrep.{package}.cli; print([name for name in {HEAVY!r} if name in sys.modules])"
    assert python(code).strip() == "[]"


@pytest.fixture(scope="module")
def modules_of_torch():
    """How many modules an interpreter has that has imported torch."""
    return int(python("import sys, torch; print(len(sys.modules))"))


@pytest.mark.slow
@pytest.mark.parametrize("package", PACKAGES)
def test_help_imports_few_modules(package, modules_of_torch):
    """What makes --help slow is what it imports. A clock would measure the machine."""
    code = (
        f"import sys; sys.argv = ['x', '--help']; from genrep.{package}.cli import main\n"
        "try: main()\nexcept SystemExit: print('modules', len(sys.modules))"
    )
    count = int(python(code).rpartition("modules ")[2])
    assert count < 450 < modules_of_torch


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (DatasetError("shards/manifest.json: not\nJSON"), 1, "Error: demo: shards/manifest.json: not JSON"),
        (PermissionError(13, "Permission denied", "/out"), 1, "Error: demo: /out: Permission denied"),
        (ZeroDivisionError("x"), 1, "Error: demo: unexpected ZeroDivisionError: x (GENREP_TRACEBACK=1 shows where)"),
        (click.BadParameter("wanted 1"), 2, "Error: demo: Invalid value: wanted 1"),
        (KeyboardInterrupt(), 130, "Error: demo: interrupted"),
        (Terminated(), 143, "Error: demo: terminated"),
    ],
)
def test_every_way_to_end_is_one_line_and_a_status(capsys, error, status, line):
    @click.command("demo")
    def demo():
        raise error

    assert invoke(demo, []) == status
    assert capsys.readouterr().err.strip() == line


@pytest.mark.parametrize(
    "error",
    [OSError(24, "Too many open files", "/out"), DatasetError("shards: cannot be read (Too many open files)")],
)
def test_too_many_open_files_says_what_to_do(capsys, error):
    @click.command("demo")
    def demo():
        raise error

    assert invoke(demo, []) == 1
    line = capsys.readouterr().err
    assert re.search(
        r"Too many open files\)?; this process may open \d+: raise that with 'ulimit -n \d+', or use fewer", line
    )
    assert line.count("\n") == 1
