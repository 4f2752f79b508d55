"""The papers' views by name; each stands in the recipe in full."""

from __future__ import annotations

from typing import Any


def _gaussian(std: float, truncation: float | None = 2.0) -> dict[str, Any]:
    """N^t(0, std); None: not truncated."""
    return {"name": "gaussian", "std": std, "truncation": truncation}


PRESETS: dict[str, dict[str, Any]] = {
    # GenRep: BigBiGAN's best deviation, BigGAN-deep's, and what its scripts do to StyleGAN2's cars and call angular.
    "genrep-gaussian": _gaussian(0.2),
    "genrep-gaussian-conditional": _gaussian(1.0),
    "genrep-gaussian-car": _gaussian(0.25, None),
    "genrep-angular": {"name": "angular", "std": 1.0, "law": "sum"},
    # HL, hierarchical latents: its paper's numbers, which its released configuration has otherwise.
    "hl-random-bigbigan": {
        "name": "hierarchical",
        "over": "chunks",
        "parts": [{"chunks": "0", "view": None}, {"chunks": "1-5", "view": _gaussian(1.0)}],
    },
    "hl-random-bigbigan-baseline": _gaussian(0.05),
    "hl-random-stylegan2-car": {
        "name": "hierarchical",
        "over": "layers",
        "parts": [
            {"layers": "0-3", "view": _gaussian(0.3, 1.0)},
            {"layers": "4-7", "view": None},
            {"layers": "8-11", "view": _gaussian(0.8, 1.0)},
            {"layers": "12-15", "view": _gaussian(0.8, 1.0)},
        ],
    },
    "hl-random-stylegan2-car-baseline": _gaussian(0.15, 0.9),
}
