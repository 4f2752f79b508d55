"""Every failure of a build is caused here; what the user sees is one line and an honest exit status."""

import fcntl
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forked import Forked

from genrep.cli import invoke
from genrep.datasets_manifest.cli import group as manifest_cli
from genrep.datasets_manifest.verify import verify
from genrep.generate.cli import cli

DATASET = ["dataset", "--device", "cpu"]
COMMAND = [sys.executable, "-m", "genrep.generate", *DATASET]


def run_here(capsys, *options):
    """The command in this process: the same exit status and output without the seconds that importing torch takes."""
    status = invoke(cli, ["dataset", "--device", "cpu", *options])
    return subprocess.CompletedProcess(options, status, *capsys.readouterr())


def one_line(result, status):
    lines = [line for line in result.stderr.splitlines() if not line.endswith("goes on from there")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert result.returncode == status
    assert "Traceback" not in result.stderr
    return lines[0]


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.beton"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--gen", "stylegan9"], 1, ["--gen 'stylegan9'", "stylegan2_fashion", "stylegan2_fashion_cond"]),
        (["--gen", "nowhere.toml"], 1, ["nowhere.toml: missing"]),
        (["--gen", "toygen:missing"], 1, ["toygen:missing", "cannot import"]),
        (["--gen", "toygen:broken"], 1, ["the factory raised RuntimeError: no such checkpoint"]),
        (["--gen", "toygen:no_latent"], 1, ["no attribute 'latent'"]),
        (["--num-pairs", "0"], 2, ["--num-pairs", "x>=1"]),
        (["--views", "gaussian:sigma=1"], 1, ["no parameter 'sigma'", "std, truncation"]),
        (["--views", "gaussian:std=-1"], 1, ["std=-1.0", "positive"]),
        (["--views", "gaussian:std=nan"], 1, ["std=nan"]),
        (["--views", "gaussian:std"], 1, ["'std' is not one key=value"]),
        (["--views", "wobble"], 1, ["unknown view 'wobble'", "known: none, gaussian, uniform, angular, independent"]),
        (["--gen", "toygen:plain", "--views", "independent"], 1, ["class-conditional"]),
        (["--encoding", "gif"], 1, ["--encoding 'gif'", "raw or jpeg:Q"]),
        (["--weights", "nothing.safetensors"], 1, ["nothing.safetensors: no such file"]),
        (["--gen", "stylegan2_cifar10"], 1, ["no weights ship with it", "--weights FILE"]),
        (["--device", "cuda:77"], 1, ["--device cuda:77"]),
        (["--out", "toygen.py/x"], 1, ["toygen.py/x"]),
        (["--out", "/proc/genrep"], 1, ["/proc/genrep"]),
        (["--shard-size", "many"], 1, ["--shard-size 'many'"]),
        (["--num-pairs", "200000", "--shard-size", "1"], 1, ["--shard-size 1: 200000 shards, wanted at most 50000"]),
        (["--no-such-option"], 2, ["--no-such-option"]),
        (["--gen", "toygen:raising"], 1, ["toygen:raising", "raised ValueError", "(2, 6)", "no more ideas"]),
        (["--gen", "toygen:tiring", "--processes", "1"], 1, ["raised at pairs 0 to 63: ValueError: no more ideas"]),
        (["--gen", "toygen:tiring", "--processes", "2"], 1, ["ValueError: no more ideas"]),
        (["--gen", "toygen:nan", "--num-pairs", "64", "--shard-size", "64"], 1, ["pair 3", "nan"]),
        (["--gen", "toygen:wrong_shape", "--processes", "1"], 1, ["(2, 3, 4, 8)", "(2, 3, 8, 8)"]),
        (["--gen", "toygen:integers", "--processes", "1"], 1, ["torch.int32", "float tensor"]),
    ],
)
def test_bad_input_ends_in_one_line(toy_folder, capsys, options, status, words):
    line = one_line(run_here(capsys, *options), status)
    for word in words:
        assert word in line


