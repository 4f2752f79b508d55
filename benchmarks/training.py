"""Training from shards against the same step on one batch that lies on the device already, in one run.

    python benchmarks/training.py --data shards/ [--arch resnet50] [--batch-size 256] [--steps 20] [--rounds 5] [--device cuda]

Each round takes so many whole steps (loader, copy, pixel views, network, loss, update) and as many that leave out loader and
copy only; a ratio is the median over rounds. The steps train: two copies of one network, each on its own data.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path

import click
import torch

from genrep.encoders import DEVICES
from genrep.runs.processes import join
from genrep.train import TrainConfig
from genrep.train.config import PRECISIONS
from genrep.train.engine.run import timed
from genrep.train.engine.samples import open_samples
from genrep.train.engine.trainer import EncoderTrainer
from genrep.train.engine.training_plan import resolve

WARM_UP = 3  # steps: compilation, cuDNN's choices, the first touch of memory


@click.command()
@click.option("--data", required=True, type=click.Path(path_type=Path), metavar="DIR")
@click.option("--arch", default="resnet50", show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Of each kind, in a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--compile", is_flag=True)
@click.option("--workers", type=int)
def main(data: Path, steps: int, rounds: int, **options: object) -> None:
    """Images per second through the network, whole and without the loader."""
    with tempfile.TemporaryDirectory() as out, join(str(options["device"])) as processes:
        config = TrainConfig(data=data, out=Path(out), steps=10**6, **options)  # type: ignore[arg-type]
        samples = open_samples(config, processes.device)
        plan = resolve(config, samples.facts, processes.device)
        whole, bare = (EncoderTrainer(plan, samples.facts, processes) for _ in range(2))
        loader = samples.loader(plan.config, plan.num_views, whole.fields, 0, 1)
        batches = timed(chain.from_iterable(repeat(loader)))
        kept = {name: values.clone().to(processes.device) for name, values in next(batches)[0].items()}
        kept["index"] = kept["index"].cpu()
        wait = 0.0

        def from_loader() -> None:
            nonlocal wait
            batch, waited = next(batches)
            wait += waited
            whole.train_step(batch, 0)

        config = plan.config
        print(
            f"{config.arch}, {plan.crop} px of {plan.image_shape}, batch {config.batch_size}, {config.precision}, "
            f"{config.device}"
        )
        for _ in range(WARM_UP):
            from_loader()
            bare.train_step(kept, 0)
        speeds = []
        for number in range(rounds):
            wait = 0.0
            seconds = measure(from_loader, steps), measure(lambda: bare.train_step(kept, 0), steps)
            speeds.append([steps * plan.views_per_step / s for s in seconds])
            print(
                f"round {number}: {speeds[-1][0]:.0f} images/s whole, {speeds[-1][1]:.0f} on a batch already there, "
                f"ratio {speeds[-1][0] / speeds[-1][1]:.3f}, waiting {wait / seconds[0]:.4f} of the time"
            )
        print(f"ratio, median of {rounds} rounds: {statistics.median(a / b for a, b in speeds):.3f}")


def measure(step: Callable[[], object], steps: int) -> float:
    """Seconds of so many steps, the device's work included."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
