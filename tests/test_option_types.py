"""How every command reads paths, whole numbers and names."""

import pwd
import re
from pathlib import Path

import click
import pytest

from genrep.cli import Group, invoke
from genrep.datasets_manifest.cli import group as manifest
from genrep.doctor import group as doctor
from genrep.generate.cli import cli as generate
from genrep.option_types import PATH, PATH_TEXT, WHOLE, Choice, IntRange, PathTextType, PathType
from genrep.papers.cli import group as evaluate
from genrep.papers.tasks.subset import command as subset
from genrep.train.cli import command as train

# Text that is never a path. A new option of text is one or the other: it gets PATH_TEXT, or stands here.
NO_PATHS = {
    "arch": "NAME[:KEY=N,…]",
    "batch_size": "auto|IMAGES",
    "channels": "N,N,…",
    "chunks": "A-B",
    "classes": "A,B,…",
    "crop_scale": "LOW,HIGH",
    "device": "cuda:1",
    "digest": "SHA256",
    "distances": ".5,1",
    "encoding": "jpeg:Q",
    "labels": "1%",
    "layers": "A-B",
    "local_scale": "LOW,HIGH",
    "mask_ratio": "LOW,HIGH",
    "mean": "R,G,B",
    "min_sizes": "PIXELS,…",
    "part": "K/N",
    "rows": "ID,ID",
    "seeds": "0,1",
    "shard_size": "512MB",
    "shards": "0-9",
    "shuffle_window": "64GB",
    "size": "HxW",
    "std": "R,G,B",
    "test_split": "a list's name",
    "threshold": "auto|NUMBER",
    "title": "of a page",
    "train_split": "a list's name",
}
WORDS = {
    "init",
    "pixel_views",
    "precision",
    "preset",
    "stem",
    "walk",
}  # of fit-navigator, whose config checks them
PATHS = re.compile(r"DIR|FILE|PATH|RUN")  # in a metavar


def commands(command, context=None):
    """Every command below this one, with a name for messages."""
    context = context or click.Context(command, info_name=command.name, **command.context_settings)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            yield from commands(below, click.Context(below, info_name=name, parent=context))
    else:
        yield context.command_path, command, context


EVERY = [
    (f"{path} {parameter.opts[0]}", parameter, context)
    for top in (generate, train, evaluate, manifest, subset)
    for path, command, context in commands(top)
    for parameter in command.params
    if not getattr(parameter, "is_flag", False)
]


def test_there_are_parameters_to_look_at():
    assert len(EVERY) > 250
    assert len({name.rpartition(" ")[0] for name, _, _ in EVERY}) > 30


@pytest.mark.parametrize("group", [generate, evaluate, manifest])
def test_groups_make_suggestions(group):
    assert isinstance(group, Group)


def is_plain(name, parameter):
    word = "fit-navigator" in name and parameter.name in WORDS
    return (parameter.name in NO_PATHS or word) and not PATHS.search(parameter.metavar or "")


def test_every_parameter_reads_home_folders_and_numbers_in_one_way(monkeypatch):
    monkeypatch.setenv("HOME", "/home/lab")
    wrong = []
    for name, parameter, context in EVERY:
        kind = parameter.type
        if isinstance(kind, (PathType, PathTextType)):
            assert str(kind.convert("~/x", parameter, context)) == "/home/lab/x"
        elif isinstance(kind, (click.Path, click.File)):
            wrong.append(f"{name}: wanted PATH")
        elif isinstance(kind, (click.types.IntParamType, click.IntRange)):
            if not isinstance(kind, (type(WHOLE), IntRange)):
                wrong.append(f"{name}: wanted WHOLE or IntRange")
        elif isinstance(kind, click.Choice):
            if not isinstance(kind, Choice):
                wrong.append(f"{name}: wanted Choice")
        elif isinstance(kind, click.types.StringParamType) and not is_plain(name, parameter):
            wrong.append(f"{name}: wanted PATH_TEXT, or a line in NO_PATHS")
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("~/x", "/home/lab/x"),
        ("~", "/home/lab"),
        ("navigator:weights=~/x,max_distance=2", "navigator:weights=/home/lab/x,max_distance=2"),
        ("keep=.5,weights=~/x", "keep=.5,weights=/home/lab/x"),
        ("ours=~/runs/a", "ours=/home/lab/runs/a"),
        ("a~b", "a~b"),
        ("x/~", "x/~"),
        ("https://host/~user/x?key=~user", "https://host/~user/x?key=~user"),
        ("s3://bucket/~", "s3://bucket/~"),
    ],
)
def test_text_with_home_folders(monkeypatch, text, read):
    monkeypatch.setenv("HOME", "/home/lab")
    assert PATH_TEXT.convert(text, None, None) == read


