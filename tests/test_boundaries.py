"""Arrows point down only: between the folders, between the rooms of a folder, between the modules of a room.

An import counts wherever it stands: at the top, inside a function, for type checking, by ``import_module``, as a string in a
table of names to be found later, or as a resource of another package.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "genrep": ROOT / "src/genrep",
    **{f"genrep.{name}": ROOT / name for name in ("papers", "generate", "train", "evaluate", "datasets_manifest")},
}
# A folder may import these, besides itself and the root package.
ALLOWED = {
    "genrep": set(),
    "genrep.datasets_manifest": set(),
    "genrep.evaluate": set(),
    "genrep.train": {"genrep.datasets_manifest"},
    "genrep.generate": {"genrep.datasets_manifest"},
    "genrep.papers": {"genrep.generate", "genrep.train", "genrep.evaluate", "genrep.datasets_manifest"},
}
# The rooms of a folder, from below. A room imports what stands before it. Rooms on one line do not know each other.
ORDER = {
    "genrep.generate": [
        ("pixels", "generators"),
        ("views",),
        ("recipes",),
        ("weights",),
        ("plans",),
        ("sources",),
        ("build", "preview", "fits", "training_images"),
        ("gan", "diffusion", "quality"),
        ("commands",),
        ("cli",),
    ],
    "genrep.train": [
        ("objectives", "data", "contract"),
        ("config",),
        ("engine",),
        ("method_presets",),
        ("presets",),
        ("cli",),
    ],
    "genrep.papers": [("report",), ("figure3",), ("tasks",), ("reproduce",), ("source",), ("commands",), ("cli",)],
}
# The one module through which lower folders reach upper ones, found at run time (docs/architecture.md).
BRIDGE = "genrep.across"


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for name, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([name, *(parts[:-1] if parts[-1] == "__init__" else parts)])] = path
    return found


MODULES = modules()


def named_in(text: str) -> Iterator[str]:
    """Dotted names of genrep in a string that is nothing but such a name, with or without ``:attribute``."""
    match = re.fullmatch(r"(genrep(?:\.\w+)+)(?::\w+)?", text)
    if match:
        yield match[1]


def known(name: str) -> str | None:
    """The longest beginning of a dotted name that is a module; None if none is."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or None


def imports_of(module: str) -> set[str]:
    """The modules that a module imports, in any way."""
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = parts[: len(parts) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{source}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = list(named_in(node.value))
        found.update(target for name in names if (target := known(name)) and target != module)
    return found


@cache
def whole() -> dict[str, set[str]]:
    """The graph of all modules; not drawn while tests are collected, which every process does."""
    return {module: imports_of(module) for module in MODULES}


def folder_of(module: str) -> str:
    """``genrep.generate`` for what lies in generate/, ``genrep`` for the root package."""
    return next((name for name in FOLDERS if name != "genrep" and (module + ".").startswith(name + ".")), "genrep")


def room_of(module: str) -> str:
    """The part below the folder: a package or a lone module; empty for the folder's own ``__init__``."""
    return module.removeprefix(folder_of(module)).strip(".").partition(".")[0]


def circle(graph: dict[str, set[str]]) -> list[str] | None:
    """A circle of a graph, its first name repeated at the end; None if there is none."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str] | None:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return None
        for target in sorted(graph.get(name, ())):
            if found := walk(target, [*way, name]):
                return found
        done.add(name)
        return None

    return next((found for name in sorted(graph) if (found := walk(name, []))), None)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folders_import_in_one_direction(folder: str) -> None:
    for module, targets in whole().items():
        if folder_of(module) == folder and module != BRIDGE:
            for target in targets:
                assert folder_of(target) in {folder, "genrep", *ALLOWED[folder]}, f"{module} imports {target}"


def rooms(folder: str) -> dict[str, set[str]]:
    """The graph of a folder's rooms. A folder's own ``__init__`` shows names of its rooms and is none."""
    graph: dict[str, set[str]] = {}
    for module, targets in whole().items():
        if folder_of(module) == folder and room_of(module):
            inside = {room_of(target) for target in targets if folder_of(target) == folder}
            graph.setdefault(room_of(module), set()).update(inside - {room_of(module), ""})
    return graph


@pytest.mark.parametrize("folder", FOLDERS)
def test_rooms_stand_in_no_circle(folder: str) -> None:
    assert circle(rooms(folder)) is None


@pytest.mark.parametrize("folder", ORDER)
def test_a_room_imports_only_rooms_below_it(folder: str) -> None:
    floor = {room: height for height, names in enumerate(ORDER[folder]) for room in names}
    graph = rooms(folder)
    assert set(graph) - {"__main__"} <= set(floor), "a new room: say on which floor it stands"
    for room, targets in graph.items():
        for target in targets if room in floor else ():
            assert floor[target] < floor[room], f"{folder}: {room} imports {target}"


def test_modules_stand_in_no_circle() -> None:
    """A package's ``__init__`` shows names of its modules: for them it stands for nothing."""
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    graph = {module: targets - packages for module, targets in whole().items() if module not in packages | {BRIDGE}}
    assert circle(graph) is None


def test_the_search_sees_every_way_to_import() -> None:
    assert list(named_in("genrep.generate.build:regenerate")) == ["genrep.generate.build"]
    assert not list(named_in("see genrep.generate.build"))
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) is None
    assert "genrep.errors" in whole()["genrep.cli"] and "genrep.papers.report" in whole()["genrep.papers"]
