"""A folder is held by one process, which the others are told of."""

import subprocess
import sys

import pytest

from genrep.errors import ResumeError
from genrep.files import locked_folder

HOLD = """
import sys
from pathlib import Path
from genrep.files import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_holds_a_folder_is_told(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResumeError) as caught, locked_folder(tmp_path):
            pass
    finally:
        holder.communicate()
    said = str(caught.value)
    assert said.startswith(f"out {tmp_path}: another process is using this folder (process {holder.pid}: ")
    assert "\n" not in said and len(said) < 400
    with locked_folder(tmp_path):
        pass
