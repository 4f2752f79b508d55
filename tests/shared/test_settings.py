"""One declaration makes the option, the check, the error in Python and in the shell, and the documentation."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pytest

from genrep.cli import invoke
from genrep.errors import ConfigError, GenRepError, TrainingError
from genrep.settings import MOST_SEED, config, configured, from_options, options, setting


def numbers(text):
    return tuple(int(part) for part in text.split(","))


@config
class Example:
    """An example."""

    out: Path = setting(help="Folder.", metavar="DIR")
    data: tuple[Path, ...] = setting(default=(), metavar="DIR", help="Sets.")
    lr: float | None = setting(default=None, above=0, help="Rate.  [default: .1]")
    momentum: float = setting(default=0.9, least=0, below=1)
    limit: float = setting(default=1.0, above=0, most=1)
    decay: float = setting(default=0.0, least=0)
    part: float | None = setting(default=None, least=0, most=1)
    num_pairs: int = setting(default=10, least=1, most=64, metavar="PAIRS")
    seeds: tuple[int, ...] = setting(default=(0,), least=0, most=MOST_SEED, flags=("--seed", "--seeds"), parse=numbers)
    rates: tuple[float, ...] | None = setting(default=None, above=0)
    arch: str = setting(default="resnet18", choices=("resnet18", "resnet50"))
    sync: bool = setting(default=False, negatable=True)
    fast: bool = setting(default=False)
    head: bool | None = setting(default=None)
    title: str | None = setting(default=None, text=True)
    quiet: int = setting(default=3, least=2, show_range=False)
    encoder: str | Path | None = None
    steps: int = 500

    def __post_init__(self):
        if self.num_pairs == 13 and self.seeds != (0,):
            raise ConfigError.naming("{num_pairs} {} and {seeds} {!r}: give one", self.num_pairs, self.seeds)


@click.command("example")
@configured(Example, more=[click.option("--plan", is_flag=True)])
def command(config, plan):
    """Do."""
    if config.steps and config.num_pairs == 7:
        raise TrainingError.naming("{seeds} {}: {} {{pairs}}", 1, "x{y}")
    click.echo(f"{config.num_pairs} {config.seeds} {config.rates} {config.head} {plan}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lr": -1}, "lr -1: wanted a positive number"),
        ({"lr": float("nan")}, "lr nan: wanted a positive number"),
        ({"lr": float("inf")}, "lr inf: wanted a positive number"),
        ({"lr": "x"}, "lr 'x': wanted a number"),
        ({"lr": True}, "lr True: wanted a number"),
        ({"momentum": 1.0}, "momentum 1.0: wanted 0 to below 1"),
        ({"momentum": None}, "momentum None: wanted a number"),
        ({"limit": 0.0}, "limit 0.0: wanted above 0, at most 1"),
        ({"decay": -0.5}, "decay -0.5: wanted a number that is not negative"),
        ({"part": 1.5}, "part 1.5: wanted 0 to 1"),
        ({"num_pairs": 65}, "num_pairs 65: wanted 1 to 64"),
        ({"num_pairs": 2.0}, "num_pairs 2.0: wanted a whole number"),
        ({"quiet": 1}, "quiet 1: wanted at least 2"),
        ({"seeds": (0, 2**63)}, f"seeds {2**63}: wanted 0 to 2^63 - 1"),
        ({"seeds": 3}, "seeds 3: wanted several values"),
        ({"rates": (0.1, 0)}, "rates 0: wanted a positive number"),
        ({"arch": "resnet5"}, "arch 'resnet5': wanted one of resnet18, resnet50 (did you mean resnet50?)"),
        ({"fast": 1}, "fast 1: wanted True or False"),
        ({"out": 3}, "out 3: wanted a path"),
        ({"title": 3}, "title 3: wanted text"),
        ({"encoder": 3}, "encoder 3: wanted text or a path"),
        ({"steps": "9"}, "steps '9': wanted a whole number"),
    ],
)
def test_what_a_setting_may_not_be(given, said):
    with pytest.raises(ConfigError) as caught:
        Example(**{"out": "x", **given})
    assert str(caught.value) == said
    assert isinstance(caught.value, GenRepError) and isinstance(caught.value, ValueError)
    assert caught.value.in_shell() == "--" + said.replace("num_pairs", "num-pairs")


def test_values_in_their_form(monkeypatch):
    monkeypatch.setenv("HOME", "/home/lab")
    made = Example(out="~/x", data=["~/a", Path("b")], seeds=[1, 2], lr=1, num_pairs=np.int64(3))
    assert made.out == Path("/home/lab/x") and made.data == (Path("/home/lab/a"), Path("b"))
    assert made.seeds == (1, 2) and type(made.lr) is int and made.num_pairs == 3


def test_it_is_frozen_and_of_keywords():
    with pytest.raises(TypeError):
        Example("x")
    with pytest.raises(TypeError, match="out"):
        Example()
    with pytest.raises(AttributeError):
        Example(out="x").lr = 3


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(ConfigError.naming("{num_pairs} {:g}: no", 1.5)))
    assert (str(error), error.in_shell()) == ("num_pairs 1.5: no", "--num-pairs 1.5: no")
    assert error.in_shell({"num_pairs": "--pairs"}) == "--pairs 1.5: no"
    assert GenRepError("plain {x}").in_shell() == "plain {x}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lr", "-1"], "Invalid value for '--lr': -1.0 is not in the range x>0."),
        (["--num-pairs", "65"], "Invalid value for '--num-pairs': 65 is not in the range 1<=x<=64."),
        (["--quiet", "1"], "--quiet 1: wanted at least 2"),
        (["--seed", str(2**63)], f"--seed {2**63}: wanted 0 to 2^63 - 1"),
        (["--seed", "a"], "Invalid value for '--seed' / '--seeds': invalid literal for int() with base 10: 'a'"),
        (["--seeds", "1,2", "--num-pairs", "13"], "--num-pairs 13 and --seed (1, 2): give one"),
        (["--arch", "resnet5"], "Invalid value for '--arch': 'resnet5' is not one of"),
        (["--lr", "nan"], "--lr nan: wanted a positive number"),
    ],
)
def test_a_wrong_command_line(capsys, arguments, said):
    assert invoke(command, ["--out", "x", *arguments]) == 2
    assert f"Error: example: {said}" in capsys.readouterr().err


def test_the_command(capsys):
    assert invoke(command, ["--out", "x"]) == 0
    assert capsys.readouterr().out == "10 (0,) None None False\n"
    arguments = ["--rates", "1", "--rates", ".5", "--seeds", "3,4", "--no-head", "--plan"]
    assert invoke(command, ["--out", "x", *arguments]) == 0
    assert capsys.readouterr().out == "10 (3, 4) (1.0, 0.5) False True\n"
    assert invoke(command, ["--out", "x", "--dry-run", "--data", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == ["a"]


def test_a_failure_of_the_work_names_the_options(capsys):
    assert invoke(command, ["--out", "x", "--num-pairs", "7"]) == 1
    assert capsys.readouterr().err == "Error: example: --seed 1: x{y} {pairs}\n"


def test_the_help_text():
    shown = " ".join(command.get_help(click.Context(command, terminal_width=200)).split()) + " "
    for line in (
        "--out DIR Folder. [required]",
        "--lr FLOAT RANGE Rate. [default: .1] [x>0]",
        "--momentum FLOAT RANGE [default: 0.9; 0<=x<1]",
        "--num-pairs PAIRS [default: 10; 1<=x<=64]",
        "--arch [resnet18|resnet50]",
        "--sync / --no-sync",
        "--fast --head",
        "--head / --no-head",
        "--quiet INTEGER [default: 3]",
        "--dry-run Print the settings as JSON and exit.",
    ):
        assert line in shown
    assert "steps" not in shown and shown.index("--quiet") < shown.index("--plan") < shown.index("--dry-run")


def test_what_is_required_is_so_without_defaults_too(capsys):
    @click.command("example")
    @options(Example, "out", "lr", defaults=False)
    def bare(**values):
        print(values)

    assert invoke(bare, []) == 2
    assert capsys.readouterr().err == "Error: example: Missing option '--out'.\n"
    assert invoke(bare, ["--out", "x"]) == 0
    assert capsys.readouterr().out == "{'out': PosixPath('x'), 'lr': None}\n"


def test_the_docstring():
    assert Example.__doc__.startswith("An example.\n\nSettings:\n    out (Path): Folder.\n")
    assert "    momentum (float, default 0.9)\n" in Example.__doc__


def test_some_options_and_arguments(capsys):
    @config
    class Show:
        """Show."""

        dataset: str = setting(argument=True, metavar="NAME|DIR")
        others: Sequence[Path] = setting(default=(), argument=True, metavar="OTHERS")
        size: int = setting(default=3, least=1)

    @click.command("show")
    @options(Show, "dataset", "others")
    @options(Show, without=("dataset", "others"))
    def show(**values):
        made = from_options(Show, values)
        click.echo(f"{made.dataset} {len(made.others)} {made.size}")

    assert invoke(show, ["x", "a", "b", "--size", "4"]) == 0
    assert invoke(show, ["x"]) == 0
    assert capsys.readouterr().out == "x 2 4\nx 0 3\n"
    assert invoke(show, []) == 2
    assert "Missing argument 'NAME|DIR'" in capsys.readouterr().err
