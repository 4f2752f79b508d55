"""The road as GenRep's scripts go it (Jahanian et al. 2022), for ``end_to_end.py`` to measure ours against.

    python benchmarks/original_way.py generate --folder images-and-run --num-pairs 2600
    python benchmarks/original_way.py train --folder images-and-run --epochs 2
    python benchmarks/original_way.py probe --folder images-and-run --probe-epochs 2 --root data

Written anew from what those scripts do: batches of 32 through the generator, every image a PNG file of its own in folders of
1300 anchors, latents in a pickle beside them; Pillow's augmentations one image at a time in a DataLoader's worker processes;
float32, no compilation, the loss read back at every step; a probe that sends every training and test image through the frozen
encoder in every epoch. Kept: all hyper-parameters, the loss's formulation with its factor τ / base τ, rates that move by
epochs, the last smaller batch, the best epoch as the result.

Changed, none of it to this road's disadvantage: the generator is ours (the same network is what is compared); a seed; worker
processes as many as cores, since the scripts' 16 would only wait for each other; crops of 32 px for images of 32; a ResNet of
torchvision's, to which theirs is equal; real images come from memory and not from files, and the head has their number of
classes, not 1000; no tensorboard, no image grids; the probe tells its last epoch too.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

PER_FOLDER, GENERATED_AT_A_TIME, BATCH = 1300, 32, 256
STD, TRUNCATION = 0.2, 2.0  # of the Gaussian view; the second in units of the first
NEIGHBOUR_SEEDS = 1000  # on from the anchors'
TEMPERATURE, BASE_TEMPERATURE = 0.1, 0.07
LR, MOMENTUM, WEIGHT_DECAY, FLOOR = 0.03, 0.9, 1e-4, 0.1**3
PROBE_LR, PROBE_FLOOR = 2.0, 0.2**3  # the paper's, for encoders of generated images
CROP_SCALE = (0.2, 1.0)
MEAN, STD_OF_CHANNELS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ANCHOR, NEIGHBOUR = "anchor", "neighbor_0"  # in the names of files
IMAGES, ENCODER, PROBE = "images", "last.pth", "probe.json"  # in the folder
Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Config:
    """All settings."""

    folder: Path
    gen: str = "stylegan2_fashion"
    num_pairs: int = 20480
    arch: str = "resnet18"
    epochs: int = 20
    dataset: str = "fashion_mnist"
    root: str = "data"  # where it lies, or is downloaded to
    probe_epochs: int = 60
    crop: int = 32
    workers: int = min(16, len(os.sched_getaffinity(0)))  # the scripts' own number, on a machine that has as many cores
    seed: int = 0
    device: str = "cpu"


def generate(config: Config, device: torch.device) -> None:
    """Folders of anchors and neighbours, file by file."""
    from genrep.generate import load_generator

    generator, seed = load_generator(config.gen, device=device), config.seed
    for number, first in enumerate(range(0, config.num_pairs, PER_FOLDER)):
        count, law = min(PER_FOLDER, config.num_pairs - first), generator.latent
        folder = config.folder / IMAGES / f"class{number:04d}"
        folder.mkdir(parents=True)
        anchors = normals(count, law.dim, law.truncation, law.scale, seed + number)
        neighbours = anchors + normals(count, law.dim, TRUNCATION, STD, seed + number + NEIGHBOUR_SEEDS)
        latents: dict[str, Floats] = {}
        for kind, z in ((ANCHOR, anchors), (NEIGHBOUR, neighbours)):
            for start in range(0, count, GENERATED_AT_A_TIME):
                part = z[start : start + GENERATED_AT_A_TIME]
                for i, pixels in enumerate(synthesize(generator, part, number, device)):
                    name = f"seed{seed:04d}_sample{start + i:05d}_{kind}.png"
                    Image.fromarray(pixels).save(folder / name)
                    latents[name] = part[i]
        with open(folder / "z_dataset.pkl", "wb") as file:
            pickle.dump(latents, file)


def normals(count: int, dim: int, bound: float | None, std: float, seed: int) -> Floats:
    """``std`` times normal numbers, within ± ``bound``. Shape: ``(count, dim)``."""
    from scipy.stats import truncnorm

    random = np.random.RandomState(seed)
    if bound is None:
        return random.normal(0, std, size=(count, dim)).astype(np.float32)
    return truncnorm.rvs(-bound, bound, scale=std, size=(count, dim), random_state=random).astype(np.float32)


@torch.no_grad()
def synthesize(generator: Any, z: Floats, folder: int, device: torch.device) -> NDArray[np.uint8]:
    """Pixels. Shape: ``(B, dim) -> (B, H, W, 3)``."""
    inputs = [torch.from_numpy(z).to(device)]
    if generator.num_classes:
        inputs.append(torch.full((len(z),), folder % generator.num_classes, device=device))
    images = generator.synthesize(*inputs).float().cpu().numpy().transpose(0, 2, 3, 1)
    return np.clip((images + 1) / 2 * 256, 0, 255).astype(np.uint8)


class FolderPairs(Dataset[Any]):
    """Two views and the folder's number, of an anchor's file and its neighbour's."""

    def __init__(self, root: Path, view: Callable[[Image.Image], Tensor]) -> None:
        self.paths = [str(path) for path in root.glob(f"*/*_{ANCHOR}.png")]
        self.numbers = {path.name: k for k, path in enumerate(sorted(root.iterdir()))}
        self.view = view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor, int]:
        folder, name = os.path.split(self.paths[i])
        views = []
        for file in (name, name.replace(ANCHOR, NEIGHBOUR)):
            with Image.open(os.path.join(folder, file)) as image:
                views.append(self.view(image.convert("RGB")))
        return views[0], views[1], self.numbers[os.path.basename(folder)]


