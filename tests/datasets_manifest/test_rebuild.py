"""rebuild: a dataset made again from its manifest alone, and how much it is said to be the same."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.across import RegenerationConfig
from genrep.cli import invoke
from genrep.datasets_manifest import cli, read_manifest
from genrep.datasets_manifest.recovery.rebuild import RebuildConfig, RebuildReport, rebuild
from genrep.datasets_manifest.verify import verify
from genrep.errors import DatasetError, GenRepError, RecipeError, ResumeError

Rewrite = Callable[..., None]


def again(source: Path, out: Path, **making: Any) -> RebuildReport:
    config = RegenerationConfig(processes=1, **making)
    return rebuild(RebuildConfig(source=str(source), out=out, making=config))


@pytest.fixture
def manifest(fashion: Path, tmp_path: Path) -> Path:
    """The manifest's folder, without any shard."""
    (tmp_path / "alone").mkdir()
    shutil.copy(fashion / "manifest.json", tmp_path / "alone")
    return tmp_path / "alone"


def test_on_the_same_machine_it_is_the_same_to_the_last_file(
    fashion: Path, tmp_path: Path, contents: Callable[[Path], dict[str, bytes]], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = shutil.copy(fashion / "manifest.json", tmp_path / "published.json")
    report = tmp_path / "report.json"
    command = ["rebuild", str(elsewhere), "--out", str(tmp_path / "out"), "--processes", "1", "--report", str(report)]
    for _ in range(2):  # the second finds it done
        assert invoke(cli.group, command) == 0
        assert "sameness       bytes; manifest.json is the one that was given" in capsys.readouterr().out
    assert contents(tmp_path / "out") == contents(fashion)
    value = json.loads(report.read_text())
    assert value["sameness"] == "bytes" and value["digest"] == value["given_digest"]


def elsewhere(value: dict[str, Any]) -> None:
    """Let a manifest state what another machine's bytes could be."""
    for shard in value["shards"]:
        shard["sha256"] = "0" * 64


def test_where_bytes_come_out_otherwise_the_images_are_compared(
    manifest: Path, tmp_path: Path, rewrite: Rewrite
) -> None:
    rewrite(manifest, elsewhere)
    report = again(manifest, tmp_path / "out", batch_size=7)
    assert report.level == "fingerprints"
    given, made = read_manifest(manifest), read_manifest(tmp_path / "out")
    assert made.id == given.id and made.digest != given.digest
    assert made.build["rebuilt_from"] == {"digest": given.digest, "sameness": "fingerprints"}
    assert [shard.latents_sha256 for shard in made.shards] == [shard.latents_sha256 for shard in given.shards]
    assert verify(tmp_path / "out", "full") == []


def test_without_fingerprints_only_the_latents_are_the_same(manifest: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    rewrite(manifest, lambda value: elsewhere(value) or [shard.pop("fingerprint") for shard in value["shards"]])
    assert again(manifest, tmp_path / "out").level == "latents"


def test_a_build_that_was_stopped_goes_on(fashion: Path, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("recipe.json", "build.json", "shard-00001.json", "shard-00001.beton"):
        shutil.copy(fashion / name, out)
    before = (out / "shard-00001.beton").stat().st_mtime_ns
    assert again(manifest, out).level == "bytes"
    assert (out / "shard-00001.beton").stat().st_mtime_ns == before


def flip(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"\xaa\xbb\xcc\xdd")


def test_a_finished_folder_is_not_said_to_be_the_same_when_its_shards_are_not(
    fashion: Path, fashion_original: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (fashion / "shard-00001.beton").unlink()
    flip(fashion / "shard-00002.beton")
    assert invoke(cli.group, ["rebuild", str(fashion_original / "manifest.json"), "--out", str(fashion)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    said = "was finished, but shard-00001.beton: missing (2 of 3 shards); genrep-manifest repair restores them"
    assert said in err
    assert not (fashion / "shard-00001.beton").exists()


@pytest.fixture
def unfinished(fashion: Path) -> Path:
    """A build of all shards whose last step is missing."""
    (fashion / "manifest.json").unlink()
    return fashion


def test_shards_that_a_stopped_build_left_damaged_are_made_again(
    unfinished: Path, fashion_original: Path, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    flip(unfinished / "shard-00001.beton")
    before = (unfinished / "shard-00002.beton").stat()
    assert again(fashion_original, unfinished).level == "bytes"
    assert contents(unfinished) == contents(fashion_original)
    now = (unfinished / "shard-00002.beton").stat()
    assert (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_another_builds_damaged_shards_are_not_removed(unfinished: Path, fashion_original: Path) -> None:
    flip(unfinished / "shard-00001.beton")
    recipe = json.loads((unfinished / "recipe.json").read_text())
    (unfinished / "recipe.json").write_text(json.dumps({**recipe, "seed": 1}))
    with pytest.raises(ResumeError, match="holds another dataset"):
        again(fashion_original, unfinished)
    assert (unfinished / "shard-00001.beton").exists() and (unfinished / "shard-00001.json").exists()


@pytest.mark.parametrize(
    ("harm", "match"),
    [
        (flip, r"just made, but shard-00002\.beton: sha256 is"),
        (Path.unlink, "only 2 of the 3 shards just made are left"),
    ],
)
def test_what_is_new_is_read_too(
    harm: Callable[[Path], None],
    match: str,
    fashion: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def make(given: dict[str, Any], numbers: Any, out: Path, config: Any) -> None:
        shutil.copytree(fashion, out, ignore=shutil.ignore_patterns("manifest.json"))
        harm(out / "shard-00002.beton")

    monkeypatch.setattr("genrep.datasets_manifest.recovery.rebuild.build_shards", make)
    with pytest.raises(DatasetError, match=match):
        again(manifest, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_other_latents_and_other_images_are_errors(manifest: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    black = base64.b64encode(bytes(192)).decode()

    def mutate(value: dict[str, Any]) -> None:
        value["shards"][0].update(sha256="0" * 64, latents_sha256="1" * 64)
        value["shards"][1].update(sha256="0" * 64)
        value["shards"][1]["fingerprint"]["thumbnails"] = black * (
            len(value["shards"][1]["fingerprint"]["thumbnails"]) // len(black)
        )

    rewrite(manifest, mutate)
    with pytest.raises(
        DatasetError, match=r"shard-00000.beton: other latents; shard-00001.beton: .* images that differ"
    ):
        again(manifest, tmp_path / "out")
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_folders_that_hold_something_else(fashion: Path, raw: Path, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match="holds another dataset"):
        again(fashion, raw)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(ResumeError, match="is neither empty"):
        again(fashion, tmp_path / "out")
    assert (tmp_path / "out" / "mine.txt").read_text() == "x"


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *parents, key, value = path

    def mutate(manifest: dict[str, Any]) -> None:
        place: Any = manifest
        for name in parents:
            place = place[name]
        place[key] = value

    return mutate


NAMING: tuple[object, ...] = (  # a stranger's views that would open what they name
    {"name": "steered", "walks": "/etc/passwd", "digest": "0" * 64},
    {"name": "navigator", "weights": "walk.safetensors"},
    "navigator:weights=/etc/passwd",
    {"name": "mix", "parts": [{"weight": 1.0, "view": "steered:walks=/etc/passwd"}]},
    {"name": "hierarchical", "over": "chunks", "parts": [{"chunks": "0", "view": "navigator:weights=/dev/zero"}]},
)


@pytest.mark.parametrize(
    ("mutate", "match"),
    [
        (put("recipe", "generator", "weights", "0" * 64), "not the manifest's recipe: generator.weights"),
        (put("recipe", "generator", "name", "antigravity:main"), "its generator is code, 'antigravity:main'"),
        (put("recipe", "generator", "family", "module"), "its generator is code"),
        (put("recipe", "generator", "name", "../../x"), r"its recipe is named '../../x'"),
        (put("recipe", "generator", "name", "nobody"), "recipe nobody: no weights ship with it; give weights FILE"),
        (put("recipe", "generator", "name", 5), "not a recipe of genrep-generate"),
        (put("recipe", "generator", []), "not a recipe of genrep-generate"),
        (put("recipe", "generator", "options", "evil", 1), "unknown option 'evil'"),
        (put("recipe", "generator", "options", "truncation", "much"), "."),
        *((put("recipe", "views", table), "names a file of this machine; wanted its digest alone") for table in NAMING),
        (
            put("recipe", "views", {"name": "steered", "only": "zoom", "scale": 1.0, "dim": 128, "digest": "0" * 64}),
            "its file",
        ),
        (
            put("recipe", "filter", {"keep": 0.5, "weights": "0" * 64, "block": 1}),
            "its pairs were filtered: give filter",
        ),
        (put("recipe", "image", "crop", ["a", 0, 1, 1]), "not a recipe"),
        (put("recipe", "views", "std", "x"), "."),
        (put("recipe", "latent", "chunks", ["a"]), "."),
        (put("recipe", "latent", "law", "cauchy"), "latent law 'cauchy'"),
        (put("recipe", "image", "uint8", "exec"), "."),
        (put("recipe", "image", "crop", [0, 0, 99, 99]), "does not lie inside"),
        (put("recipe", "image", "encoding", "jpeg:90"), "its fields are not those that its recipe makes"),
        (put("recipe", "num_positives", 10**9), "num_positives"),
        (put("recipe", "classes", ["x"]), "not a recipe of genrep-generate"),
        (put("recipe", "classes", [1]), "the generator has no classes"),
        (put("recipe", "unknown", 1), "not the manifest's recipe: unknown 1 there"),
        (put("recipe", "source", {"kind": "folder"}), "the dataset holds real images"),
    ],
)
def test_recipes_that_are_not_followed(
    manifest: Path, tmp_path: Path, rewrite: Rewrite, mutate: Callable[..., None], match: str
) -> None:
    rewrite(manifest, mutate)
    with pytest.raises(GenRepError, match=match) as caught:
        again(manifest, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_manifests_word_on_batches_and_devices_is_bounded(manifest: Path, tmp_path: Path, rewrite: Rewrite) -> None:
    def mutate(value: dict[str, Any]) -> None:
        for shard, size in zip(value["shards"], (10**15, -1, "x" * 1000)):
            shard.update(batch_size=size, threads=10**9, device="cuda:99999", sha256="0" * 64)

    rewrite(manifest, mutate)
    again(manifest, tmp_path / "out")
    assert {shard.facts["batch_size"] for shard in read_manifest(tmp_path / "out").shards} == {8}


def test_code_is_run_when_the_user_names_it(
    fashion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_for_rebuild.py").write_text(
        "import torch\n"
        "from genrep.generate.generators.base import LatentSpec\n"
        "class G:\n"
        "    latent, num_classes, image_shape = LatentSpec(dim=4), 0, (8, 8)\n"
        "    def synthesize(self, z, y=None):\n"
        "        return torch.tanh(z[:, :3, None, None].expand(-1, -1, 8, 8))\n"
    )
    from genrep.generate import BuildConfig, build_dataset

    gen = "mine_for_rebuild:G"
    build_dataset(BuildConfig(gen=gen, out=tmp_path / "made", num_pairs=6, shard_size="3", processes=1, device="cpu"))
    with pytest.raises(RecipeError, match="its generator is code, 'mine_for_rebuild:G': give that as gen"):
        again(tmp_path / "made", tmp_path / "out")
    assert again(tmp_path / "made", tmp_path / "out", gen=gen).level == "bytes"


def test_dry_run_prints_the_settings(fashion: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert invoke(cli.group, ["rebuild", str(fashion), "--out", str(out), "--dry-run"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(out) and not out.exists()


def test_learned_views_and_filters_come_with_their_files(tmp_path: Path) -> None:
    import numpy as np

    from genrep.generate import BuildConfig, build_dataset
    from genrep.generate.views.filter_network import FilterFacts, new_scorer, save_filter
    from genrep.generate.views.walks import save_walks

    walks = save_walks(tmp_path / "walks.safetensors", {"zoom": np.full(128, 0.1, dtype=np.float32)}, {})
    weights = tmp_path / "filter.safetensors"
    save_filter(weights, new_scorer(32, 32, seed=3), FilterFacts(gen="stylegan2_fashion", data="toy", images="0"))
    files = {"views": f"steered:walks={walks}", "filter": f"keep=.7,weights={weights}"}
    made = tmp_path / "made"
    build_dataset(BuildConfig(out=made, num_pairs=9, shard_size="5", processes=1, device="cpu", **files))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="its pairs were filtered: give filter"):
        again(made, tmp_path / "out", views=files["views"])
    with pytest.raises(RecipeError, match="views steered: needs its file"):
        again(made, tmp_path / "out", filter=files["filter"])
    with pytest.raises(RecipeError, match=r"not the manifest's recipe: filter\.keep 0\.7 there, 0\.5 asked for"):
        again(made, tmp_path / "out", views=files["views"], filter=f"keep=.5,weights={weights}")
    assert again(made, tmp_path / "out", **files).level == "bytes"


def test_a_modules_dataset_follows_the_manifest_but_for_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of its recipe is a default: view, encoding, latent law, classes, positives, seed, filter."""
    from genrep.generate import BuildConfig, build_dataset
    from genrep.generate.views.filter_network import FilterFacts, new_scorer, save_filter

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_in_full.py").write_text(
        "import torch\n"
        "from genrep.generate.generators.base import LatentSpec\n"
        "class G:\n"
        "    latent = LatentSpec(dim=6, chunks=(2, 4), law='truncated_normal', truncation=1.5, scale=0.8)\n"
        "    num_classes, image_shape = 5, (32, 32)\n"
        "    def synthesize(self, z, y=None):\n"
        "        shade = torch.linspace(-1, 1, 32)[:, None] * z[:, 3:, None, None].expand(-1, -1, 32, 32)\n"
        "        return torch.tanh(shade + z[:, :3, None, None] + y[:, None, None, None] / 5)\n"
    )
    weights = tmp_path / "filter.safetensors"
    save_filter(weights, new_scorer(32, 32, seed=3), FilterFacts(gen="mine", data="toy", images="0"))
    filtering = f"keep=.7,weights={weights}"
    config = BuildConfig(
        gen="mine_in_full:G",
        out=tmp_path / "made",
        num_pairs=7,
        num_positives=2,
        shard_size="4",
        seed=11,
        views="hierarchical:over=chunks,0=uniform:radius=.3,1=genrep-gaussian",
        encoding="jpeg:80:444",
        classes="1,3",
        filter=filtering,
        batch_size=3,
        processes=1,
        device="cpu",
    )
    build_dataset(config)
    report = again(tmp_path / "made", tmp_path / "again", gen="mine_in_full:G", filter=filtering)
    assert report.level == "bytes"
    assert verify(tmp_path / "again", "full") == []
    (tmp_path / "made/shard-00001.beton").unlink()
    options = ["--gen", "mine_in_full:G", "--filter", filtering, "--processes", "1"]
    assert invoke(cli.group, ["repair", str(tmp_path / "made"), *options]) == 0, capsys.readouterr().err
    assert verify(tmp_path / "made", "full") == []
    sample = ["--level", "full", "--regenerate", "3", *options]
    assert invoke(cli.group, ["verify", str(tmp_path / "made"), *sample]) == 0, capsys.readouterr().err


def test_options_that_a_module_cannot_have_are_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrite: Rewrite
) -> None:
    from genrep.generate import BuildConfig, build_dataset

    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_without.py").write_text(
        "import torch\n"
        "from genrep.generate.generators.base import LatentSpec\n"
        "class G:\n"
        "    latent, num_classes, image_shape = LatentSpec(dim=4), 0, (8, 8)\n"
        "    def synthesize(self, z, y=None):\n"
        "        return torch.tanh(z[:, :3, None, None].expand(-1, -1, 8, 8))\n"
    )
    gen = "mine_without:G"
    build_dataset(BuildConfig(gen=gen, out=tmp_path / "made", num_pairs=2, processes=1, device="cpu", views="none"))
    rewrite(tmp_path / "made", lambda value: value["recipe"]["generator"]["options"].update(truncation=0.5))
    with pytest.raises(
        RecipeError, match=r"not the manifest's recipe: generator\.options\.truncation 0\.5 there, null"
    ):
        again(tmp_path / "made", tmp_path / "out", gen=gen)
