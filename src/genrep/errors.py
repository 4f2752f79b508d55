"""Every error that a user can cause, under one base class.

GenRepError
  x RecipeError         a recipe, view string or generator name that cannot be resolved
  x WeightsError        a weights file that is missing, damaged, or of another kind than named
  x GeneratorError      a generator that raised, or returned something that is no image
  x DatasetError        a dataset folder that is missing, unfinished or damaged
    + ManifestError     a manifest.json that is not what docs/format.md describes
  x ResumeError         an output folder that belongs to another recipe, run or process
  x DataError           real images that are missing or cannot be read
  x TrainingError       a training run that cannot go on (NaN loss, collapse)

Commands print ``str(error)`` as one line on stderr and exit with status 1. Messages name the option or file, what was
found, and what was wanted.
"""


class GenRepError(Exception):
    """Base class: anything a user can mend."""


class RecipeError(GenRepError):
    """A recipe, a view string or a generator's name cannot be resolved."""


class WeightsError(GenRepError):
    """A weights file is missing, damaged, or not of the family that was named."""


class GeneratorError(GenRepError):
    """A generator raised or returned something other than finite images of the promised shape."""


class DatasetError(GenRepError):
    """A dataset folder is missing, unfinished or damaged."""


class ManifestError(DatasetError):
    """A manifest.json is not what docs/format.md describes."""


class ResumeError(GenRepError):
    """An output folder belongs to another recipe, to another run, or to a process still at work."""


class DataError(GenRepError):
    """Real images are missing or cannot be read."""


class TrainingError(GenRepError):
    """A training run cannot go on: a loss that is not finite, or a collapsed representation."""
