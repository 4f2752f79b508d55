"""What a run leaves is told with its size and the command that removes it."""

import os
import subprocess

import pytest

from genrep.cli import leftovers
from genrep.files import size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_999, "1.0 MB"),
        (130_400_000, "130 MB"),
        (2**41, "2.2 TB"),
    ],
)
def test_sizes(size, text):
    assert size_text(size) == text


def test_files_and_folders_that_are_there(tmp_path):
    assert leftovers([tmp_path / "checkpoint.pt"]) is None
    run = tmp_path / "a run"
    (run / "features").mkdir(parents=True)
    (run / "checkpoint.pt").write_bytes(b"x" * 2_000_000)
    os.link(run / "checkpoint.pt", run / "checkpoint-00000001.pt")
    (run / "features/a.npy").write_bytes(b"x" * 500_000)
    one = leftovers([run / "checkpoint.pt"])
    assert one == f"checkpoint.pt (2.0 MB) is only needed to go on; remove with: rm '{run}/checkpoint.pt'"
    said = leftovers([run / "checkpoint.pt", run / "checkpoint-00000001.pt", run / "features"], "to measure again")
    assert "(2.5 MB) are only needed to measure again; remove with: rm -r " in said
    subprocess.run(said.partition("remove with: ")[2], shell=True, check=True)
    assert list(run.iterdir()) == []
