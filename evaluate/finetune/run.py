"""Semi-supervised fine-tuning: the whole encoder with a classifier, on few labels, end to end."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genrep.errors import DataError
from genrep.features import Frozen, out_of_memory
from genrep.files import sha256_file
from genrep.images.labelled import LabelledImages
from genrep.progress import Progress
from genrep.runs.sanity import check_training, diverged
from genrep.seeding import derive
from genrep.untrusted import MAX_TEXT, read_bounded

from ..checkpoints import Checkpoint
from ..images import AugmentedBatches, Ints, whole_batches
from ..linear.fit import Score, Tally, batches
from ..protocol import ImagesProtocol, Results
from ..results import Entry
from ..transforms import Augmentation, Transform
from .config import VISSL, FinetuneConfig, parse_labels

TEST_BATCH = 256


def evaluate_finetune(config: FinetuneConfig) -> Results:
    """Fine-tune an encoder on a part of the labels and test it on all test images; once for each seed.

    An interrupted call goes on from its last epoch.

    Raises:
        GenRepError: the encoder, the images or the list cannot be read, or ``out`` holds this result for another encoder.
    """
    return Finetuning(config).measure_all()


@dataclass
class Network:
    """An encoder with its classifier."""

    encoder: nn.Module
    head: nn.Linear

    def state(self) -> dict[str, Any]:
        """Weights and buffers."""
        return {"encoder": self.encoder.state_dict(), "head": self.head.state_dict()}

    def parameters(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [*self.encoder.parameters(), *self.head.parameters()]


class Finetuning(ImagesProtocol[FinetuneConfig]):
    """The whole encoder with a classifier, on few labels."""

    name = "finetune"

    def prepare(self) -> None:
        """See ``Protocol``."""
        config, whole = self.config, self.train
        rows, split = self._choose(whole)
        self.train = whole.take(rows, split)
        # What the seed chooses from, so that results of several seeds are one row; a list has one choice.
        self.source = whole if config.subset is None else self.train
        self.transform = self._transform()
        self.augmentation = Augmentation(scale=VISSL.crop_scale, size=self.transform.crop)
        self.epochs = config.epochs or VISSL.epochs
        self.batch_size = min(config.batch_size or VISSL.batch_size, len(rows))
        if self.batch_size < 2:
            raise DataError(f"dataset {whole.name}, {split}: one image; wanted two or more for batch norm")
        self.lr = VISSL.lr * self.batch_size / VISSL.batch_size if config.lr is None else config.lr

    def identified(self) -> tuple[LabelledImages, LabelledImages]:
        """See ``Protocol``."""
        return self.source, self.test

    def _choose(self, train: LabelledImages) -> tuple[Any, str]:
        if self.config.subset is not None:
            rows = read_subset(train, self.config.subset)
            return rows, f"list {self.config.subset.name}, sha256 {sha256_file(self.config.subset)[:12]}"
        assert self.config.labels is not None
        rows = choose_labelled(train, self.config.labels, self.seed)
        return rows, f"{self.config.labels} of {train.split}, class-balanced, chosen by the seed"

    def _transform(self) -> Transform:
        """VISSL's, in proportion to the pixels that the encoder was trained at."""
        size, crop = self.config.size, self.config.crop
        if crop is None:
            crop = self.encoder.facts.size if size is None else max(1, round(size * VISSL.crop / VISSL.resize))
        return Transform(resize=round(crop * VISSL.resize / VISSL.crop) if size is None else size, crop=crop)

    def protocol(self) -> dict[str, Any]:
        """See ``Protocol``."""
        return {
            "name": "finetune",
            "source": "VISSL 0.1.6, in1k_semi_sup_fulltune",
            **self.images_said(),
            "augmentation": self.augmentation.describe(),
            "test_transform": self.transform.describe(),
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "optimiser": f"SGD, momentum {VISSL.momentum}, Nesterov, no weight decay; all layers",
            "lr": self.lr,
            "schedule": f"a tenth after {VISSL.milestone:.3g} of the epochs",
            "metric": "top-1",
            "reported": "last epoch",
        }

    def figures(self) -> Entry:
        """See ``Protocol``."""
        self._checkpoint = Checkpoint(self.config.out, {**self.key, "encoder_sha256": self.encoder.sha256})
        network = self._network()
        self._fit(network, self._checkpoint)
        score = self._score(network)
        return {
            "metric": f"finetune_top1_{self.epochs}ep",
            "unit": "percent",
            "value": score.top1,
            **{name: value for name, value in asdict(score).items() if value is not None},
            "lr": self.lr,
            "n": len(self.test),
        }

    def written(self) -> None:
        """Remove the checkpoint: the result is there."""
        self._checkpoint.remove()

    def _network(self) -> Network:
        encoder = copy.deepcopy(self.encoder.module).to(self.device)
        encoder.to(memory_format=torch.channels_last)
        with torch.no_grad():
            side = self.augmentation.size or self.encoder.facts.size
            dim = encoder.eval()(torch.zeros(1, 3, side, side, device=self.device)).shape[1]
        head = nn.Linear(dim, len(self.test.classes), device=self.device)
        generator = torch.Generator().manual_seed(derive("finetune-head", self.seed))
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * VISSL.head_std)
            head.bias.zero_()
        for parameter in encoder.parameters():
            parameter.requires_grad_()
        return Network(encoder=encoder, head=head)

    def _fit(self, network: Network, checkpoint: Checkpoint) -> None:
        optimiser = torch.optim.SGD(network.parameters(), lr=self.lr, momentum=VISSL.momentum, nesterov=True)
        views = AugmentedBatches(
            self.train,
            self.augmentation,
            self.transform,
            self.encoder.facts,
            seed=self.seed,
            device=self.device,
            workers=self.config.workers,
        )
        done = self._resume(network, optimiser, checkpoint)
        with Progress(self.epochs, "epoch", "fine-tuning", initial=done) as progress:
            for epoch in range(done + 1, self.epochs + 1):
                for group in optimiser.param_groups:
                    group["lr"] = self.lr * VISSL.scale(epoch, self.epochs)
                rows = batches(len(self.train), self.batch_size, self.seed, epoch)
                full = tuple(part for part in rows if len(part) == self.batch_size)
                loss = sum((self._step(network, optimiser, x, y) for x, y in views(epoch, full)), torch.zeros(()))
                way = f"give a smaller --lr than {self.lr:g}"
                if not torch.isfinite(loss):
                    raise diverged(self.config.out, f"the loss is not finite in epoch {epoch}", way)
                for part in (network.encoder, network.head):
                    check_training(self.config.out, epoch, part.state_dict(), way=way, unit="epoch")
                checkpoint.write({"epoch": epoch, **network.state(), "optimiser": optimiser.state_dict()})
                progress.update(1, loss=f"{float(loss) / len(full):.3f}")

    def _step(self, network: Network, optimiser: torch.optim.SGD, x: Tensor, labels: Tensor) -> Tensor:
        network.encoder.train()
        try:
            optimiser.zero_grad(set_to_none=True)
            loss = F.cross_entropy(
                network.head(network.encoder(x.contiguous(memory_format=torch.channels_last))), labels
            )
            loss.backward()
        except torch.OutOfMemoryError as error:
            raise out_of_memory(self.batch_size) from error
        optimiser.step()
        return loss.detach()

    def _resume(self, network: Network, optimiser: torch.optim.SGD, checkpoint: Checkpoint) -> int:
        state = checkpoint.read(self.device)
        if state is None:
            return 0
        network.encoder.load_state_dict(state["encoder"])
        network.head.load_state_dict(state["head"])
        optimiser.load_state_dict(state["optimiser"])
        return int(state["epoch"])

    def _score(self, network: Network) -> Score:
        frozen = Frozen(network.encoder, self.encoder.facts, self.device, TEST_BATCH)
        tally = Tally(len(self.test.classes), 1)
        labels = torch.from_numpy(self.test.labels).split(TEST_BATCH)
        images = whole_batches(self.test, self.transform, TEST_BATCH, self.config.workers)
        with Progress(len(self.test), "image", "testing") as progress, torch.no_grad():
            for pixels, wanted in zip(images, labels):
                tally.add(network.head(frozen(pixels))[:, None], wanted.to(self.device))
                progress.update(len(pixels))
        return tally.scores([f"give a smaller --lr than {self.lr:g}"])[0]


