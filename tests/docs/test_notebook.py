"""docs/tutorial.ipynb runs, at a tiny size, and keeps its pictures small."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    made = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook_runs(tmp_path: Path) -> None:
    module(Path(__file__).with_name("snippets.py")).write_data(tmp_path)
    parameters = {"PAIRS": 64, "BATCH": 32, "EPOCHS": 1, "PROBE_EPOCHS": 1}
    notebook = module(DOCS / "update_notebook.py").execute(tmp_path, parameters)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
    assert "16 shards, 64 pairs" in text and "the same latent: True" in text
    assert all(f"{name:8} linear" in text for name in ("random", "pixel", "latent"))


def test_what_is_kept_has_its_outputs_and_is_small() -> None:
    path = DOCS / "tutorial.ipynb"
    assert path.stat().st_size < 300_000
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) >= 4
    assert not [output for output in outputs if output.get("name") == "stderr" or output["output_type"] == "error"]
