"""Training from shards against the same step on one batch that lies on the device already, in one run.

    python benchmarks/training.py --data shards/ [--arch resnet50] [--batch-size 256] [--steps 20] [--rounds 5] [--device cuda]
    python benchmarks/training.py [--batch-size 256] [--rounds 5] [--precision bf16]

Each round takes so many whole steps (loader, copy, pixel views, network, loss, update) and as many that leave out loader and
copy only; a ratio is the median over rounds. The steps train: two copies of one network, each on its own data.

Without ``--data``: images per second of CPU time, on one thread, that encoders for small images take forward and backward. It
counts the process's own time, so that other work on the machine matters little; the number is the median over rounds.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import click
import torch

from genrep.encoders import DEVICES, build_encoder
from genrep.runs.processes import join
from genrep.train import TrainConfig
from genrep.train.config.run import PRECISIONS
from genrep.train.engine.run import timed
from genrep.train.engine.samples import open_samples
from genrep.train.engine.trainer import EncoderTrainer
from genrep.train.engine.training_plan import resolve

WARM_UP = 3  # steps: compilation, cuDNN's choices, the first touch of memory
SIDE = 32  # pixels of the images that the encoders alone are measured on
ENCODERS = (  # architecture, stem, what else it is built from
    ("vit_tiny_patch16_224:depth=6", "imagenet", {"patch_size": 8}),  # width 192
    ("resnet18", "imagenet", {}),
    ("resnet18:width=16", "cifar", {}),
    ("resnet18:width=8", "cifar", {}),
)


@click.command()
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Shards. [default: encoders alone]")
@click.option("--arch", default="resnet50", show_default=True)
@click.option("--batch-size", default=256, show_default=True)
@click.option("--steps", default=20, show_default=True, help="Of each kind, in a round.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--device", type=click.Choice(DEVICES), default="auto", show_default=True)
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", show_default=True)
@click.option("--compile", is_flag=True)
@click.option("--workers", type=int)
def main(data: Path | None, steps: int, rounds: int, **options: Any) -> None:
    """Images per second through the network, whole and without the loader; without --data of encoders alone."""
    if data is None:
        of_encoders(options["batch_size"], rounds, options["precision"])
    else:
        of_training(data, steps, rounds, **options)


def of_encoders(batch_size: int, rounds: int, precision: str) -> None:
    """Images per second of CPU time: forward with pooled features, and backward to all weights."""
    if precision == "fp16":
        raise click.UsageError("--precision fp16: encoders alone are measured on a CPU, in fp32 or bf16")
    torch.set_num_threads(1)
    for kind in ("fp32", "bf16") if precision == "auto" else (precision,):
        for arch, stem, model in ENCODERS:
            encoder = build_encoder(arch, stem, 0, size=SIDE, model=model).to(memory_format=torch.channels_last)
            images = torch.randn(batch_size, 3, SIDE, SIDE).to(memory_format=torch.channels_last)
            seconds = []
            for _ in range(WARM_UP + rounds):
                started = time.process_time()
                encoder.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
                    features = encoder(images)
                features.float().square().mean().backward()
                seconds.append(time.process_time() - started)
            number = sum(values.numel() for values in encoder.parameters()) / 1e6
            speed = batch_size / statistics.median(seconds[WARM_UP:])
            print(
                f"{kind}  {arch:30}{number:6.2f} M weights, {encoder.width:4} features  {speed:6.0f} images/CPU second"
            )


def of_training(data: Path, steps: int, rounds: int, **options: Any) -> None:
    """Images per second through the network, whole and without the loader."""
    with tempfile.TemporaryDirectory() as out, join(str(options["device"])) as processes:
        config = TrainConfig(data=data, out=Path(out), steps=10**6, **options)
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
