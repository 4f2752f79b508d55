"""The builder: a recipe becomes shards, shard records and a manifest.

plan.py (what will be built) -> pairs.py (latents and images of a range) -> shard.py (one FFCV file) -> worker.py (a process
that builds shards) -> dataset.py (the whole). folder.py knows what lies in a dataset folder that is being built.
"""

from .dataset import BuildReport, build_dataset
from .plan import BuildConfig

__all__ = ["BuildConfig", "BuildReport", "build_dataset"]
