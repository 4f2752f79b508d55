"""``verify``: is a dataset folder what its manifest says?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from genrep.across import RegenerationConfig
from genrep.cli import say
from genrep.settings import from_options, options

from ..recovery.examine import ExamineConfig
from .options import REPORT


@click.command("verify")
@options(ExamineConfig, "folder", "level", "jobs", "partial")
@REPORT
@options(ExamineConfig, "signer", "regenerate", "sample_seed")
@options(RegenerationConfig)
def command(report: Path | None, **values: Any) -> None:
    """Check the dataset in DIR against its manifest.

    Prints a line per problem and exits with 1 if there is one. Safe on folders that come from strangers.

    \b
    Example:
      genrep-manifest verify shards/
      genrep-manifest verify shards/ --level full --regenerate 20
    """
    from genrep.files import write_json
    from genrep.untrusted import printable

    from ..recovery.examine import examine

    found = examine(from_options(ExamineConfig, {**values, "making": from_options(RegenerationConfig, values)}))
    if report is not None:
        write_json(report, found.to_json())
    if found.failure is not None:
        raise found.failure
    for problem in found.problems:
        say(printable(str(problem)))
    found.require_good()
    for line in found.lines():
        say(line)
