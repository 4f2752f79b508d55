"""Latents: our vectorised Philox against numpy.random.RandomState seeded per pair, in one run.

python benchmarks/latents.py [--dim 128] [--batch 64]
"""

from __future__ import annotations

import time

import click
import numpy as np

from genrep.seeding import ANCHOR, standard_normals, truncated_normals


def microseconds_each(draw, batch: int, rounds: int = 20) -> float:
    """Median time of one latent over ``rounds`` batches."""
    times = []
    for i in range(rounds):
        indices = np.arange(i * batch, (i + 1) * batch)
        started = time.perf_counter()
        draw(indices)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) / batch * 1e6


@click.command()
@click.option("--dim", default=128, show_default=True)
@click.option("--batch", default=64, show_default=True)
def main(dim: int, batch: int) -> None:
    """Print microseconds per latent, and ratios."""
    peer = microseconds_each(
        lambda rows: [np.random.RandomState([0, int(i), 0]).standard_normal(dim) for i in rows], batch
    )
    print(f"RandomState([seed, index, stream]), normal    {peer:7.1f} us")
    for name, draw in (
        ("ours, normal", lambda rows: standard_normals(0, rows, ANCHOR, dim)),
        ("ours, truncated at 2", lambda rows: truncated_normals(0, rows, ANCHOR, dim, 2.0)),
    ):
        ours = microseconds_each(draw, batch)
        print(f"{name:45} {ours:7.1f} us   {peer / ours:5.1f} times as fast")


if __name__ == "__main__":
    main()
