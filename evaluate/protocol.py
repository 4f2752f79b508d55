"""The common part of all protocols: open the encoder and images, look up existing results, and add missing ones.

A protocol is a subclass of ``Protocol`` and a line in ``PROTOCOLS``. The subclass defines which images it reads (``load``), by
which rules it measures (``protocol``), and what it measures (``figures``).
"""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar
from typing import Protocol as Interface

from genrep.files import locked_folder, require_writable
from genrep.images.inventory import Inventory
from genrep.images.labelled import LabelledImages
from genrep.images.sets import load_pair

from .results import RESULT_VERSION, Entry, add, data_digests, encoder_facts, find_or_tell, same_encoder, tell_changes
from .settings import EncoderChoice, open_encoder

if TYPE_CHECKING:
    import torch

    from genrep.encoders import LoadedEncoder
    from genrep.runs.processes import Processes


@dataclass(frozen=True, kw_only=True)
class ListedProtocol:
    """A protocol's command; importing it waits until it is asked for."""

    summary: str  # in one line
    # The module of its ``<name>_command``, or the package of a module ``<name>`` with ``command``; empty: evaluate/commands.py.
    package: str = ""


# In the order of a table's parts. The results of a protocol go into OUT/NAME.json.
PROTOCOLS = {
    "linear": ListedProtocol(summary="Measure a linear probe on a frozen encoder."),
    "knn": ListedProtocol(summary="Measure a k-nearest-neighbour classifier on a frozen encoder."),
    "few-label": ListedProtocol(summary="Measure logistic regression on few labels of each class."),
    "voc07": ListedProtocol(summary="Measure Pascal VOC 2007 classification by linear SVMs."),
    "finetune": ListedProtocol(summary="Fine-tune an encoder on few labels and measure it."),
    "detection": ListedProtocol(summary="Fine-tune Faster R-CNN and measure its AP."),
    "segmentation": ListedProtocol(summary="Segment images from the patches of a frozen encoder."),
    "transfer": ListedProtocol(summary="Measure linear probes on all datasets of a paper's table."),
}


def result_files() -> tuple[str, ...]:
    """The names of the files that results are in, in the order of a table's parts."""
    return tuple(f"{name}.json" for name in PROTOCOLS)


class EncoderConfig(Interface):
    """The part of a protocol's config that the harness reads, besides ``seed`` or ``seeds``."""

    @property
    def out(self) -> Path: ...
    @property
    def encoder(self) -> str | Path | None: ...
    @property
    def random_init(self) -> bool: ...
    @property
    def arch(self) -> str | None: ...
    @property
    def stem(self) -> str: ...
    @property
    def device(self) -> str: ...
    @property
    def force(self) -> bool: ...


class ImagesConfig(EncoderConfig, Interface):
    """The same of a protocol on labelled images."""

    @property
    def dataset(self) -> str: ...
    @property
    def root(self) -> Path | None: ...
    @property
    def download(self) -> bool: ...


class Split(Interface):
    """Images that a protocol reads."""

    @property
    def title(self) -> str:
        """Which images these are, in words."""

    @property
    def inventory(self) -> Inventory:
        """Every image with its name, label and content."""


Config = TypeVar("Config", bound=EncoderConfig)
OnImages = TypeVar("OnImages", bound=ImagesConfig)
Images = TypeVar("Images", bound=Split)


@dataclass(frozen=True, kw_only=True)
class Results:
    """Entries of a result file, one for each seed."""

    path: Path
    entries: tuple[Entry, ...]
    already_done: bool = False  # all of them
    folder: Path | None = None  # of the run, where the protocol keeps one

    @property
    def entry(self) -> Entry:
        """The first seed's."""
        return self.entries[0]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return statistics.fmean(entry["value"] for entry in self.entries)

    @property
    def std(self) -> float | None:
        """Standard deviation over the seeds (with N - 1); None for a single seed."""
        values = [entry["value"] for entry in self.entries]
        return statistics.stdev(values) if len(values) > 1 else None


