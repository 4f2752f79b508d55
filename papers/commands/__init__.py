"""The command lines of ``reproduce``, ``table`` and ``report``, verbs of ``genrep-evaluate``."""
