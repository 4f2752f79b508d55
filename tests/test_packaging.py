"""The wheel holds every package and file."""

import configparser
import importlib.metadata
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "genrep": ROOT / "src/genrep",
    **{f"genrep.{name}": ROOT / name for name in ("papers", "generate", "train", "evaluate", "datasets_manifest")},
}


def packages_on_disk():
    found = set()
    for name, folder in FOLDERS.items():
        for path in folder.rglob("__init__.py"):
            found.add(".".join([name, *path.parent.relative_to(folder).parts]))
    return found


def listed():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_setup_cfg_lists_the_packages_on_disk():
    names = listed()["options"]["packages"].split()
    assert set(names) == packages_on_disk()
    assert len(names) == len(set(names))


def test_every_folder_with_code_is_a_package():
    for folder in FOLDERS.values():
        for path in folder.rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built from a copy, so that the checkout stays clean."""
    import shutil

    work = tmp_path_factory.mktemp("wheel")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    files = (
        names.stdout.splitlines()
        if names.returncode == 0
        else [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    )
    for file in files:
        if (ROOT / file).is_file() and not file.startswith(("tests/", "shards/")):
            (work / "tree" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, work / "tree" / file)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(work),
        str(work / "tree"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return next(work.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_every_package_and_data_file(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    for name, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".toml", ".safetensors", ".css", ".js") or path.name == "py.typed":
                relative = "/".join([*name.split("."), *path.relative_to(folder).parts])
                assert relative in inside, relative
    assert not [file for file in inside if file.startswith(("tests/", "benchmarks/", "evaluate/", "train/", "papers/"))]


@pytest.mark.slow
def test_the_sdist_holds_what_the_wheel_is_built_from(wheel, tmp_path):
    command = [
        sys.executable,
        "-m",
        "build",
        "-q",
        "--sdist",
        "--no-isolation",
        "-o",
        str(tmp_path),
        str(wheel.parent / "tree"),
    ]
    subprocess.run(command, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    for name, folder in FOLDERS.items():
        for path in folder.rglob("*"):
            if path.suffix in (".py", ".toml", ".safetensors", ".css", ".js"):
                assert str(path.relative_to(ROOT)) in inside, f"{name}: {path}"


@pytest.mark.slow
def test_the_wheel_runs_without_the_checkout(wheel, tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(wheel),
    ]
    subprocess.run(command, check=True, capture_output=True)
    site = str(tmp_path / "site")
    code = f"""import sys; sys.path.insert(0, {site!r})
from genrep.generate.recipes import recipe
print(recipe.__file__, recipe.known_recipes())"""
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "site/genrep/generate/recipes/recipe.py" in output.stdout
    assert "stylegan2_fashion" in output.stdout


def test_one_list_of_pythons():
    (tested,) = re.findall(r"^TESTED +:= (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    classifiers = re.findall(r"Python :: (3\.\d+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]["tests"]["strategy"]["matrix"]
    assert tested.split() == classifiers == matrix["python"]


def test_one_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    latest = re.search(r"^## (\d+\.\d+\.\d+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None
    assert citation["version"] == latest[1] == importlib.metadata.version("genrep")
    assert str(citation["date-released"]) == latest[2]


def test_the_constraints_pin_every_package_but_pytorch():
    pinned = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    asked = {
        re.match(r"[A-Za-z0-9._-]+", text).group().lower().replace("_", "-")
        for text in importlib.metadata.requires("genrep")
    }
    assert asked - pinned == {"torch", "torchvision", "genrep"}
