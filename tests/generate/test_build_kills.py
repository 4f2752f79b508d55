"""SIGKILL at random moments, again and again: the dataset that comes of it is the one of an undisturbed run."""

import json
import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from genrep import datasets_manifest
from genrep.generate import BuildConfig, build_dataset

REPETITIONS = 24


def config(out, **options):
    settings = {"num_pairs": 240, "shard_size": "8", "batch_size": 4, "device": "cpu", "processes": 1}
    return BuildConfig(gen="toygen:slow", out=out, **{**settings, **options})


@pytest.fixture(scope="module")
def server():
    """Processes that begin with everything imported, forked from one that has no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "genrep.generate.build.dataset", "genrep.generate.build.shard"])
    return context


def digests(folder):
    return [shard.sha256 for shard in datasets_manifest.read_manifest(folder).shards]


def shared_memory():
    """Names of the segments that no living process holds: what others are at work with is theirs."""
    names = {path.name for path in Path("/dev/shm").iterdir()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:  # it has just ended, or is another user's
            continue
        names = {name for name in names if f"/dev/shm/{name}" not in text}
    return names


@pytest.mark.slow
def test_after_many_kills_the_dataset_is_the_same(toy_folder, server, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(toy_folder))
    build_dataset(config(toy_folder / "calm"))
    segments, generator, out = shared_memory(), random.Random(0), toy_folder / "killed"
    progress = []
    for _ in range(REPETITIONS):
        process = server.Process(target=build_dataset, args=(config(out),))
        process.start()
        seen = len(list(out.glob("shard-*.json")))
        deadline = time.monotonic() + 60
        while process.is_alive() and len(list(out.glob("shard-*.json"))) <= seen and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.06))
        process.kill()
        process.join()
        progress.append(len(list(out.glob("shard-*.json"))))
        if (out / "manifest.json").exists():
            break
    assert len(progress) >= 20, f"finished after {len(progress)} kills"
    report = build_dataset(config(out))
    assert report.built_pairs == 240 - 8 * progress[-1]
    assert digests(out) == digests(toy_folder / "calm")
    assert not list(out.glob(".*"))
    assert shared_memory() <= segments
    datasets_manifest.require_valid(out, level="full")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"processes": 2}, {"encoders": 2}], ids=["processes", "encoders"])
def test_killed_with_its_workers_at_work_it_goes_on(toy_folder, server, monkeypatch, options):
    monkeypatch.setenv("PYTHONPATH", str(toy_folder))
    build_dataset(config(toy_folder / "calm"))
    segments, out = shared_memory(), toy_folder / "killed"
    process = server.Process(target=build_dataset, args=(config(out, **options),))
    process.start()
    while len(list(out.glob("shard-*.json"))) < 3:
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    process.join()
    done = {path.name: json.loads(path.read_text())["sha256"] for path in out.glob("shard-*.json")}
    wait_for_the_lock(out)
    build_dataset(config(out))
    assert digests(out) == digests(toy_folder / "calm")
    assert all(json.loads((out / name).read_text())["sha256"] == digest for name, digest in done.items())
    assert not list(out.glob(".*"))
    assert shared_memory() <= segments


def wait_for_the_lock(folder):
    """Orphaned workers notice within a batch that nobody listens."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            time.sleep(0.05)
    os.close(descriptor)


def test_a_folder_that_cannot_be_written_is_said(toy_folder, capsys):
    from genrep.cli import invoke
    from genrep.generate.cli import cli

    assert invoke(cli, ["dataset", "--gen", "toygen:plain", "--device", "cpu", "--out", "/proc/self/out"]) == 1
    message = capsys.readouterr().err
    assert "/proc/self/out" in message
    assert message.count("\n") == 1