class RealPictures(Dataset[Any]):
    """Real images of a split, through a transform, with their labels."""

    def __init__(self, config: Config, split: str, transform: Callable[[Image.Image], Tensor]) -> None:
        from genrep.images.sets import load_images

        self.data, self.transform = load_images(config.dataset, Path(config.root), split, download=True), transform

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.data.images[i])), int(self.data.labels[i])


def to_normalised() -> list[Any]:
    """What ends every transform."""
    return [transforms.ToTensor(), transforms.Normalize(MEAN, STD_OF_CHANNELS)]


def training_view(crop: int) -> Any:
    """SimCLR's augmentations without blur."""
    colour = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(crop, scale=CROP_SCALE),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([colour], p=0.8),
            transforms.RandomGrayscale(p=0.2),
            *to_normalised(),
        ]
    )


class Model(nn.Module):
    """A ResNet and a head of two layers. Shape: ``(N, 3, H, W) -> (N, 128)``, rows of unit length."""

    def __init__(self, arch: str) -> None:
        super().__init__()
        self.encoder = getattr(torchvision.models, arch)(weights=None)
        dim = self.encoder.fc.in_features
        self.encoder.fc = nn.Identity()
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(inplace=True), nn.Linear(dim, 128))

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.head(self.encoder(images)), dim=1)


class SupConLoss(nn.Module):
    """The supervised contrastive loss with every view as an anchor, where a pair is its own class (so: SimCLR's).

    Khosla et al. 2020, equation 2, times τ / base τ. Shape: ``(B, V, D) -> ()``.
    """

    def forward(self, features: Tensor) -> Tensor:
        count, views = features.shape[:2]
        rows = torch.cat(torch.unbind(features, dim=1))
        logits = rows @ rows.T / TEMPERATURE
        logits = logits - logits.max(dim=1, keepdim=True).values.detach()
        others = 1 - torch.eye(count * views, device=rows.device)
        positives = torch.eye(count, device=rows.device).repeat(views, views) * others
        log_probability = logits - torch.log((torch.exp(logits) * others).sum(dim=1, keepdim=True))
        mean = (positives * log_probability).sum(dim=1) / positives.sum(dim=1)
        return -(TEMPERATURE / BASE_TEMPERATURE) * mean.mean()


def cosine(lr: float, floor: float, epoch: int, epochs: int) -> float:
    """The rate of an epoch, counted from 1."""
    return lr * (floor + (1 - floor) * (1 + math.cos(math.pi * epoch / epochs)) / 2)


def loader(data: Dataset[Any], config: Config, *, shuffle: bool) -> DataLoader[Any]:
    """torch's, with its processes begun anew in every epoch."""
    pinned = config.device.startswith("cuda")
    return DataLoader(data, batch_size=BATCH, shuffle=shuffle, num_workers=config.workers, pin_memory=pinned)


