"""What a dataset's recipe needs besides the generator: its prompts, which lie beside its shards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from genrep.across import RegenerationConfig
from genrep.errors import DatasetError
from genrep.files import user_path

from ..manifest import Manifest, dataset_folder
from ..tables import PROMPTS_NAME, table_faults
from ..transport import fetch_tables, is_address


@contextmanager
def with_prompts(source: str | Path, manifest: Manifest, making: RegenerationConfig) -> Iterator[RegenerationConfig]:
    """``making`` with the dataset's own prompts, unless it names others or there are none.

    ``source``: the dataset's folder, its manifest's file or an address; at an address they are fetched for the time of the
    block. Raises DatasetError where they are not there, or are not the manifest's.
    """
    facts = manifest.table(PROMPTS_NAME)
    if facts is None or making.prompts is not None:
        yield making
        return
    with tempfile.TemporaryDirectory(prefix="genrep-prompts-") as temporary:
        if is_address(str(source)):
            folder = Path(temporary)
            fetch_tables(str(source), folder, [PROMPTS_NAME], manifest=manifest)
        else:
            path = user_path(source)
            folder = path.parent if path.is_file() else dataset_folder(path)
        for fault in table_faults(folder / PROMPTS_NAME, facts):
            raise DatasetError.naming(
                "{}: {}; wanted the dataset's own prompts there, or {prompts} FILE", folder / PROMPTS_NAME, fault
            )
        yield replace(making, prompts=folder / PROMPTS_NAME)
