"""``export``: an encoder as another library's file."""

from __future__ import annotations

from pathlib import Path

import click

from genrep.cli import say
from genrep.encoders import EXPORT_FORMATS
from genrep.option_types import PATH, PATH_TEXT, Choice

from ..settings import ENCODER_HELP, ENCODER_METAVAR


@click.command("export")
@click.option("--encoder", required=True, metavar=ENCODER_METAVAR, type=PATH_TEXT, help=ENCODER_HELP)
@click.option("--format", "format_", required=True, type=Choice(list(EXPORT_FORMATS)), help="Whose names and file.")
@click.option(
    "--out",
    required=True,
    type=PATH,
    metavar="FILE",
    help="A new file: .pth or .pt (torchvision, timm), .safetensors (timm), .pkl (detectron2).",
)
@click.option("--force", is_flag=True, help="Replace FILE.")
def command(encoder: str, format_: str, out: Path, force: bool) -> None:
    """Write an encoder for torchvision, timm or detectron2.

    All of it or nothing: what is not entirely a ResNet is refused.

    \b
    Example:
      genrep-evaluate export --encoder runs/x --format timm --out resnet50.safetensors
      genrep-evaluate export --encoder last.pth --format detectron2 --out r50.pkl
    """
    from genrep.encoders import export_encoder
    from genrep.encoders.export import check_export
    from genrep.errors import ResumeError

    from ..encoders import open_encoder

    try:
        check_export(out, format_)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    if out.exists() and not force:
        raise ResumeError(f"--out {out}: exists; wanted a new file, or --force to replace it")
    arch = export_encoder(open_encoder(encoder=encoder).module, out, format_)
    say(f"{arch} for {format_}: {out}")