def begun(epochs: int, optimiser: torch.optim.Optimizer, lr: float, floor: float) -> Iterator[None]:
    """Epochs, each at its rate and with a line of its time."""
    for epoch in range(1, epochs + 1):
        optimiser.param_groups[0]["lr"] = cosine(lr, floor, epoch, epochs)
        started = time.perf_counter()
        yield
        click.echo(f"epoch {epoch}: {time.perf_counter() - started:.1f} s")


def train(config: Config, device: torch.device) -> None:
    """SimCLR on anchors and neighbours; leaves ``last.pth``."""
    model, criterion = Model(config.arch).to(device), SupConLoss().to(device)
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
    pairs = FolderPairs(config.folder / IMAGES, training_view(config.crop))
    batches = loader(pairs, config, shuffle=True)
    model.train()
    for _ in begun(config.epochs, optimiser, LR, FLOOR):
        total = 0.0
        for anchor, neighbour, _ in batches:
            images = torch.stack([anchor, neighbour], dim=1).to(device, non_blocking=True)
            features = model(images.flatten(0, 1)).view(len(anchor), 2, -1)
            loss = criterion(features)
            total += loss.item() * len(anchor)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        click.echo(f"loss {total / len(pairs):.4f}")
    state = {"model": model.state_dict(), "optimizer": optimiser.state_dict(), "epoch": config.epochs}
    torch.save(state, config.folder / ENCODER)


def probe(config: Config, device: torch.device) -> None:
    """A linear classifier on the frozen encoder; leaves top-1 in percent of the test images in ``probe.json``."""
    cropped = transforms.RandomResizedCrop(config.crop, scale=CROP_SCALE)
    random_view = transforms.Compose([cropped, transforms.RandomHorizontalFlip(), *to_normalised()])
    whole = transforms.Compose([transforms.Resize(config.crop), transforms.CenterCrop(config.crop), *to_normalised()])
    real, tests = (RealPictures(config, *how) for how in (("train", random_view), ("test", whole)))
    batches, test_batches = loader(real, config, shuffle=True), loader(tests, config, shuffle=False)
    model = Model(config.arch).to(device)
    model.load_state_dict(torch.load(config.folder / ENCODER, map_location=device, weights_only=True)["model"])
    encoder = model.eval().encoder
    head = nn.Linear(model.head[0].in_features, len(real.data.classes)).to(device)
    optimiser = torch.optim.SGD(head.parameters(), lr=PROBE_LR, momentum=MOMENTUM, weight_decay=0)
    scores = []
    for _ in begun(config.probe_epochs, optimiser, PROBE_LR, PROBE_FLOOR):
        correct = 0.0
        for features, labels in encoded(encoder, batches, device):
            logits = head(features)
            loss = F.cross_entropy(logits, labels)
            correct += (logits.argmax(dim=1) == labels).sum().item()  # read at every step, as a meter does
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            right = sum((head(x).argmax(dim=1) == y).sum().item() for x, y in encoded(encoder, test_batches, device))
        scores.append(100 * right / len(tests))
        click.echo(f"top-1 {100 * correct / len(real):.2f} in training, {scores[-1]:.2f}")
    (config.folder / PROBE).write_text(json.dumps({"last": scores[-1], "best": max(scores)}))


def encoded(encoder: nn.Module, batches: Iterable[Any], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Features and labels of each batch."""
    for images, labels in batches:
        with torch.no_grad():
            features = encoder(images.to(device, non_blocking=True))
        yield features, labels.to(device, non_blocking=True)


STAGES = {"generate": generate, "train": train, "probe": probe}
OPTIONS = [
    click.Option(["--" + f.name.replace("_", "-")], default=f.default, show_default=True) for f in fields(Config)[1:]
]


@click.command(params=OPTIONS)
@click.argument("stage", type=click.Choice(list(STAGES)))
@click.option("--folder", required=True, type=click.Path(path_type=Path), help="Of all that stages leave.")
def main(stage: str, **options: Any) -> None:
    """A stage of the original way."""
    config = Config(**options)
    config.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.seed)
    torch.backends.cudnn.benchmark = True
    STAGES[stage](config, torch.device(config.device))


if __name__ == "__main__":
    main()
