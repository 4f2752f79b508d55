"""SIGKILL at random moments, again and again: the dataset that comes of it is the one of an undisturbed run."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
from forked import call
from PIL import Image

from genrep import datasets_manifest
from genrep.generate import BuildConfig, build_dataset

REPETITIONS = 24


def config(out, **options):
    settings = {"num_pairs": 240, "shard_size": "8", "batch_size": 4, "device": "cpu", "processes": 1}
    return BuildConfig(gen="toygen:slow", out=out, **{**settings, **options})


def digests(folder):
    return [shard.sha256 for shard in datasets_manifest.read_manifest(folder).shards]


def shared_memory():
    """Names of the segments that no living process holds: what others are at work with is theirs."""
    names = {path.name for path in Path("/dev/shm").iterdir() if path.is_file()}
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:  # it has just ended, or is another user's
            continue
        names = {name for name in names if f"/dev/shm/{name}" not in text}
    return names


def assert_none_stays(segments):
    """What a process beside this one has made and not yet mapped is soon held, or gone."""
    deadline = time.monotonic() + 30
    while not shared_memory() <= segments:
        assert time.monotonic() < deadline, shared_memory() - segments
        time.sleep(0.05)


@pytest.mark.slow
def test_after_many_kills_the_dataset_is_the_same(toy_folder, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(toy_folder))
    build_dataset(config(toy_folder / "calm"))
    segments, generator, out = shared_memory(), random.Random(0), toy_folder / "killed"
    progress = []
    for _ in range(REPETITIONS):
        # One to look, four for a shard, and not all of the next: it does not finish before it is killed.
        process = call(build_dataset, config(out), TOY_CALLS="8")
        seen = len(list(out.glob("shard-*.json")))
        deadline = time.monotonic() + 60
        while process.is_alive() and len(list(out.glob("shard-*.json"))) <= seen and time.monotonic() < deadline:
            time.sleep(0.002)
        time.sleep(generator.uniform(0, 0.06))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        progress.append(len(list(out.glob("shard-*.json"))))
    assert len(set(progress)) >= 20, progress
    report = build_dataset(config(out))
    assert report.built_pairs == 240 - 8 * progress[-1]
    assert digests(out) == digests(toy_folder / "calm")
    assert not list(out.glob(".*"))
    assert_none_stays(segments)
    datasets_manifest.require_valid(out, level="full")


@pytest.mark.slow
@pytest.mark.parametrize("anchors", [False, True], ids=["prompts", "anchors"])
def test_a_killed_set_with_tables_goes_on_as_it_began(toy_folder, monkeypatch, anchors):
    monkeypatch.setenv("PYTHONPATH", str(toy_folder))
    (toy_folder / "prompts.txt").write_text("cat\ta cat\ncat\ta small cat\ndog\ta dog\ndog\tthe dog\n")
    more = {"gen": "toygen:slow_diffuser", "prompts": toy_folder / "prompts.txt", "views": "sdedit:strength=.2-.8"}
    if anchors:
        for i in range(10):
            path = toy_folder / f"photos/{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (9, 9), (i, 20 * i, 99)).save(path)
        more["anchors"] = str(toy_folder / "photos")
    settings = {**vars(config(toy_folder / "calm", num_pairs=48)), **more}
    build_dataset(BuildConfig(**settings))
    out = toy_folder / "killed"
    for _ in range(6):  # a call is one batch of a view, and a shard takes four or less
        process = call(build_dataset, BuildConfig(**{**settings, "out": out}), TOY_CALLS="7")
        seen, deadline = len(list(out.glob("shard-*.json"))), time.monotonic() + 60
        while process.is_alive() and len(list(out.glob("shard-*.json"))) <= seen and time.monotonic() < deadline:
            time.sleep(0.002)
        process.kill()
        process.join()
        if len(list(out.glob("shard-*.json"))) >= 4:
            break
    assert 1 <= len(list(out.glob("shard-*.json"))) < 6 and not (out / "manifest.json").exists()
    build_dataset(BuildConfig(**{**settings, "out": out}))
    assert digests(out) == digests(toy_folder / "calm")
    tables = ["prompts.jsonl", *(["sources.jsonl"] if anchors else [])]
    assert all((out / name).read_bytes() == (toy_folder / "calm" / name).read_bytes() for name in tables)
    datasets_manifest.require_valid(out, level="full")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"processes": 2}, {"encoders": 2}], ids=["processes", "encoders"])
def test_killed_with_its_workers_at_work_it_goes_on(toy_folder, monkeypatch, options):
    monkeypatch.setenv("PYTHONPATH", str(toy_folder))
    build_dataset(config(toy_folder / "calm"))
    segments, out = shared_memory(), toy_folder / "killed"
    process = call(build_dataset, config(out, **options))
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
    assert_none_stays(segments)


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
