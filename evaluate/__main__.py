"""``python -m genrep.evaluate``: the protocols of ``genrep-evaluate``."""

from .cli import main

if __name__ == "__main__":
    main()
