"""How good a generator of small images is, beside real ones.

config.py      settings of measure-gan
classifier.py  the network whose features are compared
distances.py   Fréchet distance, precision, recall, density, coverage
measure.py     measure-gan
"""
