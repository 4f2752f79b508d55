"""show and diff of what lies elsewhere: a manifest's file, an address."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from folder_server import serving

from genrep.cli import invoke
from genrep.datasets_manifest import cli

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def address(raw: Path) -> Iterator[str]:
    """The raw set on a web server."""
    with serving(raw) as url:
        yield url


def test_an_address_and_a_file(raw: Path, address: str, capsys: Capture) -> None:
    (raw / "sheet.png").write_bytes(b"x")
    for source in (address, str(raw / "manifest.json"), str(raw)):
        assert invoke(cli.group, ["show", source]) == 0
        out = capsys.readouterr().out
        assert "5, each with 1 positive" in out
        assert ("contact sheet" in out) == (source != address)
    assert invoke(cli.group, ["diff", address, str(raw)]) == 0
    capsys.readouterr()


def test_an_address_shows_where_the_contact_sheet_lies(raw: Path, address: str, capsys: Capture) -> None:
    (raw / "contact-sheet.png").write_bytes(b"x")
    assert invoke(cli.group, ["show", address]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split() == ["contact", "sheet", f"{address}/contact-sheet.png"]
    assert invoke(cli.group, ["show", address, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["summary"]["contact_sheets"] == [f"{address}/contact-sheet.png"]


def test_an_address_without_a_dataset(address: str, capsys: Capture) -> None:
    for source in (f"{address}/nothing", "gopher://x/y"):
        assert invoke(cli.group, ["show", source]) == 1
        err = capsys.readouterr().err
        assert err.startswith("Error: genrep-manifest: ") and err.count("\n") == 1
