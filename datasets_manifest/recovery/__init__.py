"""Compare, repair and rebuild datasets.

compare.py  how much two datasets are the same (../fingerprints.py: of two devices)
repair.py   bad and missing shards, made or fetched again
rebuild.py  a whole dataset, made again
examine.py  files, signature, and a sample made again

Shards are regenerated through ``genrep.across``: nothing here imports a generator.
"""
