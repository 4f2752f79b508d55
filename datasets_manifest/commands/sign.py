"""``sign``: vouch for a dataset."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from genrep.cli import say
from genrep.option_types import PATH, ParsedPath

from ..manifest import dataset_folder


@click.command("sign")
@click.argument("folder", metavar="DIR", type=ParsedPath(dataset_folder), required=False)
@click.option("--key", metavar="FILE", type=PATH, help="The secret key to sign with: minisign's, or one of --new-key.")
@click.option("--new-key", metavar="FILE", type=PATH, help="Make a key pair: FILE, and FILE.pub to pass around.")
@click.option("--password", is_flag=True, help="Protect the new key by a password.")
@click.option("--force", is_flag=True, help="Replace a signature by another key.")
def command(folder: Path | None, key: Path | None, new_key: Path | None, password: bool, force: bool) -> None:
    """Sign the dataset in DIR, or make a key.

    The signature is of manifest.json, which holds the sha256 of every shard: verify the dataset first. It is a file of
    minisign's format, manifest.json.minisig.md. Others check it with genrep-manifest verify --signer FILE.pub, or with
    minisign itself. Needs py-minisign (pip install 'genrep[sign]').

    \b
    Example:
      genrep-manifest sign --new-key lab.key
      genrep-manifest sign shards/ --key lab.key
    """
    from .. import signing

    if new_key is not None:
        if folder is not None or key is not None:
            raise click.UsageError(f"--new-key {new_key}: goes without DIR and --key")
        chosen = _ask("New password: ", confirm=True) if password else None
        if chosen == "":
            raise click.UsageError("--password: wanted one that is not empty")
        made = signing.new_key(new_key, chosen)
        say(f"{made.secret}: secret, keep it\n{made.public}: public\n{made.text}")
        return
    if folder is None or key is None:
        raise click.UsageError("wanted DIR and --key FILE, or --new-key FILE")
    if password:
        raise click.UsageError("--password: goes with --new-key; that of a protected key is asked for")
    config = signing.SignConfig(folder=folder, key=key, force=force)
    public = signing.sign(config, lambda: _ask(f"Password of {key}: "))
    say(f"{folder / signing.SIGNATURE_NAME}: signed by {public}")


def _ask(prompt: str, *, confirm: bool = False) -> str:
    """A password from the terminal, unseen, or the first line of what is piped in."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, confirmation_prompt=confirm, prompt_suffix=""))
    return sys.stdin.readline().rstrip("\n")
