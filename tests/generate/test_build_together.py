"""One dataset built by several: parts of an array job, ranks of torchrun, encoders beside a generating process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genrep.cli import invoke
from genrep.datasets_manifest import read_manifest
from genrep.datasets_manifest.cli import group
from genrep.datasets_manifest.finish import FolderLocks
from genrep.errors import RecipeError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.plans.config import parse_part

OPTIONS = ["--gen", "toygen:plain", "--device", "cpu", "--num-pairs", "90", "--shard-size", "20", "--batch-size", "8"]
ENVIRONMENT = {**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}


def config(out, **options):
    settings = {"gen": "toygen:plain", "device": "cpu", "num_pairs": 90, "shard_size": "20", "batch_size": 8}
    return BuildConfig(out=out, **{**settings, "processes": 1, **options})


def digests(folder):
    return [shard.sha256 for shard in read_manifest(folder).shards]


@pytest.fixture
def whole(toy_folder):
    """The shards' digests of an undisturbed build."""
    build_dataset(config(toy_folder / "whole"))
    return digests(toy_folder / "whole")


def test_parts_make_the_same_dataset_and_the_last_one_finishes_it(toy_folder, whole):
    out = toy_folder / "parts"
    first = build_dataset(config(out, part="1/2"))
    assert (first.manifest, first.done_shards, first.num_shards) == (None, 2, 5)
    assert not (out / "manifest.json").exists()
    assert build_dataset(config(out, part="0/2")).manifest is not None
    assert digests(out) == whole
    assert not list(out.glob(".*"))


def test_finish_says_what_is_missing_and_needs_no_generator(toy_folder, whole, capsys):
    out = toy_folder / "parts"
    build_dataset(config(out, part="0/3"))
    assert invoke(group, ["finish", str(out)]) == 1
    message = capsys.readouterr().err
    assert "3 of 5 shards are not done (shard-00001.beton, shard-00002.beton, shard-00004.beton)" in message
    build_dataset(config(out, part="1/3"))
    build_dataset(config(out, part="2/3"))
    (out / "manifest.json").unlink()
    (toy_folder / "toygen.py").unlink()
    assert invoke(group, ["finish", str(out)]) == 0
    assert digests(out) == whole
    assert (out / "contact-sheet.png").is_file()


def test_finish_refuses_what_is_no_build(tmp_path, capsys):
    assert invoke(group, ["finish", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("text", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_a_part_that_is_none_is_refused(text):
    with pytest.raises(RecipeError, match="wanted K/N with 0 <= K < N"):
        parse_part(text)


def test_a_shard_that_another_process_writes_is_left_to_it(toy_folder, whole):
    out = toy_folder / "parts"
    build_dataset(config(out, part="0/5"))
    with FolderLocks(out / "recipe.json") as locks, locks.shard(3) as ours:
        assert ours
        report = build_dataset(config(out, part="0/1"))
    assert (report.manifest, report.done_shards) == (None, 4)
    assert build_dataset(config(out)).manifest is not None
    assert digests(out) == whole


@pytest.mark.slow
def test_encoders_beside_the_generating_process_write_the_same_bytes(toy_folder, whole):
    report = build_dataset(config(toy_folder / "out", encoders=2))
    assert report.built_pairs == 90
    assert digests(toy_folder / "out") == whole


@pytest.mark.slow
def test_encoders_take_a_batch_that_fits(toy_folder, capfd):
    report = build_dataset(
        config(toy_folder / "out", gen="toygen:hungry", batch_size=None, encoders=1, shard_size="32")
    )
    assert {shard.facts["batch_size"] for shard in report.manifest.shards} == {16}
    assert "--batch-size auto: 16 images" in capfd.readouterr().err


def test_a_bad_image_is_named_with_encoders_too(toy_folder, capsys):
    from genrep.generate.cli import cli

    options = ["--gen", "toygen:nan", "--device", "cpu", "--num-pairs", "40", "--batch-size", "8", "--encoders", "1"]
    assert invoke(cli, ["dataset", *options, "--processes", "1", "--out", "out"]) == 1
    assert "pair 3" in capsys.readouterr().err
    assert not list((toy_folder / "out").glob(".*"))


@pytest.mark.slow
def test_torchrun_ranks_share_the_shards(toy_folder, whole):
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "genrep.generate", "dataset"]
    result = subprocess.run(
        [*command, *OPTIONS, "--out", "out"],
        cwd=toy_folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert digests(toy_folder / "out") == whole


def children_of(parent):
    """Pid and command line of the direct children of a process."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                    found.append((int(folder.name), (folder / "cmdline").read_text()))
            except (OSError, IndexError):
                continue
    return found


@pytest.mark.slow
def test_an_encoder_killed_from_outside_is_noticed(toy_folder, whole):
    command = [sys.executable, "-m", "genrep.generate", "dataset", *OPTIONS, "--gen", "toygen:slow"]
    options = ["--encoders", "1", "--processes", "1", "--out", "out"]
    process = subprocess.Popen([*command, *options], cwd=toy_folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not list((toy_folder / "out").glob("shard-*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    for child in children_of(process.pid):
        if "spawn_main" in child[1]:
            os.kill(child[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "an encoder process died at shard-0000" in errors
    assert "Traceback" not in errors