def test_home_folders_of_users(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    me = pwd.getpwuid(0)
    assert PATH.convert(f"~{me.pw_name}/x", None, None) == Path(me.pw_dir) / "x"
    assert PATH_TEXT.convert(f"a=~{me.pw_name}", None, None) == f"a={me.pw_dir}"
    with pytest.raises(click.BadParameter, match="~nobody-of-this-name is not a user's home folder"):
        PATH.convert("~nobody-of-this-name/x", None, None)
    with pytest.raises(click.BadParameter, match=r"wanted \./~nobody-of-this-name"):
        PATH_TEXT.convert("a=~nobody-of-this-name", None, None)
    assert PATH.convert("./~x", None, None) == tmp_path / "~x"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1e6", 10**6), ("1_000_000", 10**6), ("2.5E3", 2500), ("1000", 1000), ("1.0", 1), ("-3", -3), (" 7 ", 7)],
)
def test_whole_numbers(text, number):
    assert WHOLE.convert(text, None, None) == number
    assert IntRange(-10).convert(text, None, None) == number


@pytest.mark.parametrize("text", ["10k", "1e-3", "1.5", "", "inf", "nan", "1e999999999", "9" * 20, "0x10", "ten"])
def test_what_is_no_whole_number(text):
    with pytest.raises(click.BadParameter, match="wanted a whole number, such as 1000000, 1_000_000 or 1e6"):
        IntRange(min=0).convert(text, None, None)


def test_a_number_out_of_range():
    with pytest.raises(click.BadParameter, match="range x>=1"):
        IntRange(min=1).convert("0e0", None, None)


@pytest.mark.parametrize(
    ("command", "arguments", "meant"),
    [
        (generate, ["datset"], "dataset"),
        (evaluate, ["linaer"], "linear"),
        (manifest, ["verfy"], "verify"),
        (generate, ["dataset", "--num-pair", "3"], "--num-pairs"),
        (evaluate, ["linear", "--preset", "cop_gen"], "cop-gen"),
        (train, ["--out", "x", "--arch", "resnet-50"], "resnet50"),
    ],
)
def test_what_is_misspelt_gets_a_suggestion(capsys, command, arguments, meant):
    assert invoke(command, arguments) == 2
    said = capsys.readouterr().err
    assert "did you mean" in said.lower() and meant in said.lower().partition("did you mean")[2]


def test_what_is_like_nothing_gets_none(capsys):
    assert invoke(manifest, ["quux"]) == 2
    said = capsys.readouterr().err
    assert "no command 'quux'; wanted one of show, list, browse, verify" in said and "did you mean" not in said


@pytest.mark.parametrize(
    ("name", "meant"), [("train", "did you mean genrep-train?"), ("docter", "did you mean doctor?"), ("dataset", "")]
)
def test_genrep_points_to_its_programs(capsys, name, meant):
    assert invoke(doctor, [name]) == 2
    said = capsys.readouterr().err
    assert f"no command '{name}'; wanted doctor, or one of the programs genrep-generate, " in said
    assert meant in said and ("did you mean" in said) == bool(meant)


def test_a_list_of_commands_is_in_the_order_of_the_work_and_cuts_no_sentence(capsys):
    assert invoke(generate, ["--help"]) == 0
    table = capsys.readouterr().out.partition("Commands:\n")[2]
    assert "..." not in table and "Build a dataset of anchor/positive pairs from a generator." in " ".join(
        table.split()
    )
    assert table.index("\n  preview ") < table.index("\n  dataset ") < table.index("\n  compare-navigator ")
