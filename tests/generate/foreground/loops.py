"""The definitions of GenView's foreground, as plain loops over patches of a map that torchvision's layers make."""

import math

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from genrep.encoders import build_encoder


class Loops:
    """Reads a file of ``fit-foreground`` for itself, one of the small encoder."""

    def __init__(self, path):
        found = load_file(path)
        self.mean, self.direction = found["mean"].double().numpy(), found["direction"].double().numpy()
        self.threshold = float(found["threshold"])
        encoder = build_encoder("resnet18", "cifar", 0)
        encoder.load_state_dict({name[8:]: value for name, value in found.items() if name.startswith("encoder.")})
        self.layers = nn.Sequential(*list(encoder.children())[:-2]).eval()

    @torch.no_grad()
    def features(self, image):
        """A row for each patch of an image of 32 pixels, normalised as its encoder says."""
        pixels = (torch.from_numpy(np.array(image)).float() / 255 - 0.1) / 0.25
        return self.layers(pixels.permute(2, 0, 1)[None])[0].flatten(1).T.double().numpy()

    def projections(self, image):
        return [
            sum((value - mean) * part for value, mean, part in zip(row, self.mean, self.direction))
            for row in self.features(image)
        ]

    def ratio(self, image):
        values = self.projections(image)
        return sum(value > self.threshold for value in values) / len(values)

    def level(self, image):
        ratio = self.ratio(image)
        return 0 if ratio < 0.2 else 100 if ratio < 0.4 else 200 if ratio < 0.6 else 300 if ratio < 0.8 else 400

    def pooled(self, image):
        values, rows = self.projections(image), self.features(image)
        low, high = min(values), max(values)
        front = [(value - low) / (high - low) for value in values]
        back = [1 - value for value in front]
        return [sum(w * row for w, row in zip(weights, rows)) / sum(weights) for weights in (front, back)]

    def quality(self, anchor, positive):
        front, back = (
            [a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)][0] for a, b in zip(self.pooled(anchor), self.pooled(positive))
        )
        return front - back
