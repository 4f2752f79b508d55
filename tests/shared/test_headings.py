"""Options of a command stand under the headings of the classes that declare them."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.headings import HeadedCommand
from genrep.settings import config, options, setting
from genrep.train.cli import command as train
from genrep.train.config import TrainConfig


@config
class Wheels:
    """The wheels.

    There are four of them.
    """

    size: int = setting(default=3, help="Size of a wheel.")


@config
class Body:
    """The body."""

    out: Path = setting(help="Where it is built.")
    colour: str = setting(default="red", help="Its colour.")


@config
class Car(Wheels, Body):
    """Settings of a car."""

    doors: int = setting(default=5, help="How many doors it has.")


@click.command(cls=HeadedCommand, config=Car, first=("out",))
@options(Car)
def car(**given: object) -> None:
    """Build a car."""


def test_the_help_text_has_a_section_for_each_class() -> None:
    text = car.get_help(click.Context(car, info_name="car", terminal_width=100))
    lines = [line.split()[0] if line.startswith("  --") else line for line in text.splitlines() if line]
    assert lines[lines.index("Options:") :] == [
        *(
            "Options:",
            "--out",
            "--help",
            "The body:",
            "--colour",
            "The wheels:",
            "--size",
            "Settings of a car:",
            "--doors",
        )
    ]


def test_every_setting_of_a_training_stands_once_under_a_heading_but_the_folder() -> None:
    context = click.Context(train)
    sections = {heading: [param.name for param in params] for heading, params in train.sections(context)}
    assert next(iter(sections)) == "Options" and len(sections) == 7
    names = [name for params in sections.values() for name in params]
    assert len(names) == len(set(names)) and set(names) == {param.name for param in train.get_params(context)}
    assert not {name for name in sections["Options"] if name in vars(TrainConfig)["__dataclass_fields__"]} - {"out"}
