"""What can be wrong with a run of fit-gan before its images are read."""

from __future__ import annotations

from genrep.errors import ResumeError, WeightsError
from genrep.files import require_writable
from genrep.untrusted import read_object

from ..fits.settings import differences
from .config import FitGanConfig


def check_run(config: FitGanConfig) -> None:
    """See whether the folder can be this run's. Its checkpoint has the last word, when it is read.

    Raises:
        ResumeError: ``out`` cannot be written, or holds a run with other settings.
        WeightsError: there is no file ``init``.
    """
    require_writable(config.out, "--out")
    if config.init is not None and not config.init.is_file():
        raise WeightsError(f"--init {config.init}: no such file; wanted checkpoint.pt of another run of fit-gan")
    try:
        there = read_object(config.out / "config.json", ResumeError)
    except ResumeError:  # missing or damaged
        return
    ours = {name: value for name, value in config.identity().items() if name != "init"}
    if changed := differences(ours, {name: there.get(name) for name in ours}):
        raise ResumeError(f"--out {config.out}: holds another run ({changed})")
