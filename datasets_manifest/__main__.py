"""``python -m genrep.datasets_manifest`` is the command genrep-manifest."""

from .cli import main

main()
