"""From nothing to a linear-probe number: our pipeline against the original way, stage by stage, in one run.

    python benchmarks/end_to_end.py --root data [--num-pairs 20480] [--epochs 6] [--arch resnet50] [--device cuda]
    python benchmarks/end_to_end.py --root data --quick        # does it run? a minute, and figures that mean nothing

Ours: genrep-generate dataset, genrep-train --preset genrep-in1k, genrep-evaluate linear --preset genrep, with their defaults
but for the probe's --precision and what both sides are given: generator, view (Gaussian, σ = 0.2), number of pairs, network,
epochs, batch 256, crops of ``--crop`` px, real images, device. The original way: original_way.py says what it keeps of
GenRep's scripts, and what not.

Every stage is a process that starts cold: imports, compilation and warm-up count, and caches of compiled code are empty. (This
process imports torch before, so that neither side is the one that reads it from disk.) The sides take turns, stage by stage, on
the same cores: the original way with torch's own number of threads and a worker process per core, ours with what the commands
choose. Seconds are by the clock and, in brackets, of all threads' and processes' CPU time, and so are the ratios. On a busy
machine OMP_NUM_THREADS=1 makes the latter mean something: threads that wait for each other there burn it. On a GPU, the clock.

The probes have one protocol: random crops and flips, batch 256, rate 2, cosine by epochs, test images whole. What differs: ours
encodes the test images once and not in every epoch, augments a batch at a time as floats and not image by image in 8 bits, and
trains a second head (rate 0.3) beside the first. Both stages differ in bfloat16, where the processor has it (genrep-train takes
it by itself, genrep-evaluate as --precision auto), and training in what is drawn: latents, order, views. Results are the last
epoch's; the original's own is the best one, told in brackets.

Below, what one gets from our commands without a preset: a probe on features that are taken once, for as many epochs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from genrep.images import idx

HERE = Path(__file__).parent
DATASET, RAW, VIEW = "fashion_mnist", Path("FashionMNIST/raw"), "gaussian:std=0.2,truncation=2"
STAGES = ("generate", "train", "probe")
DEFAULT_PROBE = "frozen"
BATCH = 256  # of genrep-in1k and of original_way.py
QUICK, PROBE_IMAGES = {"num_pairs": 512, "epochs": 1, "probe_epochs": 1}, 600
CACHES = ("CUDA_CACHE_PATH", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")
SHARDS, RUN, RESULT = "shards", "run", "linear.json"  # of ours
LEFT = {  # by the stages
    "original": {"generate": "images", "train": "last.pth", "probe": "probe.json"},
    "ours": {"generate": SHARDS, "train": RUN, "probe": "probe"},
}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What both sides are given."""

    gen: str
    num_pairs: int
    arch: str
    epochs: int
    probe_epochs: int
    crop: int
    device: str
    seed: int
    root: Path
    workers: int  # processes of the original way's loaders
    compile: bool  # genrep-train --compile

    def original(self, stage: str, folder: Path) -> list[str]:
        """Its command."""
        given = asdict(self) | {"folder": folder, "dataset": DATASET}
        del given["compile"]
        options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        return [sys.executable, str(HERE / "original_way.py"), stage, *options]

    def ours(self, stage: str, folder: Path) -> list[str]:
        """Our command."""
        program = {"generate": "genrep-generate", "train": "genrep-train"}.get(stage, "genrep-evaluate")
        command = [str(Path(sys.executable).parent / program)]
        same = [f"--seed={self.seed}", f"--device={self.device}"]
        if stage == "generate":
            what = [f"--gen={self.gen}", f"--views={VIEW}", f"--num-pairs={self.num_pairs}", f"--out={folder / SHARDS}"]
            return [*command, "dataset", *what, *same]
        if stage == "train":
            what = ["--preset=genrep-in1k", f"--arch={self.arch}", f"--crop={self.crop}", f"--epochs={self.epochs}"]
            what += ["--compile"] if self.compile else []
            return [*command, f"--data={folder / SHARDS}", f"--out={folder / RUN}", *what, *same]
        what = [f"--encoder={folder / RUN}", f"--dataset={DATASET}", f"--root={self.root}", f"--out={folder / stage}"]
        if stage == "probe":
            what += ["--preset=genrep", f"--size={self.crop}", f"--crop={self.crop}"]
        return [*command, "linear", *what, f"--epochs={self.probe_epochs}", "--precision=auto", *same]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """By a stage."""

    wall: float  # seconds
    cpu: float  # seconds, of all threads and processes

    def __add__(self, other: Taken) -> Taken:
        return Taken(wall=self.wall + other.wall, cpu=self.cpu + other.cpu)

    def __sub__(self, other: Taken) -> Taken:
        return Taken(wall=self.wall - other.wall, cpu=self.cpu - other.cpu)

    def __str__(self) -> str:
        return f"{self.wall:9.1f} ({self.cpu:8.1f})"

    def ratio_to(self, other: Taken) -> str:
        """How many times longer this one took."""
        return f"{self.wall / other.wall:7.2f}x ({self.cpu / other.cpu:6.2f}x)"


