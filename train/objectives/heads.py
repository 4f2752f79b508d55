"""The multilayer perceptrons on top of an encoder."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def mlp(*widths: int, end: nn.Module | None = None) -> nn.Sequential:
    """Linear - batch norm - ReLU for every hidden layer, then Linear, then ``end``.

    A Linear has a bias only where no batch norm follows. Shape: ``(N, widths[0]) -> (N, widths[-1])``.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=end is None))
    return nn.Sequential(*layers, *([] if end is None else [end]))
