"""Where and how a run computes, and what it records."""

from __future__ import annotations

from pathlib import Path

from genrep.encoders import DEVICES
from genrep.settings import MOST_SEED, config, setting

PRECISIONS = ("auto", "fp32", "bf16", "fp16")


@config
class RunSettings:
    """Seed, device, checkpoints and records."""

    seed: int = setting(default=0, least=0, most=MOST_SEED, help="Seed of initialisation, order and views.")
    device: str = setting(default="auto", choices=DEVICES, help="Device to train on. auto: the GPU if there is one.")
    precision: str = setting(
        default="auto",
        choices=PRECISIONS,
        help="Number format of the forward and backward passes. auto: bf16 where the device computes in it "
        "natively, else fp32.",
    )
    compile: bool = setting(
        default=False, negatable=True, help="Compile the encoder and, on a GPU, the pixel views.  [default: no]"
    )
    sync_batchnorm: bool = setting(
        default=False,
        negatable=True,
        help="Compute batch-norm statistics over the batches of all processes. Needs GPUs.  [default: no]",
    )
    workers: int | None = setting(
        default=None,
        least=1,
        help="Number of threads that read and decode ahead.  [default: the number of cores minus one, at most 8]",
    )
    checkpoint_every: int = setting(
        default=1, least=1, metavar="EPOCHS", help="Epochs between checkpoints, from which an interrupted run resumes."
    )
    checkpoint_minutes: float = setting(
        default=15.0,
        above=0,
        metavar="MINUTES",
        help="Minutes after the last checkpoint at which another is written within an epoch.",
    )
    keep_checkpoints: int = setting(default=1, least=1, help="Number of most recent checkpoints to keep.")
    log_every: int = setting(default=10, least=1, metavar="STEPS", help="Steps between lines of metrics.jsonl.")
    knn_every: int | None = setting(
        default=None,
        least=1,
        metavar="EPOCHS",
        help="Epochs between kNN measurements on --knn-data; the best encoder is kept.  [default: none are made]",
    )
    knn_data: str | None = setting(
        default=None,
        metavar="NAME|DIR",
        help="Labelled images for --knn-every: a named dataset or an image folder.",
    )
    knn_root: Path | None = setting(
        default=None,
        metavar="DIR",
        help="Folder that holds the named dataset of --knn-data. Required for a named dataset.",
    )
    collapse_std: float = 0.1  # relative std of the embeddings (infonce.relative_std) that counts as collapsed
    collapse_steps: int = 500  # so many steps below it end the run