def test_weights_that_are_none_are_refused(toy_folder, capsys):
    (toy_folder / "text.safetensors").write_text("hello")
    line = one_line(run_here(capsys, "--weights", "text.safetensors"), 1)
    assert "text.safetensors: not a readable safetensors file" in line


def test_a_folder_with_other_things_is_left_alone(toy_folder, capsys):
    line = one_line(run_here(capsys, "--gen", "toygen:plain", "--out", "."), 1)
    assert "is neither empty nor a genrep dataset" in line
    assert [path.name for path in toy_folder.iterdir() if path.name != "__pycache__"] == ["toygen.py"]


CLUTTER = (".DS_Store", "Thumbs.db", "desktop.ini", "._set")


def littered(folder):
    folder.mkdir(exist_ok=True)
    for name in CLUTTER:
        (folder / name).write_bytes(b"\0")
    return folder


def test_what_file_managers_leave_is_nothing(toy_folder, capsys):
    options = ["--gen", "toygen:plain", "--num-pairs", "1e1", "--processes", "1", "--shard-size", "5"]
    littered(toy_folder / "set")
    assert run_here(capsys, *options, "--out", "set", "--part", "0/2").returncode == 0
    assert len(list((toy_folder / "set").glob("*.beton"))) == 1
    littered(toy_folder / "set")  # a file manager comes again
    assert run_here(capsys, *options, "--out", "set").returncode == 0
    assert verify(toy_folder / "set", "full") == []


def test_what_file_managers_leave_is_nothing_to_finish(toy_folder, capsys):
    options = ["--gen", "toygen:plain", "--num-pairs", "10", "--processes", "1", "--shard-size", "5", "--out", "set"]
    assert run_here(capsys, *options).returncode == 0
    littered(toy_folder / "set")
    manifest = (toy_folder / "set/manifest.json").read_bytes()
    (toy_folder / "set/manifest.json").unlink()
    assert invoke(manifest_cli, ["finish", "set"]) == 0, capsys.readouterr().err
    assert (toy_folder / "set/manifest.json").read_bytes() == manifest
    assert sorted(path.name for path in (toy_folder / "set").iterdir() if path.name in CLUTTER) == sorted(CLUTTER)
    assert verify(toy_folder / "set") == []


@pytest.mark.slow
def test_what_file_managers_leave_is_nothing_to_rebuild(toy_folder, capsys):
    options = ["--gen", "toygen:plain", "--num-pairs", "10", "--processes", "1", "--shard-size", "5", "--out", "set"]
    assert run_here(capsys, *options).returncode == 0
    arguments = ["rebuild", "set", "--gen", "toygen:plain", "--device", "cpu", "--processes", "1", "--out", "again"]
    littered(toy_folder / "again")
    assert invoke(manifest_cli, arguments) == 0, capsys.readouterr().err
    (toy_folder / "again/manifest.json").unlink()  # as a call that was stopped at its end leaves the folder
    (toy_folder / "again/shard-00001.json").unlink()
    assert invoke(manifest_cli, arguments) == 0, capsys.readouterr().err
    assert hashes(toy_folder / "again") == hashes(toy_folder / "set")
    assert verify(toy_folder / "again") == []


@pytest.mark.slow
def test_killed_at_random_moments_and_run_again_the_dataset_is_the_same(toy_folder, capsys):
    options = [
        "--gen",
        "toygen:slow",
        "--num-pairs",
        "96",
        "--shard-size",
        "6",
        "--batch-size",
        "3",
        "--processes",
    ]
    assert run_here(capsys, *options, "1", "--out", "calm").returncode == 0
    generator = random.Random(0)
    for _ in range(3):
        # Neither of its two processes comes to the end of a second shard.
        process = Forked(
            "genrep.generate", *DATASET, *options, "2", "--out", "killed", folder=toy_folder, TOY_CALLS="8"
        )
        records = toy_folder / "killed"
        already = len(list(records.glob("shard-*.json")))
        deadline = time.monotonic() + 60
        while (
            len(list(records.glob("shard-*.json"))) <= already
            and time.monotonic() < deadline
            and process.poll() is None
        ):
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.returncode == -signal.SIGKILL
        wait_until_unlocked(toy_folder / "killed")
    assert run_here(capsys, *options, "1", "--out", "killed").returncode == 0
    assert hashes(toy_folder / "killed") == hashes(toy_folder / "calm")
    assert not list((toy_folder / "killed").glob(".*"))
    indices = [
        json.loads(path.read_text())["first_index"] for path in sorted((toy_folder / "killed").glob("shard-*.json"))
    ]
    assert indices == list(range(0, 96, 6))


