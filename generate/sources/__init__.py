"""Samples of an index range: pairs of a generator, pairs that a filter keeps, real images, pairs made online."""