NOTHING = Taken(wall=0, cpu=0)


def run(command: list[str], folder: Path) -> Taken:
    """A process to its end. Raises ClickException with its last words if it fails."""
    caches = {name: str(folder / "caches" / name) for name in CACHES}
    environment = os.environ | caches | {"PYTHONSAFEPATH": "1"}
    cpu, started = cpu_of_children(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        status = subprocess.run(command, cwd=folder, env=environment, stdout=said, stderr=subprocess.STDOUT).returncode
        taken = Taken(wall=time.perf_counter() - started, cpu=cpu_of_children() - cpu)
        if status:
            said.seek(0)
            raise click.ClickException(f"{' '.join(command)}: status {status}\n{said.read()[-3000:]}")
    return taken


def cpu_of_children() -> float:
    """Seconds of all that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def real_files(root: Path) -> dict[str, tuple[Path, Path]]:
    """Fashion-MNIST's files of images and labels, by split. Raises ClickException if one is missing."""
    found = {split: idx.find(root / RAW, split) for split in ("train", "test")}
    if None in found.values():
        fetch = f"genrep-generate from-folder fashion_mnist --root {root} --download --out DIR"
        raise click.ClickException(
            f"--root {root}: no {RAW} with the four files of Fashion-MNIST; {fetch} fetches them"
        )
    return {split: files for split, files in found.items() if files is not None}


def write_part(files: dict[str, tuple[Path, Path]], out: Path, count: int) -> None:
    """The first training images, and a sixth as many test images, in the same format."""
    (out / RAW).mkdir(parents=True)
    for split, size in (("train", count), ("test", -(-count // 6))):
        for path, dimensions in zip(files[split], (3, 1)):
            part = np.ascontiguousarray(idx.read(path, dimensions)[:size])
            header = bytes([0, 0, 8, dimensions]) + b"".join(length.to_bytes(4, "big") for length in part.shape)
            (out / RAW / path.name.removesuffix(".gz")).write_bytes(header + part.tobytes())


def measure(study: Study, folder: Path, stages: list[str]) -> dict[str, dict[str, Taken]]:
    """Times by stage and side; prints a line for each."""
    taken: dict[str, dict[str, Taken]] = {}
    for stage in stages:
        taken[stage] = {}
        for side, commands in (("original", study.original), ("ours", study.ours)):
            place = folder / side
            left = place / LEFT[side][stage]
            if left.exists():
                raise click.ClickException(f"--work {folder}: there is {left} already; wanted a stage not done before")
            place.mkdir(exist_ok=True)
            taken[stage][side] = run(commands(stage, place), folder)
        click.echo(line(stage, **taken[stage]))
    return taken


def line(name: str, original: Taken, ours: Taken) -> str:
    """Of the table."""
    return f"  {name:28} {original}  {ours}  {original.ratio_to(ours)}"


def compare(study: Study, folder: Path, stages: list[str]) -> None:
    """Print the table."""
    click.echo(f"  {'seconds (of CPU)':28} {'original':>20}  {'ours':>20}  {'ratio':>8} (of CPU)")
    taken = measure(study, folder, stages)
    original, ours = (sum((sides[side] for sides in taken.values()), NOTHING) for side in ("original", "ours"))
    if len(stages) > 1:
        click.echo(line("total", original, ours))
    if "probe" not in stages:
        return
    frozen = run(study.ours(DEFAULT_PROBE, folder / "ours"), folder)
    click.echo(line("probe, ours by default", taken["probe"]["original"], frozen))
    if len(stages) > 1:
        click.echo(line("total with that", original, ours - taken["probe"]["ours"] + frozen))
    theirs = json.loads((folder / "original" / LEFT["original"]["probe"]).read_text())
    same, default = (read_result(folder / "ours" / name) for name in ("probe", DEFAULT_PROBE))
    click.echo(
        f"  top-1 of {same['n']} test images, last epoch (best): original {theirs['last']:.2f} ({theirs['best']:.2f}), "
        f"ours {same['value']:.2f} ({same['best_value']:.2f}), by default {default['value']:.2f} ({default['best_value']:.2f})"
    )


def read_result(folder: Path) -> dict[str, Any]:
    """The one that genrep-evaluate left."""
    (entry,) = json.loads((folder / RESULT).read_text())
    return dict(entry)


@click.command()
@click.option("--root", required=True, type=click.Path(path_type=Path, exists=True), help="Where Fashion-MNIST lies.")
@click.option("--gen", default="stylegan2_fashion", show_default=True, help="As of genrep-generate.")
@click.option("--num-pairs", default=20480, show_default=True)
@click.option("--arch", default="resnet18", show_default=True)
@click.option("--epochs", default=6, show_default=True, help="Of training.")
@click.option("--probe-epochs", default=60, show_default=True)
@click.option(
    "--probe-images", type=click.IntRange(600, 60000), help="Real images to train on, the first; a sixth to test."
)
@click.option("--crop", default=32, show_default=True, help="Pixels that networks see.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option(
    "--workers", type=int, help="Processes of the original way's loaders.  [default: one per core, at most 16]"
)
@click.option("--compile", is_flag=True, help="genrep-train --compile.")
@click.option("--seed", default=0, show_default=True)
@click.option("--stages", type=click.Choice(STAGES), multiple=True, help="May be repeated.  [default: all]")
@click.option("--work", type=click.Path(path_type=Path), help="Keep files here, where other stages find them.")
@click.option("--quick", is_flag=True, help="The smallest size, whatever else is said of sizes.")
def main(
    stages: tuple[str, ...],
    work: Path | None,
    quick: bool,
    probe_images: int | None,
    workers: int | None,
    **options: Any,
) -> None:
    """Print what each stage takes the original way and ours, and both results."""
    import torch

    cores = len(os.sched_getaffinity(0))
    options |= {"workers": min(16, cores) if workers is None else workers} | (QUICK if quick else {})
    probe_images = PROBE_IMAGES if quick else probe_images
    if options["num_pairs"] < BATCH or options["num_pairs"] % BATCH:
        raise click.UsageError(f"--num-pairs {options['num_pairs']}: wanted a multiple of {BATCH}, the batch")
    files = real_files(options["root"])
    with tempfile.TemporaryDirectory() as temporary:
        if probe_images is not None:
            write_part(files, Path(temporary) / "real", probe_images)
            options["root"] = Path(temporary) / "real"
        study = Study(**options | {"root": options["root"].resolve()})
        folder = Path(temporary) if work is None else work.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        click.echo(
            f"{study.gen}, {study.num_pairs} pairs, {study.arch} at {study.crop} px, {study.epochs} epochs; "
            f"probe: {DATASET}, {probe_images or 'all'} images, {study.probe_epochs} epochs"
        )
        device = torch.cuda.get_device_name() if study.device == "cuda" else "no GPU"
        how = f"{torch.get_num_threads()} threads, {study.workers} worker processes"
        click.echo(f"{device}, {cores} cores; the original: {how}")
        compare(study, folder, [stage for stage in STAGES if stage in (stages or STAGES)])


if __name__ == "__main__":
    main()
