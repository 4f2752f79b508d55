"""``--json`` and ``--quiet`` of every command: one JSON value on stdout, nothing on stderr. Progress. Completion by a shell."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest
import torch

from genrep import progress
from genrep.cli import Group, complain, invoke, plain, say_leftovers, tell, tell_json
from genrep.errors import ConfigError, DatasetError
from genrep.progress import Progress, clock, gpu_memory, note

ROOT = Path(__file__).parent.parent
Capture = pytest.CaptureFixture[str]


def module_of(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


snippets = module_of("snippets_for_output", ROOT / "tests/docs/snippets.py")
PROGRAMS: dict[str, click.Command] = snippets.PROGRAMS


def every_command() -> Iterator[tuple[str, click.Command]]:
    for name, command in PROGRAMS.items():
        if not isinstance(command, click.Group):
            yield name, command
            continue
        context = click.Context(command, info_name=name)
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            assert found is not None
            yield f"{name} {verb}", found


EVERY = dict(every_command())

# What each command runs with, in a folder that holds what ``world`` makes; {out} is new each time.
CASES = {
    "genrep doctor": "",
    "genrep-generate list": "",
    "genrep-generate weights": "stylegan2_fashion --out {out}",
    "genrep-generate dataset": "--num-pairs 16 --processes 1 --out {out}",
    "genrep-generate from-folder": "photos --processes 1 --split test --out {out}",
    "genrep-generate preview": "--views gaussian:std=.2 --out {out}.png",
    "genrep-generate import-walk": "released.pth --out {out}.safetensors",
    "genrep-generate fit-steer": "--gen stylegan2_fashion --samples 4 --batch-size 4 --measure-images 4 --out {out}",
    "genrep-generate fit-navigator": "--gen stylegan2_fashion --samples 8 --batch-size 4 --checkpoint-samples 8 --out {out}",
    "genrep-generate fit-filter": "--gen stylegan2_fashion --data fashion_mnist --root data --out {out} --dry-run",
    "genrep-generate fit-gan": "--data fashion_mnist --root data --out {out} --total-images 16 --batch-size 8 "
    "--snapshot-images 16 --z-dim 8 --w-dim 8 --channel-base 32 --channel-max 8",
    "genrep-generate fit-diffusion": "--data fashion_mnist --root data --out {out} --total-images 16 --batch-size 8 "
    "--snapshot-images 16 --channels 4,8 --norm-groups 4 --embedding 8",
    "genrep-generate fit-foreground": "--data photos --encoder run --size 96 --num-images 8 --out {out}.safetensors",
    "genrep-generate measure-gan": "--weights gan --data fashion_mnist --root data --num-images 100 --out {out}.json",
    "genrep-generate measure-delta": "navigator --anchors 16 --out {out}.json",
    "genrep-generate compare-navigator": "navigator --batches 2",
    "genrep-train": "--data shards --out {out} --epochs 1 --batch-size 16 --workers 1",
    "genrep-evaluate linear": "--encoder run --dataset photos --out {out} --epochs 1 --workers 1",
    "genrep-evaluate knn": "--encoder run --dataset photos --out {out} --k 2",
    "genrep-evaluate few-label": "--encoder run --dataset photos --out {out} --labels 1 --draws 2",
    "genrep-evaluate finetune": "--encoder run --dataset photos --labels 10% --out {out} --dry-run",
    "genrep-evaluate voc07": "--encoder run --data VOC2007 --out {out} --dry-run",
    "genrep-evaluate detection": "--encoder run --export-detectron2 {out}.pkl",
    "genrep-evaluate segmentation": "--encoder run --data VOC2012 --out {out} --dry-run",
    "genrep-evaluate transfer": "--encoder run --suite hl --root data --out {out} --dry-run",
    "genrep-evaluate export": "--encoder run --format timm --out {out}.safetensors",
    "genrep-evaluate reproduce": "genrep-table1 --scale tiny --root data --out {out} --dry-run --hardware a100",
    "genrep-evaluate source": "shards --real photos --encoder run --size 32 --images 10 --out {out}",
    "genrep-evaluate table": "mine=results",
    "genrep-evaluate report": "mine=results --out {out}",
    "genrep-manifest show": "shards",
    "genrep-manifest list": "",
    "genrep-manifest browse": "shards --out {out}.html",
    "genrep-manifest verify": "shards",
    "genrep-manifest diff": "shards shards",
    "genrep-manifest finish": "shards",
    "genrep-manifest card": "shards --force",
    "genrep-manifest sign": "--new-key {out}",
    "genrep-manifest export": "shards --format folder --out {out}",
    "genrep-manifest repair": "shards",
    "genrep-manifest rebuild": "shards --processes 1 --out {out}",
    "genrep-manifest pull": "shards --out {out}",
    "genrep-manifest push": "shards {out}",
}


def called(name: str, out: str, *more: str) -> tuple[click.Command, list[str]]:
    program, *verb = name.split()
    return PROGRAMS[program], [*verb, *CASES[name].format(out=out).split(), *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real images, ``shards``, an encoder's ``run``, a ``navigator``, a ``gan``, ``results`` of kNN."""
    folder = tmp_path_factory.mktemp("world")
    snippets.write_data(folder)
    network = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.ReLU(), torch.nn.Linear(6, 6))
    torch.save({"walker": network.state_dict()}, folder / "released.pth")
    made = {"dataset": "shards", "fit-navigator": "navigator", "fit-gan": "gan"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, out in [*((f"genrep-generate {verb}", out) for verb, out in made.items()), ("genrep-train", "run")]:
            assert invoke(*called(name, out, "--quiet")) == 0
        assert invoke(*called("genrep-evaluate knn", "results", "--quiet")) == 0
    return folder


@pytest.fixture
def there(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The world as the current folder; its caches are the test's own."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    return world


def test_every_command_takes_both_options_and_has_a_case_here() -> None:
    assert set(CASES) == set(EVERY) and len(EVERY) > 35
    for name, command in EVERY.items():
        assert [param.opts for param in command.params[-2:]] == [["--json"], ["-q", "--quiet"]], name


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_json_is_all_that_stdout_gets(name: str, there: Path, tmp_path: Path, capfd: Capture) -> None:
    capfd.readouterr()
    assert invoke(*called(name, str(tmp_path / "new"), "--json")) == 0
    found = json.loads(capfd.readouterr().out)
    assert found and isinstance(found, list if name == "genrep-manifest list" else dict)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_quiet_leaves_stderr_empty(name: str, there: Path, tmp_path: Path, capfd: Capture) -> None:
    capfd.readouterr()
    assert invoke(*called(name, str(tmp_path / "new"), "-q")) == 0
    out, err = capfd.readouterr()
    assert err == "" and out


def run(command: click.Command, *arguments: str) -> int:
    """As a verb of a group."""
    group = Group("demo")
    group.add_command(command, "verb")
    return invoke(group, ["verb", *arguments])


def verb(function: Any) -> click.Command:
    return click.command("verb")(function)


@pytest.fixture
def demo() -> click.Command:
    """A command that says everything that can be said, and fails with --fail."""

    @click.command("verb")
    @click.option("--fail", is_flag=True)
    def command(fail: bool) -> None:
        note("a note")
        print("from a library")
        with Progress(2, "pair", "building") as bar:
            bar.update(1)
        complain("a part of it")
        tell({"path": Path("x/y"), "loss": float("nan")}, ["path  x/y", "loss  nan"])
        say_leftovers([Path(__file__)])
        if fail:
            raise DatasetError("x: no")

    return command


def test_a_result_is_lines_or_json(demo: click.Command, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    assert run(demo) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["from a library", "path  x/y", "loss  nan"]
    assert "a note" in err and "building: 1/2 pairs" in err and "remove with" in err
    assert run(demo, "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"path": "x/y", "loss": None}
    assert "from a library" in err and "a note" in err and "building: 1/2 pairs" in err


def test_quiet_silences_all_but_errors_and_ends_with_the_command(
    demo: click.Command, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOG_EVERY_SECONDS", 0.0)
    for arguments in (["--quiet", "--fail"], ["-q", "--fail"]):
        assert run(demo, *arguments) == 1
        out, err = capsys.readouterr()
        assert err == "Error: a part of it\nError: demo: x: no\n"
        assert out.splitlines()[1:] == ["path  x/y", "loss  nan"]
    assert run(demo, "--quiet", "--wrong") == 2
    capsys.readouterr()
    assert progress.QUIET_VARIABLE not in os.environ
    assert run(demo) == 0
    out, err = capsys.readouterr()
    assert "a note" in err and "path  x/y" in out


def test_the_environment_silences_as_well(
    demo: click.Command, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(progress.QUIET_VARIABLE, "1")
    assert run(demo) == 0
    assert capsys.readouterr().err == "Error: a part of it\n"
    assert os.environ[progress.QUIET_VARIABLE] == "1"
    monkeypatch.setenv(progress.QUIET_VARIABLE, "0")
    assert run(demo) == 0
    assert "a note" in capsys.readouterr().err


def test_an_error_leaves_stdout_empty_and_a_finding_does_not(demo: click.Command, capsys: Capture) -> None:
    @verb
    def command() -> None:
        raise DatasetError("x: no")

    assert run(command, "--json") == 1
    assert capsys.readouterr() == ("", "Error: demo: x: no\n")
    assert run(demo, "--json", "--fail") == 1  # it has told its result already: as verify does of its problems
    out, err = capsys.readouterr()
    assert json.loads(out)["path"] == "x/y" and err.endswith("Error: demo: x: no\n")
    assert run(demo, "--json", "--wrong") == 2
    assert capsys.readouterr().out == ""


def test_what_is_json_anyway_is_the_same_with_the_option(capsys: Capture) -> None:
    @verb
    def command() -> None:
        tell_json({"b": 1, "a": (Path("x"),)})

    for arguments in ([], ["--json"]):
        assert run(command, *arguments) == 0
        assert json.loads(capsys.readouterr().out) == {"a": ["x"], "b": 1}


def test_values_as_json_has_them() -> None:
    error = ConfigError.naming("{num_pairs} {}: wanted more", 0)
    found = plain({"a": np.float32(1.5), "b": np.arange(2), 3: (error, None, True), "d": float("inf"), "e": b"x"})
    assert found == {"a": 1.5, "b": [0, 1], "3": ["--num-pairs 0: wanted more", None, True], "d": None, "e": "b'x'"}
    assert plain(SimpleNamespace(to_json=lambda: {"x": Path("y")})) == {"x": "y"}


def test_what_a_child_prints_goes_to_stderr_too() -> None:
    """Descriptors, where stdout is a file: a generator of anyone's may print from its C code or from workers."""
    code = """
        import os, subprocess, sys, click
        from genrep.cli import Group, run, tell
        group = Group("demo")

        @group.command("verb")
        def verb():
            print("mine")
            os.write(1, b"descriptor\\n")
            subprocess.run([sys.executable, "-c", "print('child')"], check=True)
            tell({"a": 1}, "a 1")
            print("late", file=sys.__stdout__)

        run(group)
    """

    def output(*arguments: str) -> tuple[str, str]:
        words = [sys.executable, "-c", textwrap.dedent(code), "verb", *arguments]
        found = subprocess.run(words, capture_output=True, text=True, check=True)
        return found.stdout, found.stderr

    out, err = output("--json")
    assert json.loads(out) == {"a": 1}
    assert set(err.split()) == {"mine", "descriptor", "child", "late"}
    assert set(output()[0].split()) == {"mine", "descriptor", "child", "late", "a", "1"}


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    words = [sys.executable, "-c", "from genrep.generate.cli import main; main()", "list", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time that progress sees, in ``seconds``."""
    found = SimpleNamespace(seconds=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: found.seconds))
    return found


def test_a_log_line_has_rate_and_time_left(now: SimpleNamespace, capsys: Capture) -> None:
    with Progress(1000, "pair", "building", initial=100) as bar:
        now.seconds += 10
        bar.update(100)
        assert capsys.readouterr().err == ""
        now.seconds += 30
        bar.update(100, loss="1.5")
        assert capsys.readouterr().err == "building: 300/1000 pairs, 5.0/s, 2:20 left, loss 1.5\n"
        now.seconds += 40
        bar.update(700)
        assert capsys.readouterr().err == "building: 1000/1000 pairs, 11.2/s\n"
    with Progress(0, "byte", "fetching") as bar:  # of unknown length
        now.seconds += 30
        bar.update(60)
    assert capsys.readouterr().err == "fetching: 60/0 bytes, 2.0/s\n"


def test_clock() -> None:
    assert [clock(seconds) for seconds in (0, 59.4, 59.6, 3599, 3700, 360_000)] == [
        *("0:00", "0:59", "1:00", "59:59", "1:01:40", "100:00:00")
    ]


class FakeCuda:
    """Two devices; ``peaks`` are what they held."""

    def __init__(self, *peaks: int) -> None:
        self.peaks, self.looked = peaks, 0

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return len(self.peaks)

    def max_memory_allocated(self, number: int) -> int:
        self.looked += 1
        return self.peaks[number]


def test_memory_of_a_gpu_in_use_is_shown(
    now: SimpleNamespace, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = FakeCuda(0, 3_200_000_000)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    with Progress(1000, "step", "training") as bar:
        now.seconds += 30
        bar.update(300, loss="1.5")
        for _ in range(100):
            bar.update(1)
    assert capsys.readouterr().err == "training: 300/1000 steps, 10.0/s, 1:10 left, loss 1.5, GPU 3.2 GB\n"
    assert cuda.looked == 2


def test_a_bar_shows_the_memory_too(now: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=FakeCuda(3_200_000_000)))
    bar, shown = Progress(1000, "step", "training"), []
    bar.bar = SimpleNamespace(  # type: ignore[assignment]  # a terminal's
        set_postfix=lambda facts, refresh: shown.append(facts), update=lambda count: None, close=lambda: None
    )
    for step in range(3):
        bar.update(1, loss=step)
        now.seconds += 0.6
    assert shown == [{"loss": step, "GPU": "3.2 GB"} for step in range(3)]


def test_there_is_no_memory_without_a_gpu_or_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=FakeCuda(0)))
    assert gpu_memory() is None
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: False)))
    assert gpu_memory() is None
    monkeypatch.delitem(sys.modules, "torch")
    assert gpu_memory() is None and "torch" not in sys.modules


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("genrep-generate da", ["plain,dataset"]),
        ("genrep-generate dataset --num-pa", ["plain,--num-pairs"]),
        (
            "genrep-generate dataset --gen stylegan2_fashion_",
            ["file,stylegan2_fashion_", "plain,stylegan2_fashion_cond"],
        ),
        ("genrep-generate weights stylegan2_fashion_", ["file,stylegan2_fashion_", "plain,stylegan2_fashion_cond"]),
        ("genrep-generate preview --out she", ["file,she"]),
        ("genrep-generate fit-navigator --preset h", ["plain,hl"]),
        ("genrep-train --preset hl-simsiam-stylegan2", ["file,hl-simsiam-stylegan2", "plain,hl-simsiam-stylegan2"]),
        ("genrep-train --objective simc", ["plain,simclr"]),
        ("genrep-evaluate fin", ["plain,finetune"]),
        ("genrep-evaluate linear --preset co", ["plain,cop-gen"]),
        ("genrep-evaluate reproduce genrep-table1 --scale t", ["plain,tiny"]),
        ("genrep-evaluate reproduce hl-fig3", ["plain,hl-fig3"]),
        ("genrep-manifest ver", ["plain,verify"]),
        ("genrep-manifest verify --level f", ["plain,full"]),
        ("genrep-manifest show sha", ["file,sha"]),
        ("genrep-manifest show --js", ["plain,--json"]),
    ],
)
def test_bash_completes_commands_options_and_names(
    words: str, wanted: list[str], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = words.split()[0]
    monkeypatch.setenv(f"_{program.replace('-', '_').upper()}_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit) as stop:
        invoke(PROGRAMS[program], [])
    assert stop.value.code == 0
    found = capsys.readouterr().out.splitlines()
    assert found == wanted


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("genrep-generate dataset --gen stylegan2_fashion_", "stylegan2_fashion_cond"),
        ("genrep-manifest ver", "verify"),
        ("genrep-manifest show setup.c", ""),  # files are bash's own affair
    ],
)
def test_bash_itself_offers_them(words: str, wanted: str, tmp_path: Path) -> None:
    """The documented lines in a shell, whose function is called as by the Tab key."""
    script = r"""
        for program in genrep-generate genrep-manifest; do
            variable=_$(echo "$program" | tr a-z- A-Z_)_COMPLETE
            eval "$(env "$variable=bash_source" "$program")"
        done
        compopt() { :; }  # which Bash has only while Tab is pressed
        COMP_WORDS=($1); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _$(echo "$COMP_WORDS" | tr - _)_completion "$COMP_WORDS"
        echo "${COMPREPLY[@]}"
    """
    place = tmp_path / "bin"
    place.mkdir()
    for name, module in (("genrep-generate", "generate"), ("genrep-manifest", "datasets_manifest")):
        run = f"#!{sys.executable}\nfrom genrep.{module}.cli import main\nmain()\n"
        (place / name).write_text(run)
        (place / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{place}:{os.environ['PATH']}"}
    found = subprocess.run(
        ["bash", "-c", script, "bash", words], capture_output=True, text=True, check=True, cwd=ROOT, env=environment
    )
    assert (found.stdout.strip(), found.stderr) == (wanted, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell(shell: str, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_GENREP_TRAIN_COMPLETE", f"{shell}_source")
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *arguments: None)
    with pytest.raises(SystemExit) as stop:
        invoke(PROGRAMS["genrep-train"], [])
    assert stop.value.code == 0 and f"_GENREP_TRAIN_COMPLETE={shell}_complete" in capsys.readouterr().out
