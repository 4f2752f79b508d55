"""HL's Figure 3 as a page: plots and a table of what the benchmark measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import invoke
from genrep.errors import DataError
from genrep.papers.commands import reproduce_command as command
from genrep.papers.figure3 import measure
from genrep.papers.figure3.__main__ import figure3
from genrep.papers.figure3.page import timing_blocks
from genrep.papers.figure3.ways import Figure3Config, Study
from genrep.papers.reproduce.planning import make_plan

Captured = pytest.CaptureFixture[str]
SETTINGS = {
    **{"gen": "bigbigan", "device": "cuda", "devices": 4, "workers": 8, "images": 126_789, "rounds": 5, "seconds": 4.0},
    **{"country": "USA", "epochs": 20},
}


def measured(*, co2: bool) -> dict[str, Any]:
    def row(seconds: float) -> dict[str, Any]:
        grams = {"co2_grams_per_s": 0.05, "co2_grams": seconds} if co2 else {}
        return {"images_per_s": 2000.0, "device_seconds": seconds, "times_png": 1.5, "kilojoules": {}, **grams}

    return {
        "settings": SETTINGS,
        "sizes": {"32": {"png": row(90), "ours": row(60)}, "256": {"png": row(70), "ours": row(40)}},
    }


STUB = """
import json, sys
from pathlib import Path
Path(sys.argv[sys.argv.index("--out") + 1]).write_text({content!r})
print("lines")
"""


@pytest.mark.slow
@pytest.mark.parametrize("co2", [True, False])
def test_the_page_has_the_plots(co2: bool, tmp_path: Path, stub_figure3: Callable[[str], None]) -> None:
    out = tmp_path / "out"
    stub_figure3(STUB.format(content=json.dumps(measured(co2=co2))))
    assert invoke(command, ["hl-fig3", "--scale", "tiny", "--out", str(out), "--device", "cpu"]) == 0
    page = (out / "hl-fig3-tiny/report.md").read_text()
    assert "bigbigan, 4 x cuda, 8 workers a file loader, an epoch of 126,789 pairs" in page
    assert ("by the electricity of USA, for 20 epochs" in page) == co2 and ("that requires codecarbon" in page) != co2
    assert "| this project's loader | 256 | 2,000 | 40.0 |" in page and "lines" in page
    assert ("CO2 (g/s)" in page) == co2
    picture = (out / "hl-fig3-tiny/report-timing.png").read_bytes()
    assert picture.startswith(b"\x89PNG") and "![HL's Figure 3" in page
    assert "data:image/png;base64," in (out / "hl-fig3-tiny/report.html").read_text()


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("sizes"),
        lambda content: content["sizes"].update(x={}),
        lambda content: content["sizes"]["32"]["png"].update(device_seconds="fast"),
        lambda content: content["sizes"]["32"]["png"].update(device_seconds=float("inf")),
        lambda content: content["settings"].pop("workers"),
    ],
)
def test_a_file_that_is_something_else_is_named(change: Callable[[Any], None], tmp_path: Path) -> None:
    content = measured(co2=True)
    change(content)
    (tmp_path / "timing.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"timing\.json: wanted what figure3 writes"):
        timing_blocks(tmp_path / "timing.json")
    assert timing_blocks(tmp_path / "none.json") == ([], [])


def test_its_defaults_are_hls() -> None:
    """8 workers a file loader, CO2 where codecarbon is, batches of 32 to 256 on each device, 20 epochs of ImageNet-100."""
    options = figure3.make_context("figure3", []).params
    assert (options["workers"], options["co2"], options["batch_sizes"]) == (8, None, (32, 64, 128, 256))
    assert (options["images"], options["epochs"]) == (126_789, 20)
    assert options == vars(Figure3Config())
    assert measure.devices_of("cpu", None) == 1 and measure.devices_of("cuda", 4) == 4
    task = make_plan("hl-fig3", "full").task
    assert task is not None
    words = task.command({}, "cuda")
    assert words[words.index("--out") + 1] == f"{task.folder}/timing.json"


def test_numbers_of_several_devices_are_added() -> None:
    options: dict[str, Any] = {"gen": "x", "views": None, "device": "cuda", "step": True, "seconds": 1.0, "workers": 8}
    study = Study(**options, devices=2, rounds=2, images=1000, epochs=20, country="USA")
    turns = [measure.Taken(pairs=100, wall=2.0, device=4.0, joules={"GPU": 500.0}, grams=0.1) for _ in range(2)]
    slow = [measure.Taken(pairs=50, wall=2.0, device=4.0, joules={"GPU": 500.0}, grams=0.1) for _ in range(2)]
    said = measure.numbers(turns, slow, study)
    assert said["images_per_s"] == pytest.approx(100.0) and said["device_seconds"] == pytest.approx(40.0)
    assert said["times_png"] == pytest.approx(2.0) and said["kilojoules"]["GPU"] == pytest.approx(5.0)
    assert said["co2_grams_per_s"] == pytest.approx(0.05) and said["co2_grams"] == pytest.approx(20.0)
