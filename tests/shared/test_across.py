"""The folders below name none above them, but for the one module that says what it reaches."""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

from genrep import across

ROOT = Path(__file__).parents[2]
ABOVE = {
    "src/genrep": "generate|train|evaluate|papers|datasets_manifest",
    "datasets_manifest": "generate|train|evaluate|papers",
    "train": "generate|evaluate|papers",
    "evaluate": "generate|train|papers|datasets_manifest",
    "generate": "train|evaluate|papers",
}


@pytest.mark.parametrize("name", across.REACHED)
def test_what_is_reached_is_there_under_the_name_and_with_the_arguments_of_its_bridge(name):
    reached = getattr(import_module(across.REACHED[name]), name)
    assert (
        list(inspect.signature(reached).parameters)[:1] == list(inspect.signature(getattr(across, name)).parameters)[:1]
    )


@pytest.mark.slow
@pytest.mark.parametrize("folder", ABOVE)
def test_no_text_of_a_lower_folder_names_a_module_of_a_higher_one(folder):
    """A name in a string is an import in disguise: of a module by importlib, or of a file by importlib.resources."""
    pattern = re.compile(rf"genrep\.({ABOVE[folder]})(\.\w+)*")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if path != ROOT / "src/genrep/across.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and pattern.fullmatch(node.value)
    ]
    assert found == []
