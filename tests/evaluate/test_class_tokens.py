"""The class tokens of the last blocks and the mean of the patches are what DINOv2's linear probes read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genrep.encoders import build_encoder, load_encoder
from genrep.encoders.loaded import random_encoder
from genrep.errors import WeightsError
from genrep.features import FrozenEncoder, feature_batches

GOLDEN = Path(__file__).parents[1] / "goldens/losses/dinov2_linear_features/reg2_depth4.pt"
CPU = torch.device("cpu")


def test_are_those_of_the_authors_code(tmp_path: Path) -> None:
    """With registers between the class token and the patches, layer scale, and the last norm after each block."""
    golden = torch.load(GOLDEN, weights_only=True)
    weights = {
        name.removeprefix("param/vit/"): value for name, value in golden.items() if name.startswith("param/vit/")
    }
    torch.save(weights, tmp_path / "dinov2.pth")
    encoder = load_encoder(tmp_path / "dinov2.pth", heads=4, size=24).module
    with torch.no_grad():
        found = encoder.class_tokens(golden["in/images"], 4)
        one = encoder.class_tokens(golden["in/images"], 1)
    torch.testing.assert_close(found, golden["out/feat_n4_avgpool1"], atol=5e-5, rtol=0)
    torch.testing.assert_close(found[:, :128], golden["out/feat_n4_avgpool0"], atol=5e-5, rtol=0)
    torch.testing.assert_close(one, golden["out/feat_n1_avgpool1"], atol=5e-5, rtol=0)
    assert torch.equal(found[:, 96:], one)  # so a part of the columns is the probe of fewer blocks


def test_do_not_depend_on_the_batch() -> None:
    loaded = random_encoder(
        "vit_tiny_patch16_224:width=32,depth=2,heads=2", "patch", 0, model={"patch_size": 8}, size=16
    )
    pixels = np.random.RandomState(0).randint(0, 256, (11, 16, 16, 3)).astype(np.uint8)

    def features(size: int) -> torch.Tensor:
        parts = (pixels[start : start + size] for start in range(0, 11, size))
        return torch.cat(list(feature_batches(loaded.module, loaded.facts, parts, CPU, batch_size=size, blocks=2)))

    assert features(4).shape == (11, 96)
    torch.testing.assert_close(features(4), features(11), atol=1e-5, rtol=1e-5)


def test_what_has_no_class_token_or_too_few_blocks_is_refused() -> None:
    resnet = random_encoder("resnet18", "cifar", 0)
    frozen = FrozenEncoder(resnet.module, resnet.facts, CPU, 2, blocks=1)
    with pytest.raises(WeightsError, match="ResNet: has no class token; wanted a vision transformer that has one"):
        frozen(np.zeros((2, 8, 8, 3), np.uint8))
    shallow = build_encoder(
        "vit_tiny_patch16_224:width=32,depth=2,heads=2", "patch", 0, size=16, model={"patch_size": 8}
    )
    with pytest.raises(WeightsError, match="class tokens of the last 4 blocks: this transformer has 2"):
        shallow.class_tokens(torch.zeros(1, 3, 16, 16), 4)
