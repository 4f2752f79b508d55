"""What a fit's generator must be, told before anything is trained."""

import importlib.resources

import pytest
import torch

from genrep.errors import RecipeError
from genrep.generate.fits.frozen import open_frozen


def test_weights_of_another_size_than_the_recipes_are_refused_before_training():
    weights = importlib.resources.files("genrep.generate.weights") / "stylegan2_fashion.safetensors"
    with pytest.raises(RecipeError, match=r"crop \[64, 0, 384, 512\] does not lie inside 32x32"):
        open_frozen("stylegan2_car", str(weights), torch.device("cpu"))
