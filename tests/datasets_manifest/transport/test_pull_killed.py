"""Two hundred shards over a bad network, and a puller that is killed again and again: the same bytes in the end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

KILLS = 20
FLIPS = 5
PULL = """
import sys
from pathlib import Path
from genrep.datasets_manifest.transport import Limits, PullConfig, pull
pull(PullConfig(source=sys.argv[1], out=Path(sys.argv[2]), limits=Limits(timeout=20, retries=50, backoff=0.02)))
"""


@pytest.fixture(params=["nginx", "s3"])
def served(request: pytest.FixtureRequest, large: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """The address of the large set on a server behind a proxy, and that proxy."""
    if request.param == "nginx":
        proxy, nginx = request.getfixturevalue("proxy"), request.getfixturevalue("nginx")
        proxy.cuts = 0.2  # each request has a connection of its own
        yield f"{proxy.url}/{nginx(large).rpartition('/')[2]}", proxy
    else:
        proxy, filled = request.getfixturevalue("store_proxy"), request.getfixturevalue("filled")
        proxy.cuts = 0.5
        address = filled(large)
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield address, proxy


@pytest.mark.slow
def test_killed_cut_and_flipped_at_random_it_ends_with_the_same_bytes_and_fetches_hardly_more(
    served: tuple[str, Any], large: Path, same: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    address, proxy = served
    out = tmp_path / "out"
    total = sum(path.stat().st_size for path in large.iterdir())
    proxy.flips = FLIPS
    kills, started = 0, time.monotonic()
    while True:
        end = proxy.handed + proxy.random.randrange(total // (2 * KILLS)) if kills < KILLS else float("inf")
        puller = subprocess.Popen([sys.executable, "-c", PULL, address, out], stderr=subprocess.PIPE, text=True)
        while puller.poll() is None and proxy.handed <= end:
            assert time.monotonic() < started + 600
            time.sleep(0.01)
        if puller.poll() is None:
            os.kill(puller.pid, signal.SIGKILL)
            kills += 1
        _, told = puller.communicate()
        assert puller.returncode in (0, -signal.SIGKILL), told
        if puller.returncode == 0:
            break
        assert not (out / "manifest.json").exists()
    assert kills >= KILLS
    assert proxy.flipped == FLIPS
    assert proxy.cut_off > 20
    same(out, large)
    assert total <= proxy.handed <= 1.1 * total, f"{proxy.handed / total:.3f} of the dataset"
    shutil.rmtree(out)
