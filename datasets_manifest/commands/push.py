"""``push``: publish a dataset."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import click

from genrep.cli import print_config, say
from genrep.net import Limits
from genrep.settings import from_options, options

from ..transport import PushConfig
from .pull import DRY_RUN, RETRIES, TIMEOUT, tell


@click.command("push")
@options(PushConfig)
@TIMEOUT
@RETRIES
@DRY_RUN
def command(dry_run: bool, timeout: float, retries: int, **values: Any) -> None:
    """Send the dataset in DIR to a folder, to hf://datasets/ORG/NAME, or to s3://, gs://, ... (pip install 'genrep[cloud]').

    Shards go first and the manifest last. What is there already is not sent again; another dataset is never written over.
    Credentials are found as the store's own tools find them. A repository that does not exist yet is made, private.

    \b
    Example:
      genrep-manifest push shards/ s3://bucket/shards
      genrep-manifest push shards/ hf://datasets/org/name
    """
    from genrep.net import shown
    from genrep.untrusted import printable

    from ..transport import push

    config = from_options(PushConfig, {**values, "limits": Limits(timeout=timeout, retries=retries)})
    if dry_run:
        print_config(replace(config, target=shown(config.target)))
        return
    started = time.monotonic()
    report = push(config)
    for line in report.warnings:
        say(f"note: {line}", err=True)
    if report.left_out:
        say(f"not sent: {printable(', '.join(report.left_out))}", err=True)
    shards = len(report.manifest.shards)
    tell(shown(config.target), shards, shards, report.kept, report.sent, "sent", started)
