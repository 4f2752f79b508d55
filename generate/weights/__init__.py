"""From a recipe's or a user's weights to a generator ready to run.

locate.py      where weights are; download.py fetches those that are missing
archive.py     unpacks what is packed
conversion.py  any format to a checkpoint, once, and keeps it
load.py        a checkpoint to a generator
cache.py       the folders of the cache, and the facts beside a file: its origin and licence
"""
