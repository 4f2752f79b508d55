"""Sources of samples by index range, and generators to train through.

base.py      what a source is
pairs.py     pairs of a generator; filtered.py: pairs that a filter keeps
open.py      a build's source, put together
real.py      real images
online.py    pairs made while an encoder trains
decoder.py   a generator with gradients
"""
