"""The builder: a plan becomes shards, their records and a manifest.

dataset.py        ``genrep-generate dataset``: from settings to a finished dataset of pairs, or (``--plan``) what it would take;
                  from_folder.py of real images
regeneration.py   a manifest's recipe followed again, for repair, rebuild and verify
run.py            builds what is open of a plan (which of it: this call's share), then finishes it
workers.py        the processes that build shards; encoders.py those that encode and write beside one on a GPU
shard.py          one shard, its file and its record
output_folder.py  whose a folder is: nothing is written into a stranger's
"""

from ..plans.config import BuildConfig
from .dataset import build_dataset, plan_dataset
from .run import BuildReport

__all__ = ["BuildConfig", "BuildReport", "build_dataset", "plan_dataset"]
