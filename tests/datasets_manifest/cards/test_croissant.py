"""croissant.json, as MLCommons' own library reads it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.datasets_manifest.cards import CardConfig, write_card
from genrep.datasets_manifest.contents import open_dataset
from genrep.datasets_manifest.manifest import read_manifest
from genrep.files import sha256_file

READ = """
import json, sys
import mlcroissant
for path in sys.argv[1:]:
    dataset = mlcroissant.Dataset(jsonld=path)
    issues = dataset.metadata.ctx.issues
    sets = {each.uuid: list(dataset.records(each.uuid)) for each in dataset.metadata.record_sets}
    print(json.dumps({"errors": list(issues.errors), "warnings": list(issues.warnings), "sets": sets,
        "licence": dataset.metadata.license, "biases": dataset.metadata.data_biases, "name": dataset.metadata.name,
        "files": {each.name: each.sha256 for each in dataset.metadata.file_objects}}, default=bytes.decode))
"""


def read(*folders: Path) -> list[dict[str, Any]]:
    """What mlcroissant makes of the folders' files; in a process of its own, since it warns."""
    paths = [str(folder / "croissant.json") for folder in folders]
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", READ, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_mlcroissant_validates_and_reads_it(fashion: Path, copy_of: Callable[[str], Path]) -> None:
    folders = [fashion, *map(copy_of, ("jpeg", "real", "prompted", "anchored"))]
    for folder in folders:
        write_card(CardConfig(folder=folder))
    for folder, found in zip(folders, read(*folders), strict=True):
        manifest = read_manifest(folder)
        assert found["errors"] == []
        assert [line for line in found["warnings"] if "datePublished" not in line] == []  # a build has no date
        files = {"manifest.json": sha256_file(folder / "manifest.json")}
        files |= {table["name"]: table["sha256"] for table in manifest.tables}
        assert found["files"] == files | {shard.name: shard.sha256 for shard in manifest.shards}
        dataset = open_dataset(folder)
        for stem, texts, column in (("prompts", dataset.prompts, "prompt"), ("sources", dataset.sources, "name")):
            assert [row[f"{stem}/{column}"] for row in found["sets"].get(stem, [])] == list(texts or [])
        assert [row["shards/latents_sha256"] for row in found["sets"]["shards"]] == [
            shard.latents_sha256 for shard in manifest.shards
        ]
        assert [row["shards/first_index"] for row in found["sets"]["shards"]] == [
            shard.first_index for shard in manifest.shards
        ]
        assert [row["fields/name"] for row in found["sets"]["fields"]] == [field["name"] for field in manifest.fields]
        assert [row["classes/name"] for row in found["sets"].get("classes", [])] == manifest.classes
        assert found["name"] == f"genrep-{manifest.id[:12]}"
        assert found["biases"]


@pytest.mark.slow
def test_the_command_of_mlcroissant_accepts_it(fashion: Path) -> None:
    write_card(CardConfig(folder=fashion))
    path = str(fashion / "croissant.json")
    program = "from mlcroissant.scripts.cli import main; main()"
    command = [sys.executable, "-W", "ignore", "-c", program, "validate", "--jsonld", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Done" in done.stderr


@pytest.mark.slow
def test_a_strangers_text_stays_text(described: Callable[..., Path], tmp_path: Path) -> None:
    texts = ["@id", '"}], "@type": "x', "sc:Dataset\n", "\u202e\x00", "http://evil.example/context.jsonld"]
    folders = []
    for number, text in enumerate(texts):
        folder = described(text)
        write_card(CardConfig(folder=folder, force=True))
        kept = tmp_path / str(number)
        kept.mkdir()
        for name in ("croissant.json", "manifest.json"):
            (kept / name).write_bytes((folder / name).read_bytes())
        folders.append(kept)
    for folder, found in zip(folders, read(*folders), strict=True):
        assert found["errors"] == []
        assert set(found["sets"]) == {"shards", "fields", "classes"}
        assert len(found["sets"]["classes"]) == 3
        value = json.loads((folder / "croissant.json").read_text())
        assert value["@type"] == "sc:Dataset" and len(value["@context"]) == 36


@pytest.mark.parametrize(
    ("licence", "wanted"), [("MIT", "https://spdx.org/licenses/MIT.html"), ("mine\n", r"'mine\n'"), (None, "unknown")]
)
def test_the_licence(raw: Path, rewrite: Callable[..., None], licence: str | None, wanted: str) -> None:
    rewrite(raw, lambda value: value["build"].update({"licence": licence} if licence else {}))
    write_card(CardConfig(folder=raw))
    assert json.loads((raw / "croissant.json").read_text())["license"] == wanted
