"""Training an encoder on a dataset of pairs. Knows shards, never a generator.

``PairLoader`` is the way to use a dataset in any training loop, ``ffcv_pipelines`` that to use it with FFCV's own ``Loader``;
``TrainConfig`` and ``train`` are what ``genrep-train`` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from genrep.imports import lazy

if TYPE_CHECKING:
    from .config import TrainConfig
    from .contract import TrainedRun, read_run
    from .data.ffcv_pipelines import ffcv_pipelines
    from .data.loader import PairLoader
    from .engine.run import TrainResult, train

__all__ = ["PairLoader", "TrainConfig", "TrainResult", "TrainedRun", "ffcv_pipelines", "read_run", "train"]

# Found when asked for, so that `genrep-train --help` does not wait for torch.
_LAZY = {
    "PairLoader": "data.loader",
    "TrainedRun": "contract",
    "TrainConfig": "config",
    "TrainResult": "engine.run",
    "ffcv_pipelines": "data.ffcv_pipelines",
    "read_run": "contract",
    "train": "engine.run",
}


__getattr__ = lazy(__name__, _LAZY)
