"""Sets of prompts and of real anchors that a build made: repaired, rebuilt, examined and finished with their tables."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import folder_server
import numpy as np
import pytest
from PIL import Image

from genrep.across import RegenerationConfig
from genrep.cli import invoke
from genrep.datasets_manifest import cli, open_dataset, read_manifest
from genrep.datasets_manifest.finish import finish
from genrep.datasets_manifest.recovery.examine import ExamineConfig, examine
from genrep.datasets_manifest.recovery.rebuild import RebuildConfig, rebuild
from genrep.datasets_manifest.recovery.repair import RepairConfig, repair
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError
from genrep.generate import BuildConfig, build_dataset

Contents = Callable[[Path], dict[str, bytes]]
MODULE = '''
import torch
from genrep.generate.generators.base import LatentSpec

class Sampler:
    """Spatial noise and the length of a prompt as a picture; edits pictures by mixing."""

    latent, num_classes, image_shape, takes_prompts = LatentSpec(shape=(3, 8, 8)), 0, (8, 8), False

    def synthesize(self, z, y=None):
        return z / 3 + (torch.tensor([len(text) / 20 for text in y])[:, None, None, None] if y is not None else 0)

    def edit(self, images, z, y=None, *, strength, noise=None):
        part = strength.view(-1, 1, 1, 1)
        return (1 - part) * images + part * self.synthesize(z, y)

def of_prompts():
    made = Sampler()
    made.takes_prompts = True
    return made

def of_images():
    return Sampler()
'''
PROMPTS = "cat\ta cat\ncat\ta small cat\ndog\ta dog\ndog\tthe dog of the house\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "mini_sampler.py").write_text(MODULE)
    (folder / "prompts.txt").write_text(PROMPTS)
    stream = np.random.RandomState(0)
    for i in range(7):
        path = folder / f"photos/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stream.randint(0, 255, (9 + i, 12, 3), dtype=np.uint8)).save(path)
    return folder


GIVEN = {
    "prompts": {"gen": "mini_sampler:of_prompts", "views": "prompts", "store_latents": "no"},
    "anchors": {"gen": "mini_sampler:of_images", "views": "sdedit:strength=.2-.9"},
}
TABLE = {"prompts": "prompts.jsonl", "anchors": "sources.jsonl"}
KINDS = pytest.mark.parametrize("kind", GIVEN)


@pytest.fixture(scope="module")
def built(place: Path) -> dict[str, Path]:
    """A set of prompts whose latents are not stored, and one of real anchors; seven pairs in three shards. Never modified."""
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        for kind, options in GIVEN.items():
            made[kind] = place / kind
            material = {"prompts": place / "prompts.txt"} if kind == "prompts" else {"anchors": str(place / "photos")}
            settings: dict[str, Any] = {"num_pairs": 7, "shard_size": "3", "batch_size": 2, "processes": 1, **options}
            build_dataset(BuildConfig(out=made[kind], **material, **settings))
    return made


@pytest.fixture
def broken(
    built: dict[str, Path], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Path]:
    """``broken(kind)``: a copy without its second shard."""
    monkeypatch.syspath_prepend(str(place))

    def copy(kind: str) -> Path:
        folder = Path(shutil.copytree(built[kind], tmp_path / kind))
        (folder / "shard-00001.beton").unlink()
        return folder

    return copy


def making(place: Path, kind: str, **options: Any) -> RegenerationConfig:
    photos = {"anchors": str(place / "photos")} if kind == "anchors" else {}
    return RegenerationConfig(gen=GIVEN[kind]["gen"], processes=1, **photos, **options)


@KINDS
@pytest.mark.parametrize("level", ["quick", "bytes", "full"])
def test_what_a_build_made_is_good(built: dict[str, Path], kind: str, level: str) -> None:
    assert verify(built[kind], level) == []
    manifest = read_manifest(built[kind])
    assert (manifest.schema_version, [table["name"] for table in manifest.tables]) == (2, [TABLE[kind]])
    for file in ("README.md", "croissant.json"):
        assert TABLE[kind] in (built[kind] / file).read_text()


@KINDS
def test_shards_and_tables_come_back_from_a_copy(
    built: dict[str, Path], broken: Callable[[str], Path], contents: Contents, kind: str
) -> None:
    folder = broken(kind)
    (folder / TABLE[kind]).unlink()
    with folder_server.serving(built[kind]) as address:
        report = repair(RepairConfig(folder=folder, source=address))
    assert (report.tables, report.repaired, report.left) == ([TABLE[kind]], ["shard-00001.beton"], [])
    assert contents(folder) == contents(built[kind])


@KINDS
def test_a_shard_is_made_again_with_the_folders_own_prompts(
    built: dict[str, Path], broken: Callable[[str], Path], place: Path, contents: Contents, kind: str
) -> None:
    folder = broken(kind)
    report = repair(RepairConfig(folder=folder, making=making(place, kind)))
    assert (report.tables, report.repaired, report.left) == ([], ["shard-00001.beton"], [])
    assert contents(folder) == contents(built[kind])


@KINDS
@pytest.mark.parametrize("shards", [True, False])
def test_a_table_is_written_again_from_what_it_was_made_of(
    built: dict[str, Path], broken: Callable[[str], Path], place: Path, contents: Contents, kind: str, shards: bool
) -> None:
    folder = broken(kind)
    if not shards:
        shutil.copy(built[kind] / "shard-00001.beton", folder)
    table = folder / TABLE[kind]
    table.write_bytes(table.read_bytes()[:-5])
    given = {"prompts": place / "prompts.txt"} if kind == "prompts" else {}
    report = repair(RepairConfig(folder=folder, making=making(place, kind, **given)))
    assert (report.tables, report.repaired) == ([TABLE[kind]], ["shard-00001.beton"] if shards else [])
    assert contents(folder) == contents(built[kind])
    assert next(iter(report.lines())) == f"{TABLE[kind]}: repaired"


@KINDS
def test_a_table_that_cannot_be_made_is_named_with_the_way_out(
    built: dict[str, Path],
    place: Path,
    contents: Contents,
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(built[kind], tmp_path / kind))
    (folder / TABLE[kind]).unlink()
    assert invoke(cli.group, ["repair", str(folder)]) == 1
    out, err = capsys.readouterr()
    option = "--prompts FILE" if kind == "prompts" else "--anchors DIR"
    assert f"{TABLE[kind]}: missing; --from fetches it, {option} writes it again\n" in out
    assert err == f"Error: genrep-manifest: {folder}: 1 problem left\n"


def test_without_its_prompts_no_shard_is_made_and_nothing_is_changed(
    broken: Callable[[str], Path], place: Path, contents: Contents
) -> None:
    folder = broken("prompts")
    (folder / "prompts.jsonl").write_text('{"prompt":"another"}\n')
    before = contents(folder)
    with pytest.raises(DatasetError, match=r"prompts\.jsonl: 21 bytes, the manifest says .*, or prompts FILE$"):
        repair(RepairConfig(folder=folder, making=making(place, "prompts")))
    assert contents(folder) == before


@KINDS
def test_rebuilt_from_a_folder_it_is_the_same_to_the_byte(
    built: dict[str, Path], place: Path, contents: Contents, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    for source in (built[kind], built[kind] / "manifest.json"):
        out = tmp_path / source.name
        report = rebuild(RebuildConfig(source=str(source), out=out, making=making(place, kind)))
        assert report.level == "bytes"
        found, wanted = contents(out), contents(built[kind])  # which besides holds what the build noted of the images
        assert found == {name: wanted[name] for name in found} and {TABLE[kind], "manifest.json"} < set(found)
    (out / TABLE[kind]).unlink()
    with pytest.raises(DatasetError, match=rf"was finished, but {TABLE[kind]}: missing \(1 of 4 files\)"):
        rebuild(RebuildConfig(source=str(source), out=out, making=making(place, kind)))


def test_rebuilt_from_an_address_the_prompts_are_fetched(
    built: dict[str, Path], place: Path, contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    with folder_server.serving(built["prompts"]) as address:
        rebuild(RebuildConfig(source=address, out=tmp_path / "out", making=making(place, "prompts")))
    assert contents(tmp_path / "out") == contents(built["prompts"])


def test_a_manifest_alone_lacks_its_prompts(
    built: dict[str, Path], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    alone = Path(shutil.copy(built["prompts"] / "manifest.json", tmp_path))
    config = RebuildConfig(source=str(alone), out=tmp_path / "out", making=making(place, "prompts"))
    with pytest.raises(
        DatasetError, match=r"prompts\.jsonl: missing; wanted the dataset's own prompts there, or prompts"
    ):
        rebuild(config)
    given = making(place, "prompts", prompts=place / "prompts.txt")
    assert rebuild(RebuildConfig(source=str(alone), out=tmp_path / "out", making=given)).level == "bytes"


@KINDS
def test_a_sample_made_again_agrees_in_floats_rows_and_images(
    built: dict[str, Path], place: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(place))
    config = ExamineConfig(folder=built[kind], level="full", regenerate=7, sample_seed=0, making=making(place, kind))
    found = examine(config)
    assert (found.problems, found.failure) == ([], None)
    assert found.sample is not None and found.sample.identical_images == 14


def test_a_sample_shows_a_float_or_a_row_that_is_not_the_recipes(
    built: dict[str, Path], place: Path, tmp_path: Path, patch_of: Any, reseal: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.syspath_prepend(str(place))
    folder = Path(shutil.copytree(built["anchors"], tmp_path / "copy"))
    patch = patch_of(folder)
    patch.records["strength"][1] += 1e-9
    patch.records["source"][2] = 0
    patch.path.write_bytes(patch.data)
    reseal(folder)
    config = ExamineConfig(folder=folder, level="full", regenerate=7, sample_seed=0, making=making(place, "anchors"))
    assert [problem.reason for problem in examine(config).problems] == [
        "pair 1 made again: strength differs",
        "pair 2 made again: source differs",
    ]


def test_what_is_not_stored_is_verified_and_given_as_if_it_were(
    built: dict[str, Path], rewrite: Any, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(built["prompts"], tmp_path / "copy"))
    dataset = open_dataset(folder)
    assert dataset[0]["z_anchor"].shape == (3, 8, 8)
    rewrite(folder, lambda value: value["recipe"].update(seed=1))  # other latents than those that the digests cover
    reasons = [problem.reason for problem in verify(folder, "full")]
    assert len(reasons) == 3 and all(reason.startswith("latents_sha256 is ") for reason in reasons)


@KINDS
def test_the_contact_sheet_and_card_of_a_finished_folder_are_the_builds(
    built: dict[str, Path], contents: Contents, kind: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(built[kind], tmp_path / kind))
    for name in ("manifest.json", "contact-sheet.png", "README.md", "croissant.json"):
        (folder / name).unlink()
    finish(folder)
    assert contents(folder) == contents(built[kind])
    value = json.loads((folder / "manifest.json").read_text())
    assert value["recipe"]["prompts" if kind == "prompts" else "anchors"]["count"] == value["tables"][0]["count"]
