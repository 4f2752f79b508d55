"""Features do not depend on the batch, and a cache that is damaged is made again."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genrep.encoders import load_encoder
from genrep.errors import TrainingError, WeightsError
from genrep.evaluate.frozen import stored_features
from genrep.features import extract_features, feature_batches

PIXELS = np.random.RandomState(0).randint(0, 256, (21, 16, 16, 3)).astype(np.uint8)
CPU = torch.device("cpu")


def test_independent_of_batch_size_and_company(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    whole = extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=8)
    assert whole.shape == (21, 512)
    for batch_size in (5, 64):
        other = extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=batch_size)
        torch.testing.assert_close(other, whole, atol=1e-5, rtol=1e-5)
    part = extract_features(loaded.module, loaded.facts, PIXELS[16:], CPU, batch_size=8)
    assert torch.equal(part, whole[16:])


@pytest.mark.slow
def test_images_one_by_one_have_the_same_features(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    pairs = extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=2)
    assert torch.equal(extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=1), pairs)


def test_features_that_are_not_finite_are_refused(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    loaded.module.get_parameter("layer4.1.bn2.weight").data.fill_(3e38)
    loaded.module.get_buffer("layer4.1.bn2.running_var").zero_()
    with pytest.raises(WeightsError, match="features are not finite: the encoder has diverged"):
        extract_features(loaded.module, loaded.facts, PIXELS, CPU)


def test_are_the_encoders_in_evaluation_mode(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    x = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = loaded.module((x - 0.5) / 0.25)
    loaded.module.train()
    found = extract_features(loaded.module, loaded.facts, PIXELS, CPU)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_bfloat16_is_near_and_independent_of_company(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    whole = extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=8)
    batches = (PIXELS[:8], PIXELS[8:16], PIXELS[16:])
    half = torch.cat(list(feature_batches(loaded.module, loaded.facts, batches, CPU, batch_size=8, precision="bf16")))
    assert half.dtype == torch.float32 and not torch.equal(half, whole)
    assert (half - whole).norm() < 0.03 * whole.norm()
    (part,) = feature_batches(loaded.module, loaded.facts, [PIXELS[16:]], CPU, batch_size=8, precision="bf16")
    assert torch.equal(part, half[16:])


class Computer:
    """Yields features, and counts how often it was asked."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.calls, self.fail_after = 0, fail_after

    def __call__(self) -> Iterator[Tensor]:
        self.calls += 1
        for k in range(3):
            if k == self.fail_after:
                raise OSError("disk on fire")
            yield torch.full((4, 2), float(k))


def stored(folder: Path | None, computer: Computer, **key: int) -> Tensor:
    return stored_features(folder, {"encoder": 1, **key}, 12, computer)


def test_stored_features_are_read_again_and_belong_to_their_key(tmp_path: Path) -> None:
    computer = Computer()
    first = stored(tmp_path, computer)
    assert torch.equal(stored(tmp_path, computer), first) and computer.calls == 1
    assert first.shape == (12, 2) and first[:, 0].tolist() == [0.0] * 4 + [1.0] * 4 + [2.0] * 4
    stored(tmp_path, computer, images=2)
    assert computer.calls == 2
    assert torch.equal(stored(None, computer), first) and computer.calls == 3
    assert len(list(tmp_path.iterdir())) == 4


def test_maps_of_tokens_are_stored_as_vectors_are(tmp_path: Path) -> None:
    maps = torch.arange(5 * 7 * 3, dtype=torch.float32).view(5, 7, 3)
    for _ in range(2):
        assert torch.equal(stored_features(tmp_path, {"encoder": 1}, 5, lambda: iter(maps.split(2))), maps)


@pytest.mark.parametrize("damage", ["flip", "cut", "no record", "no data", "broken record"])
def test_damaged_features_are_made_again(tmp_path: Path, damage: str) -> None:
    computer = Computer()
    wanted = stored(tmp_path, computer).clone()
    (data,), (record,) = tmp_path.glob("*.npy"), tmp_path.glob("*.json")
    content = bytearray(data.read_bytes())
    content[-1] ^= 64
    if damage == "flip":
        data.write_bytes(content)
    elif damage == "cut":
        data.write_bytes(content[:-5])
    elif damage == "broken record":
        record.write_text("{")
    else:
        (record if damage == "no record" else data).unlink()
    assert torch.equal(stored(tmp_path, computer), wanted) and computer.calls == 2
    assert torch.equal(stored(tmp_path, computer), wanted) and computer.calls == 2


def test_an_interrupted_extraction_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="fire"):
        stored(tmp_path, Computer(fail_after=2))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            stored(tmp_path, Computer())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert Path(str(caught.value.filename)).parent == tmp_path and not list(tmp_path.iterdir())


def test_a_gpu_that_runs_out_is_one_line(encoder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_encoder(encoder)

    def too_much(x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.\nmore")

    monkeypatch.setattr(loaded.module, "forward", too_much)
    with pytest.raises(TrainingError, match=r"memory does not suffice for batches of 64 images; give a smaller batch"):
        extract_features(loaded.module, loaded.facts, PIXELS, CPU, batch_size=64)
