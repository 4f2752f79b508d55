"""``python -m genrep.train``: the same as ``genrep-train``, for torchrun."""

from .cli import main

if __name__ == "__main__":
    main()
