"""``genrep-train``: one command, one library call."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from genrep import __version__
from genrep.cli import print_config, run, say_leftovers, tell, with_output_options
from genrep.encoders.architectures import in_words
from genrep.errors import ConfigError
from genrep.headings import HeadedCommand
from genrep.option_types import PATH_TEXT, offering
from genrep.settings import from_options, options

from .config import TrainConfig
from .presets import DESCRIPTIONS, read_preset

EPILOG = "\b\nPresets:\n" + "\n".join(f"  {name:34}{text}" for name, text in DESCRIPTIONS.items())


@with_output_options
@click.command(
    name="genrep-train",
    cls=HeadedCommand,
    config=TrainConfig,
    first=("out",),
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
@options(TrainConfig, "out")
@click.option(
    "--preset",
    metavar="NAME|FILE",
    type=PATH_TEXT,
    shell_complete=offering(lambda: DESCRIPTIONS),
    help="Preset of a row of the papers (listed below), or a TOML file of settings. Options on the "
    "command line override it.  [default: none]",
)
@options(TrainConfig, without=("out",))
@click.option("--dry-run", is_flag=True, help="Print the resolved settings as JSON and exit.")
@click.pass_context
def command(context: click.Context, /, preset: str | None, dry_run: bool, **given: Any) -> None:
    """Train an encoder on pairs of anchors and positives.

    The samples come from datasets of shards, from image folders, or with --online from a generator at work. The encoder is
    written to OUT/encoder.safetensors with the key names of torchvision or timm, beside metrics.jsonl, config.json and
    checkpoints.

    Running the same command again resumes an interrupted run at the sample after the last checkpoint. The folder of a run with
    other settings is refused. Under torchrun, all processes train one encoder.

    \b
    Example:
      genrep-train --data shards/ --out runs/gaussian --epochs 40 --lr 0.12
      genrep-train --preset genrep-in1k --data shards/ --out runs/genrep
      genrep-train --online --gen bigbigan --views independent --steps-per-epoch 5000 --out runs/online
      torchrun --nproc-per-node 8 -m genrep.train --data shards/ --out runs/x --batch-size 2048
    """
    config = from_options(TrainConfig, _with_preset(context, preset, given))
    if dry_run:
        from .engine.training_plan import resolve

        print_config(resolve(config).settings())
        return
    from .engine.run import train

    result = train(config)
    if not result.first:
        return
    facts = {"encoder": result.encoder, "already_finished": result.already_finished}
    if result.already_finished:
        tell(facts, f"{result.encoder}: already finished; nothing to do")
        return
    plan = result.plan
    facts |= {"arch": plan.config.arch, "stem": plan.config.stem, "crop": plan.crop, "steps": plan.total_steps}
    facts |= {"loss": result.loss, "images_per_s": result.images_per_s}
    arch, comma, rest = in_words(plan.settings()).partition(", ")
    tell(
        facts,
        f"{result.encoder}: {arch} ({rest}{comma}{plan.crop} px), {plan.total_steps} steps, "
        f"final loss {result.loss:.4f}, {result.images_per_s:.0f} images/s",
    )
    say_leftovers(sorted(config.out.glob("checkpoint*.pt")), "to train on")


def _with_preset(context: click.Context, preset: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options, with the preset's values for those that the command line does not give."""
    if preset is None:
        return options
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if given & {"epochs", "steps"}:
        given |= {"epochs", "steps"}  # one length replaces the other
    try:
        settings = read_preset(preset)
    except ConfigError as error:
        raise click.UsageError(error.in_shell()) from error
    return {name: value if name in given else settings.get(name, value) for name, value in options.items()}


def main() -> None:
    """The console script."""
    run(command)
