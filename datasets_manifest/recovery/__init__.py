"""What becomes of a dataset elsewhere: compared, mended, made again.

fingerprints.py (a shard's images in 2 KB) -> compare.py (how much two datasets are the same) -> repair.py, rebuild.py,
examine.py. What is made again comes through ``genrep.across``: nothing here knows a generator.
"""
