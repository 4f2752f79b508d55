"""The learning rate as a pure function of the step."""

from __future__ import annotations

import math

FLOOR = 1e-3  # the cosine ends at this part of the rate (GenRep, COP-Gen: decay rate 0.1, cubed)


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Linear warm-up to ``peak`` over ``warmup_steps``, then half a cosine down to ``peak · FLOOR`` at the end.

    >>> [round(learning_rate(s, peak=1.0, warmup_steps=2, total_steps=6), 3) for s in range(6)]
    [0.5, 1.0, 1.0, 0.854, 0.501, 0.147]
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    floor = peak * FLOOR
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
