"""genrep: pretrained image generators as datasets, and datasets as visual representations."""

__version__ = "0.1.0"
