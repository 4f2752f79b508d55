"""What all protocols do alike, seen by one that is added from outside the package: one file and one line in a dict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genrep.cli import LazyGroup, invoke
from genrep.encoders import build_encoder, load_encoder, save_encoder
from genrep.evaluate import protocol
from genrep.evaluate.cli import packages
from genrep.evaluate.protocol import PROTOCOLS, ListedProtocol
from genrep.evaluate.table import results_table

BRIGHTNESS = """
from dataclasses import dataclass
from pathlib import Path

import click

from genrep.cli import say
from genrep.evaluate.images import whole_batches
from genrep.evaluate.protocol import ImagesProtocol
from genrep.evaluate.transforms import Transform


@dataclass(frozen=True, kw_only=True)
class BrightnessConfig:
    dataset: str
    out: Path
    encoder: str
    seeds: tuple[int, ...] = (0,)
    force: bool = False
    root: None = None
    download: bool = False
    random_init: bool = False
    arch: None = None
    stem: str = "imagenet"
    device: str = "cpu"


class Brightness(ImagesProtocol[BrightnessConfig]):
    name = "brightness"

    def protocol(self):
        return {"name": "brightness", **self.images_said()}

    def figures(self):
        (pixels,) = whole_batches(self.test, Transform(), 1000)
        return {"metric": "brightness", "unit": "percent", "value": float(pixels.mean()) / 2.55, "n": len(self.test)}


@click.command("brightness")
@click.option("--encoder")
@click.option("--dataset")
@click.option("--out", type=Path)
@click.option("--force", is_flag=True)
@click.option("--seeds", type=int, multiple=True, default=(0,))
def command(**options):
    results = Brightness(BrightnessConfig(**options)).measure_all()
    say(f"{results.mean:.1f}{' done before' if results.already_done else ''}: {results.path}")
"""


@pytest.fixture
def verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LazyGroup:
    """The command line with one more protocol."""
    (tmp_path / "lab_of_brightness").mkdir()
    (tmp_path / "lab_of_brightness/brightness.py").write_text(BRIGHTNESS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PROTOCOLS, "brightness", ListedProtocol(summary="Of images.", package="lab_of_brightness"))
    return LazyGroup("genrep-evaluate", packages=packages())


@pytest.mark.slow
def test_one_file_and_one_line_make_a_protocol(
    verb: LazyGroup, encoder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["brightness", "--encoder", str(encoder), "--dataset", str(images), "--out", str(out)]
    assert invoke(verb, [*arguments, "--seeds", "0", "--seeds", "1"]) == 0
    assert capsys.readouterr().out.startswith("4")
    entries = json.loads((out / "brightness.json").read_text())
    assert [entry["seed"] for entry in entries] == [0, 1]
    entry = entries[0]
    assert entry["dataset"] == images.name
    assert entry["encoder_sha256"] == load_encoder(encoder).sha256 and entry["device"] == "cpu"
    assert {"train_sha256", "test_sha256", "train_images"} <= entry["protocol"].keys()
    assert entry["metric"] == "brightness" and entry["n"] == 15 and entry["versions"].keys() == {"torch"}
    assert "brightness (percent), n = 15 test images" in results_table([("row", out)])

    assert invoke(verb, arguments) == 0
    assert "done before" in capsys.readouterr().out
    assert json.loads((out / "brightness.json").read_text()) == entries

    other = tmp_path / "other.safetensors"
    save_encoder(other, build_encoder("resnet18", "imagenet", seed=2), load_encoder(encoder).facts)
    arguments[2] = str(other)
    assert invoke(verb, arguments) == 1
    assert "holds this result for another encoder" in capsys.readouterr().err
    assert invoke(verb, [*arguments, "--force"]) == 0
    replaced, kept = json.loads((out / "brightness.json").read_text())
    assert replaced["encoder_sha256"] == load_encoder(other).sha256 and kept == entries[1]


def test_measure_is_the_first_seeds_entry(
    verb: LazyGroup, encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lab_of_brightness.brightness import Brightness, BrightnessConfig

    config = BrightnessConfig(dataset=str(images), out=tmp_path / "out", encoder=str(encoder), seeds=(3, 4))
    entry = Brightness(config).measure()
    assert [one["seed"] for one in json.loads((tmp_path / "out/brightness.json").read_text())] == [3]
    monkeypatch.setattr(Brightness, "figures", None)  # nothing is measured again
    assert Brightness(config).measure() == entry


def test_what_cannot_be_read_leaves_no_folder(verb: LazyGroup, encoder: Path, images: Path, tmp_path: Path) -> None:
    def call(**options: Any) -> int:
        words = {"encoder": encoder, "dataset": images, "out": tmp_path / "out", **options}
        return invoke(
            verb, ["brightness", *(word for name, value in words.items() for word in (f"--{name}", str(value)))]
        )

    assert call(encoder=tmp_path / "none") == call(dataset=tmp_path / "none") == 1
    assert not (tmp_path / "out").exists()


def test_every_protocol_has_its_command_and_result_file() -> None:
    import click

    group = LazyGroup("genrep-evaluate", packages=packages())
    for name in PROTOCOLS:
        assert isinstance(group.get_command(click.Context(group), name), click.Command)
    assert set(protocol.result_files()) == {f"{name}.json" for name in PROTOCOLS}
