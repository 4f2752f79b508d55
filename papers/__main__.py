"""``python -m genrep.papers``: the same as ``genrep-evaluate``."""

from .cli import main

if __name__ == "__main__":
    main()
