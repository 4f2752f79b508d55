"""Commands in processes of their own that begin with torch imported: to be killed and signalled without waiting for imports.

They are forked from a server without threads. What such a process does from ``main`` on is what one does that was started anew;
each command is started anew in a test, too.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import sys
import tempfile
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "torchvision", "genrep.generate.build.dataset", "genrep.train.engine.run"])


def call(function: Callable[..., object], *arguments: object, **environment: str) -> Any:
    """A process that calls a function, begun."""
    process = CONTEXT.Process(target=_call, args=(environment, function, *arguments))
    process.start()
    return process


def _call(environment: Mapping[str, str], function: Callable[..., object], *arguments: object) -> None:
    os.environ.update(environment)
    function(*arguments)


def _main(path: str, module: str, arguments: tuple[str, ...], folder: str) -> None:
    output = os.open(path, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.chdir(folder)
    __import__("torch").set_num_threads(1)
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        signal.signal(number, handler)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


class Forked:
    """``python -m module arguments`` in a folder, with the methods of ``subprocess.Popen`` that tests call."""

    def __init__(self, module: str, *arguments: str, folder: Path | str = ".", **environment: str) -> None:
        descriptor, self._output = tempfile.mkstemp()
        os.close(descriptor)
        weakref.finalize(self, os.unlink, self._output)
        environment |= {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"}
        self._process = call(_main, self._output, module, arguments, str(folder), **environment)
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float = 120) -> int:
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        return self._process.exitcode

    def communicate(self, timeout: float = 120) -> tuple[str, str]:
        """What it said on both streams, once it has ended; the first is empty."""
        self.wait(timeout)
        return "", Path(self._output).read_text()
