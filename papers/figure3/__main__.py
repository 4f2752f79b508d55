"""``python -m genrep.papers.figure3``."""

from __future__ import annotations

from typing import Any

import click

from genrep.cli import run
from genrep.extras import install
from genrep.settings import from_options, options

from .ways import Figure3Config


@click.command("figure3")
@options(Figure3Config)
def figure3(**values: Any) -> None:
    """Repeat HL's Figure 3: measure how fast batches reach a training step, for each loader and batch size.

    Prints images/s, device-seconds, energy and CO2 per epoch. With --out, also writes them as JSON.

    \b
    Example:
      python -m genrep.papers.figure3 --batch-size 64 --out figure3.json
    """
    from .measure import codecarbon_installed, measure_all

    config = from_options(Figure3Config, values)
    if config.co2 and not codecarbon_installed():
        raise click.UsageError(f"--co2: codecarbon is not installed; {install('energy')}")
    measure_all(config)


if __name__ == "__main__":
    run(figure3)
