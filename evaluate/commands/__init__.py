"""The commands of ``genrep-evaluate``, one module each."""