def choose_labelled(data: LabelledImages, labels: str, seed: int) -> Ints:
    """Rows of a class-balanced part, in order: of each class the rounded part, at least one, or so many.

    Raises DataError if a class has fewer.
    """
    part, count = parse_labels(labels)
    key = derive("labelled", seed)
    stream = np.random.RandomState([key & 0xFFFFFFFF, key >> 32])
    chosen = []
    for label, name in enumerate(data.classes):
        rows = stream.permutation(np.flatnonzero(data.labels == label))
        wanted = count if count is not None else max(1, round(len(rows) * (part or 0)))
        if wanted > len(rows):
            raise DataError(f"--labels {labels}: class {name} of {data.name} has {len(rows)} training images")
        chosen.append(rows[:wanted])
    return np.sort(np.concatenate(chosen))


def read_subset(data: LabelledImages, path: Path) -> Ints:
    """Rows of the file names in a list, one per line, with or without folders (SimCLR: ``n01440764_10074.JPEG``).

    Raises DataError: the list cannot be read, is empty, names a file twice or one that is not there, or leaves a class out.
    """
    if data.paths is None:
        raise DataError(f"--subset {path}: {data.name} has no file names; wanted --labels")
    try:
        lines = read_bounded(path, MAX_TEXT, DataError, follow=True).decode().split()
    except (DataError, UnicodeDecodeError) as error:
        raise DataError(f"--subset {path}: cannot be read ({error})") from error
    numbers = {Path(name).name: i for i, name in enumerate(data.paths)}
    if len(numbers) < len(data):
        raise DataError(f"--subset {path}: file names of {data.name} occur in several classes; wanted --labels")
    names = [line.rpartition("/")[2] for line in lines]
    if unknown := [name for name in names if name not in numbers]:
        raise DataError(
            f"--subset {path}: {len(unknown)} of {len(names)} files are not in {data.name}, e.g. {unknown[0]}"
        )
    if not names or len(set(names)) < len(names):
        raise DataError(f"--subset {path}: wanted file names, each once")
    rows = np.sort(np.array([numbers[name] for name in names], dtype=np.int64))
    missing = np.setdiff1d(np.arange(len(data.classes)), data.labels[rows])
    if len(missing):
        raise DataError(f"--subset {path}: no image of {len(missing)} classes, e.g. {data.classes[missing[0]]}")
    return rows
