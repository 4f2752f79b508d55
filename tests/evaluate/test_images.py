"""Images are decoded a few batches ahead and no more, in order, by any number of threads; views follow their law."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genrep.encoders import EncoderFacts
from genrep.errors import DataError
from genrep.evaluate.images import AHEAD, AugmentedBatches, decoded, whole_batches
from genrep.evaluate.linear.scores import Tally
from genrep.evaluate.transforms import Augmentation, Pixels, Transform
from genrep.images.labelled import LabelledImages
from genrep.images.sets import load_pair

FACTS = EncoderFacts(arch="resnet18", stem="imagenet", size=16, mean=(0.0,) * 3, std=(1.0,) * 3)
CPU = torch.device("cpu")


def in_memory(count: int, side: int = 8) -> LabelledImages:
    pixels = np.random.RandomState(0).randint(0, 256, (count, side, side, 3)).astype(np.uint8)
    return LabelledImages("x", np.arange(count) % 2, ("a", "b"), "all", "top-1", pixels)


@pytest.mark.parametrize("workers", [1, 4])
def test_decoding_keeps_order_and_never_runs_far_ahead(workers: int) -> None:
    data, seen, lock = in_memory(400), [0], threading.Lock()

    def render(i: int) -> Pixels:
        with lock:
            seen[0] += 1
        return np.full((2, 2, 3), i % 256, dtype=np.uint8)

    batches = [np.arange(k, k + 20) for k in range(0, 400, 20)]
    for k, images in enumerate(decoded(iter(batches), render, data, workers)):
        assert images[:, 0, 0, 0].tolist() == [i % 256 for i in batches[k]]
        assert seen[0] <= 20 * (k + 1 + AHEAD)
    assert seen[0] == 400


def test_an_unreadable_image_ends_it_with_its_name(images: Path, tmp_path: Path) -> None:
    train = load_pair(str(images), None)[0]
    assert train.paths is not None
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(train.paths[0]).read_bytes()[:60])
    train.paths[20] = str(broken)
    with pytest.raises(DataError, match=r"broken.png: not a readable image"):
        list(whole_batches(train, Transform(), 8, workers=3))


def test_files_are_read_as_pillow_reads_them(images: Path) -> None:
    test = load_pair(str(images), None)[1]
    assert test.paths is not None
    found = np.concatenate(list(whole_batches(test, Transform(), 4)))
    for path, pixels in zip(test.paths, found):
        np.testing.assert_array_equal(pixels, np.asarray(Image.open(path).convert("RGB")))


def views(
    data: LabelledImages, augmentation: Augmentation, epoch: int, batch: int, seed: int = 0
) -> Iterator[torch.Tensor]:
    make = AugmentedBatches(data, augmentation, Transform(), FACTS, seed=seed, device=CPU)
    for x, labels in make(epoch, torch.arange(len(data)).split(batch)):
        assert len(x) == len(labels)
        yield from x


def test_a_view_is_a_function_of_seed_epoch_and_index() -> None:
    data, law = in_memory(10), Augmentation(scale=(0.2, 1.0), size=6)
    one, other = torch.stack(list(views(data, law, 1, 10))), torch.stack(list(views(data, law, 1, 3)))
    torch.testing.assert_close(one, other)
    assert one.shape == (10, 3, 6, 6)
    for different in (views(data, law, 2, 10), views(data, law, 1, 10, seed=1)):
        assert not torch.allclose(one, torch.stack(list(different)))


def test_files_and_memory_get_the_same_views(images: Path) -> None:
    on_disk = load_pair(str(images), None)[0]
    pixels = np.concatenate(list(whole_batches(on_disk, Transform(), 50)))
    held = LabelledImages("x", on_disk.labels, on_disk.classes, "all", "top-1", pixels)
    law = Augmentation(scale=(0.2, 1.0), size=12)
    one, other = (torch.stack(list(views(data, law, 1, 16))) for data in (on_disk, held))
    assert float((one - other).abs().max()) < 1.5 / 255 + 1e-6  # Pillow rounds to 8 bits after each direction


def test_flips_alone_flip_half_of_the_whole_images(images: Path) -> None:
    data = in_memory(200)
    assert data.pixels is not None
    plain = torch.from_numpy(data.pixels).permute(0, 3, 1, 2).float() / 255
    found = torch.stack(list(views(data, Augmentation(scale=None), 1, 64)))
    same = (found == plain).flatten(1).all(dim=1)
    flipped = (found == plain.flip(3)).flatten(1).all(dim=1)
    assert (same ^ flipped).all() and 70 < int(flipped.sum()) < 130


def test_accuracies_against_plain_loops() -> None:
    stream = np.random.RandomState(0)
    logits, labels = stream.randn(90, 2, 7), np.concatenate([stream.randint(0, 6, 70), np.zeros(20, dtype=np.int64)])
    tally = Tally(classes=7, heads=2)
    for start in range(0, 90, 40):
        tally.add(torch.from_numpy(logits[start : start + 40]), torch.from_numpy(labels[start : start + 40]))
    for g, score in enumerate(tally.scores()):
        order = np.argsort(-logits[:, g], axis=1)
        assert score.top1 == pytest.approx(100 * np.mean(order[:, 0] == labels), abs=1e-5)
        assert score.top5 == pytest.approx(100 * np.mean([y in row[:5] for row, y in zip(order, labels)]), abs=1e-5)
        wanted = 100 * np.mean([np.mean(order[labels == c, 0] == c) for c in range(6)])  # nobody has label 6
        assert score.mean_per_class == pytest.approx(wanted, abs=1e-5)
        assert score.value("mean per class") == score.mean_per_class and score.value("top-1") == score.top1
