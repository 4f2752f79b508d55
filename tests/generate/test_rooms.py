"""The rooms of generate/ stand on each other: what a room imports, at any depth of its code, lies below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "generate"
# From below. A later room may import an earlier one; nothing goes the other way, neither lazily nor for types.
ROOMS = (
    *("generators", "pixels", "views", "recipes", "weights", "plans", "sources", "build", "preview", "fits", "gan"),
    *("commands", "cli", "__main__", "__init__"),
)


def files():
    for path in sorted(ROOT.rglob("*.py")):
        yield path, path.relative_to(ROOT).with_suffix("").parts


def rooms_named(path, parts):
    """Each room that a file imports, with the line."""
    package = ["genrep", "generate", *parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.startswith("genrep.generate."):
                room = name.split(".")[2]
                yield room if room in ROOMS else "__init__", node.lineno


def test_every_room_has_its_place():
    assert {parts[0] for _, parts in files()} == set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_what_lies_below_it(room):
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {named}"
        for path, parts in files()
        if parts[0] == room
        for named, line in rooms_named(path, parts)
        if ROOMS.index(named) > ROOMS.index(room)
    ]
    assert upward == []
