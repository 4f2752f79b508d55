"""The options of a pipeline: what a recipe says, checked, and what the model's own defaults are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genrep.errors import RecipeError, one_of
from genrep.untrusted import shown

from .allowed import SCHEDULERS

DTYPES = ("float32", "float16", "bfloat16")
MAX_STEPS, MAX_SIDE, MAX_TEXT = 1000, 8192, 10_000


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options as they are given; None leaves the choice to the model."""

    steps: int | None = None
    guidance: float | None = None  # weight of the condition; 1 = none beyond it
    scheduler: str | None = None  # a class of diffusers, in place of the folder's
    eta: float | None = None  # noise in the steps of DDIM and TCD, 0 to 1
    height: int | None = None  # pixels
    width: int | None = None
    dtype: str = "float32"
    negative_prompt: str | None = None  # guidance leads away from it; the empty prompt by default

    def __post_init__(self) -> None:
        """Raises RecipeError."""
        _whole("steps", self.steps, MAX_STEPS)
        _whole("height", self.height, MAX_SIDE)
        _whole("width", self.width, MAX_SIDE)
        _number("guidance", self.guidance, 1000.0)
        _number("eta", self.eta, 1.0)
        if self.scheduler is not None and self.scheduler not in SCHEDULERS:
            raise RecipeError(f"scheduler = {shown(self.scheduler)}; known: {one_of(self.scheduler, SCHEDULERS)}")
        if self.dtype not in DTYPES:
            raise RecipeError(f"dtype = {shown(self.dtype)}; known: {one_of(self.dtype, DTYPES)}")
        text = self.negative_prompt
        if text is not None and not (isinstance(text, str) and len(text) <= MAX_TEXT):
            raise RecipeError(f"negative_prompt = {shown(text)}; wanted a text of at most {MAX_TEXT:,} characters")

    def refuse(self, name: str, reason: str) -> None:
        """Raise RecipeError if the option ``name`` is given, which the model has no use for."""
        if (value := getattr(self, name)) is not None:
            raise RecipeError(f"{name} = {shown(value)}: {reason}; leave it out")


def _whole(name: str, value: Any, most: int) -> None:
    if value is not None and not (type(value) is int and 1 <= value <= most):
        raise RecipeError(f"{name} = {shown(value)}; wanted a whole number from 1 to {most}")


def _number(name: str, value: Any, most: float) -> None:
    if value is not None and not (type(value) in (int, float) and 0 <= value <= most):
        raise RecipeError(f"{name} = {shown(value)}; wanted a number from 0 to {most:g}")


OPTIONS = frozenset(Options.__dataclass_fields__)
