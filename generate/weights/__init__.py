"""From a recipe's or a user's weights to a generator ready to run.

locate.py      where they are; download.py gets what is not there
archive.py     unpacks what is packed
conversion.py  any format to a checkpoint, once, and keeps it
load.py        a checkpoint to a generator
cache.py       the folders of all that, and the facts beside a file: whence it is
"""
