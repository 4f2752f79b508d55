"""What becomes of a dataset elsewhere: compared, mended, made again.

compare.py  how much two datasets are the same (../fingerprints.py: of two devices)
repair.py   bad and missing shards, made or fetched again
rebuild.py  a whole dataset, made again
examine.py  files, signature, and a sample made again

What is made again comes through ``genrep.across``: nothing here knows a generator.
"""
