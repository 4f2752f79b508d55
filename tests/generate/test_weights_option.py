"""``--weights`` may be an address, which is no path: its slashes stay."""

import json

import pytest

from genrep.cli import invoke
from genrep.generate.cli import cli

ADDRESS = "https://example.org/models//stylegan2.pkl"


@pytest.mark.parametrize(
    "command",
    [
        "fit-steer --out x",
        "fit-navigator --out x",
        "fit-filter --data x --out x",
        "preview --out x.png",
        "dataset --out x",
    ],
)
def test_an_address_stays_as_it_is(capsys, command):
    arguments = [*command.split(), "--gen", "stylegan2_fashion", "--weights", ADDRESS, "--dry-run"]
    if command.startswith("dataset"):
        arguments.remove("--dry-run")  # it would look at the weights
        assert cli.commands["dataset"].make_context("dataset", arguments[1:]).params["weights"] == ADDRESS
        return
    assert invoke(cli, arguments) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == ADDRESS