def wait_until_unlocked(folder):
    """A killed run's workers keep the lock until they notice, within a batch."""
    descriptor = os.open(folder, os.O_RDONLY)
    deadline = time.monotonic() + 60
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            assert time.monotonic() < deadline, "workers outlived their parent"
            time.sleep(0.05)
    os.close(descriptor)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_polite_signal_leaves_whole_shards_and_says_how_to_go_on(toy_folder, number, status):
    options = [
        "--gen",
        "toygen:slow",
        "--num-pairs",
        "400",
        "--shard-size",
        "10",
        "--batch-size",
        "2",
        "--out",
        "out",
        "--processes",
        "2",
    ]
    if number == signal.SIGINT:
        process = Forked("genrep.generate", *DATASET, *options, folder=toy_folder)
    else:
        process = subprocess.Popen([*COMMAND, *options], cwd=toy_folder, stderr=subprocess.PIPE, text=True)
    while not list((toy_folder / "out").glob("shard-*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status
    assert "of 40 shards are done; the same command goes on from there" in errors
    assert "Traceback" not in errors
    assert not list((toy_folder / "out").glob(".*.tmp"))


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_noticed(toy_folder):
    options = [
        "--gen",
        "toygen:slow",
        "--num-pairs",
        "4000",
        "--shard-size",
        "100",
        "--batch-size",
        "2",
        "--out",
        "out",
        "--processes",
        "2",
    ]
    process = subprocess.Popen([*COMMAND, *options], cwd=toy_folder, stderr=subprocess.PIPE, text=True)
    while not list((toy_folder / "out").glob("shard-*.json")):
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(workers[0]), signal.SIGKILL)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "a worker process died at shard-" in errors and "exit code -9" in errors


@pytest.mark.slow
def test_two_runs_in_one_folder_do_not_mix(toy_folder, capsys):
    options = ["--gen", "toygen:slow", "--num-pairs", "400", "--shard-size", "10", "--batch-size", "2", "--out", "out"]
    first = Forked("genrep.generate", *DATASET, *options, folder=toy_folder)
    while not list((toy_folder / "out").glob("shard-*.json")):
        assert first.poll() is None
        time.sleep(0.02)
    line = one_line(run_here(capsys, *options), 1)
    assert "another process is using this folder" in line
    first.kill()
    first.wait()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    ).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_full_disk_is_said_and_done_shards_stay(toy_folder, small_disk, capsys, processes):
    # Each shard takes more than half of the disk, so the second does not fit.
    options = [
        "--gen",
        "toygen:plain",
        "--num-pairs",
        "5000",
        "--shard-size",
        "1000",
        "--out",
        str(small_disk / "out"),
        "--processes",
    ]
    line = one_line(run_here(capsys, *options, processes), 1)
    assert re.search(r"shard-0000\d\.(beton|json): No space left on device", line)
    done = sorted(path.name for path in (small_disk / "out").glob("shard-*.json"))
    assert not list((small_disk / "out").glob(".*"))
    assert not (small_disk / "out/manifest.json").exists()
    assert len(done) == (1 if processes == "1" else len(done)) < 2
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    again = run_here(capsys, *options, "1")
    assert again.returncode == 0, again.stderr
    sizes = [path.stat().st_size for path in (small_disk / "out").glob("*.beton")]
    assert len(sizes) == 5 and 2**19 < min(sizes) <= max(sizes) < 2**20
