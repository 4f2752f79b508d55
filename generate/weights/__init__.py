"""From a recipe's or a user's weights to a generator ready to run.

locate.py      where they are; download.py gets what is not there, download_part.py keeps what came; facts.py: whence they are
archive.py     unpacks what is packed
conversion.py  any format to a checkpoint, once; converted.py keeps it
load.py        a checkpoint to a generator
cache.py       the folders of all that
"""
