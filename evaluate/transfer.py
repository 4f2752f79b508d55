"""All linear probes of a paper's transfer table. Datasets on disk are measured; missing ones are reported."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from genrep.errors import DataError
from genrep.evaluate.settings import (
    EncoderChoice,
    device_setting,
    force_setting,
    seeds_setting,
)
from genrep.files import locked_folder
from genrep.images.labelled import MissingDataset
from genrep.settings import config, setting

from .linear.config import LinearConfig
from .linear.presets import PRESETS
from .protocol import Results
from .table import aligned, mean_std


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Datasets of a table, and the protocol of its columns."""

    preset: str
    datasets: tuple[str, ...]


SUITES = {
    # Li et al. 2022, table 2, by VISSL.
    "cop-gen": Suite(
        preset="vissl",
        datasets=("food101", "cifar10", "cifar100", "sun397_80_20", "pets", "caltech101", "flowers102"),
    ),
    # HL, tables 3 and 4; Aircraft with its 70 families, as in the code.
    "hl": Suite(
        preset="hl",
        datasets=(
            *("birdsnap", "caltech101", "cifar100", "dtd", "flowers102", "food101", "pets"),
            *("stanford_cars", "fgvc_aircraft_family"),
        ),
    ),
}


@config
class TransferConfig(EncoderChoice):
    """Settings of a suite; those of the probes are its preset's."""

    suite: str = setting(
        choices=SUITES, help="Table to measure: cop-gen (COP-Gen's Table 2) or hl (HL's Tables 3 and 4)."
    )
    root: Path = setting(metavar="DIR", help="Folder that holds the datasets, or that --download fetches them to.")
    download: bool = setting(default=False, help="Fetch the datasets that are not under --root (tens of GB).")
    out: Path = setting(metavar="DIR", help="Folder whose transfer.json receives the results.")
    preset: str | None = setting(
        default=None,
        choices=PRESETS,
        help="Protocol of the probes.  [default: the suite's: vissl for cop-gen, hl for hl]",
    )
    size: int | None = setting(
        default=None, least=1, metavar="PIXELS", help="Resize the shorter side to this.  [default: the preset's]"
    )
    crop: int | None = setting(
        default=None,
        least=1,
        metavar="PIXELS",
        help="Side of the crops.  [default: the preset's, in proportion to --size]",
    )
    epochs: int | None = setting(
        default=None, least=1, help="Number of passes over the training images.  [default: the preset's]"
    )
    workers: int | None = setting(
        default=None, least=1, help="Number of threads that decode images.  [default: one per core]"
    )
    seeds: tuple[int, ...] = seeds_setting()
    device: str = device_setting()
    force: bool = force_setting()

    def __post_init__(self) -> None:
        """Check the settings against each other. Raises ConfigError."""
        self.check_choice()
        self.probe(SUITES[self.suite].datasets[0])

    def probe(self, dataset: str) -> LinearConfig:
        """The settings on one dataset. Raises ConfigError."""
        return LinearConfig(
            dataset=dataset,
            out=self.out,
            **{one.name: getattr(self, one.name) for one in fields(EncoderChoice)},
            root=self.root,
            download=self.download,
            preset=self.preset or SUITES[self.suite].preset,
            size=self.size,
            crop=self.crop,
            epochs=self.epochs,
            workers=self.workers,
            seeds=self.seeds,
            device=self.device,
            force=self.force,
        )


@dataclass(frozen=True, kw_only=True)
class TransferResult:
    """A suite's results."""

    path: Path
    results: dict[str, Results]  # by dataset
    skipped: dict[str, MissingDataset]  # why, by dataset

    def table(self) -> str:
        """For people: a line for each dataset, and their mean."""
        rows = [["dataset", "metric", "result", "test images"]]
        for dataset, result in self.results.items():
            values = [entry["value"] for entry in result.entries]
            entry = result.entry
            rows.append([dataset, entry["protocol"]["metric"], mean_std(values), str(entry["n"])])
        means = [result.mean for result in self.results.values()]
        rows.append([f"mean of {len(means)}", "", f"{sum(means) / len(means):.2f}", ""])
        return "\n".join(aligned(rows))


def evaluate_transfer(config: TransferConfig) -> TransferResult:
    """Measure a linear probe on every dataset of the suite that is under ``root``.

    Results that ``out`` already holds are not measured again. The same call resumes after an interruption.

    Raises:
        DataError: no dataset is there, or one is damaged.
    """
    from .linear.run import LinearProbe  # with torch, which the command's own help does not wait for

    path = config.out / "transfer.json"
    results: dict[str, Results] = {}
    skipped: dict[str, MissingDataset] = {}
    with locked_folder(config.out):
        for dataset in SUITES[config.suite].datasets:
            try:
                results[dataset] = LinearProbe(config.probe(dataset), path).measure_held()
            except MissingDataset as error:
                skipped[dataset] = error
    if not results:
        names = ", ".join(SUITES[config.suite].datasets)
        raise DataError.naming("{root} {}: holds none of the suite's datasets ({})", config.root, names)
    return TransferResult(path=path, results=results, skipped=skipped)
