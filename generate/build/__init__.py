"""The builder: a recipe becomes shards, shard records and a manifest.

config.py (settings) -> resolve.py (what will be built: plan.py) -> source.py (samples of a range; of a generator: pairs.py) ->
shard.py (one FFCV file) -> job.py (a shard and its record) -> pool.py or encoders.py (processes that build shards: crew.py) ->
run.py (the whole). dataset.py is the command, estimate.py its --plan, pages.py how large a shard becomes. folder.py knows whose
an output folder is, ranks.py what torchrun says.
"""

from ..plans.config import BuildConfig
from .dataset import build_dataset, plan_dataset
from .run import BuildReport

__all__ = ["BuildConfig", "BuildReport", "build_dataset", "plan_dataset"]
