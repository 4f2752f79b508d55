"""Datasets measured beside the real images that they stand for, before anyone trains on them."""