class Protocol(ABC, Generic[Config, Images]):
    """A way to measure an encoder, with its settings.

    ``measure`` and ``measure_all`` find or make entries of the result file. For each seed they bind the protocol to an encoder
    and images (``on``); what a subclass says of its rules and figures, it says of a bound one, whose ``encoder``, ``train``,
    ``test``, ``seed`` and ``processes`` are set.
    """

    name: ClassVar[str]  # in PROTOCOLS, and of the result file
    distributed: ClassVar[bool] = False  # whether torchrun's processes share the work

    encoder: LoadedEncoder
    train: Images
    test: Images
    loaded: tuple[Images, Images]  # as ``load`` gave them, whatever ``prepare`` takes of them
    seed: int
    processes: Processes

    def __init__(self, config: Config, path: Path | None = None) -> None:
        """``path``: of the result file, if it is another than the protocol's own."""
        self.config = config
        self.path = path or config.out / f"{self.name}.json"

    # Every protocol defines these

    @abstractmethod
    def load(self) -> tuple[Images, Images]:
        """The training and the test images; not bound yet. Raises DataError if they cannot be read."""

    @property
    @abstractmethod
    def dataset(self) -> str:
        """The name of the data in the key."""

    @abstractmethod
    def protocol(self) -> dict[str, Any]:
        """Everything that must agree for two results to stand in one column, but the images' digests."""

    @abstractmethod
    def figures(self) -> Entry:
        """Measure: metric, unit, value and n (test images), and what else the entry shall say."""

    # A protocol may override these

    def check(self) -> None:
        """Raise a GenRepError if it is known already that it cannot be measured; before anything is opened."""

    def encoder_options(self) -> dict[str, Any]:
        """Further arguments for ``open_encoder``, besides the choice of the encoder."""
        return {}

    def prepare(self) -> None:
        """Derive what ``protocol`` and ``figures`` need, once bound. Raises a GenRepError if data and settings do not agree."""

    def identified(self) -> tuple[Images, Images]:
        """The images whose digests stand in the key."""
        return self.train, self.test

    def written(self) -> None:
        """Do what may be done only when the entry is in its file."""

    @property
    def folder(self) -> Path | None:
        """Where the run is kept."""
        return None

    # The common part

    def check_sides(self, shape: tuple[int, int] | None, option: str = "size") -> None:
        """See ``images.check_sides``: for ``prepare``. What it has to say is said once for all seeds."""
        from .images import check_sides

        check_sides(self.encoder, shape, option, say=self.seed == self.seeds[0])

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds asked for."""
        config: Any = self.config
        return config.seeds if hasattr(config, "seeds") else (config.seed,)

    @property
    def device(self) -> torch.device:
        """The device to compute on."""
        return self.processes.device

    @cached_property
    def said(self) -> dict[str, Any]:
        """The protocol with the digests of the images that it is of: by one process, since every image is read for them."""
        train, test = self.identified()
        digests = self.processes.first_does(lambda: data_digests(train.inventory, test.inventory))
        return {**self.protocol(), **digests}

    @property
    def key(self) -> Entry:
        """The key of an entry."""
        return {"dataset": self.dataset, "protocol": self.said, "seed": self.seed}

    def measure(self) -> Entry:
        """The first seed's entry: found in the result file, or measured now and added.

        Raises:
            GenRepError: the encoder or the images cannot be read, or the file holds this result for another encoder.
        """
        return self._measured(self.seeds[:1]).entry

    def measure_all(self) -> Results:
        """The entries of all seeds; see ``measure``."""
        return self._measured(self.seeds)

    def measure_held(self) -> Results:
        """``measure_all`` in a folder that the caller holds."""
        return self._measured(self.seeds, held=True)

    def _measured(self, seeds: tuple[int, ...], *, held: bool = False) -> Results:
        started = time.monotonic()
        self.check()
        require_writable(self.config.out)
        with self._processes() as self.processes:
            encoder = self._open(seeds[0])
            first = self.on(encoder, *self.load(), seed=seeds[0], processes=self.processes)
            # Not before: a call that cannot read its encoder or images leaves no folder behind.
            holding = nullcontext() if held or not self.processes.first else locked_folder(self.config.out)
            with holding:
                return self._each(seeds, first, started)

    @contextmanager
    def _processes(self) -> Iterator[Processes]:
        from genrep.devices import pick_device
        from genrep.runs.processes import Processes, join

        with join(self.config.device) if self.distributed else nullcontext() as joined:
            yield joined or Processes(device=pick_device(self.config.device))

    def _each(self, seeds: tuple[int, ...], first: Self, started: float) -> Results:
        """``first``: bound for the first seed; an untrained encoder is another one for each seed."""
        if self.processes.first:
            splits = [(data.title, data.inventory) for data in first.identified()]
            tell_changes(self.config.out, first.dataset, splits)
        found = [first._entry(started)]
        for seed in seeds[1:]:
            started = time.monotonic()
            encoder = self._open(seed) if self.config.random_init else first.encoder
            found.append(self.on(encoder, *first.loaded, seed=seed, processes=self.processes)._entry(started))
        entries, done = zip(*found)
        return Results(path=self.path, entries=entries, already_done=all(done), folder=first.folder)

    def on(
        self, encoder: LoadedEncoder, train: Images, test: Images, *, seed: int = 0, processes: Processes | None = None
    ) -> Self:
        """This protocol bound to an encoder and images that are open. Raises a GenRepError: see ``prepare``."""
        from genrep.devices import pick_device
        from genrep.runs.processes import Processes

        bound = copy(self)
        bound.encoder, bound.train, bound.test, bound.seed = encoder, train, test, seed
        bound.loaded = train, test
        bound.processes = processes or Processes(device=pick_device(self.config.device))
        bound.prepare()
        return bound

    def _open(self, seed: int) -> LoadedEncoder:
        names = (one.name for one in fields(EncoderChoice))
        choice = EncoderChoice(**{name: getattr(self.config, name) for name in names if hasattr(self.config, name)})
        return open_encoder(choice, seed=seed, **self.encoder_options())

    def _entry(self, started: float) -> tuple[Entry, bool]:
        """The entry, and whether it was there."""
        import torch

        key = self.key
        old: Entry | None = self.processes.first_does(lambda: find_or_tell(self.path, key))
        if old is not None and not self.config.force:
            return same_encoder(old, self.encoder, self.path), True
        figures = self.figures()
        entry = {
            **key,
            "version": RESULT_VERSION,
            **encoder_facts(self.encoder),
            "device": self.device.type,
            "seconds": round(time.monotonic() - started, 1),
            "versions": {"torch": torch.__version__},
            **figures,
        }
        if self.processes.first:
            add(self.path, entry)
            self.written()
        return entry, False


class ImagesProtocol(Protocol[OnImages, LabelledImages]):
    """A protocol on labelled images, of a named set or of a folder."""

    def load(self) -> tuple[LabelledImages, LabelledImages]:
        """See ``Protocol``."""
        return load_pair(self.config.dataset, self.config.root, download=self.config.download)

    @property
    def dataset(self) -> str:
        """See ``Protocol``."""
        return self.train.name

    def images_said(self) -> dict[str, Any]:
        """The part of a protocol that describes the images."""
        return {
            "train": self.train.split,
            "test": self.test.split,
            "train_images": len(self.train),
            "test_images": len(self.test),
            "classes": len(self.train.classes),
        }
