"""Features do not depend on the batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from genrep.encoders import load_encoder
from genrep.evaluate.features import extract_features

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


def test_are_the_encoders_in_evaluation_mode(encoder: Path) -> None:
    loaded = load_encoder(encoder)
    x = torch.from_numpy(PIXELS).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        wanted = loaded.module((x - 0.5) / 0.25)
    loaded.module.train()
    found = extract_features(loaded.module, loaded.facts, PIXELS, CPU)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
