"""A dataset folder while it is being built: whose it is, and what it will hold."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrep.datasets_manifest.finish import BUILD_NAME, RECIPE_NAME
from genrep.datasets_manifest.tables import PROMPTS_NAME, SOURCES_NAME
from genrep.errors import ResumeError
from genrep.files import is_clutter, lock, locked_folder, write_json
from genrep.untrusted import read_object

from ..plans.build_plan import BuildPlan
from ..sources.real import CENSUS_NAME, UNREADABLE_NAME

BEGINNINGS = {BUILD_NAME, RECIPE_NAME, CENSUS_NAME, UNREADABLE_NAME, PROMPTS_NAME, SOURCES_NAME}
MAX_NAMED_DIFFERENCES = 5


@contextmanager
def claimed_folder(out: Path, plan: BuildPlan, *, shared: bool) -> Iterator[None]:
    """Claim ``out`` for this plan, or see that it is claimed for it, and hold its lock until the end of the block.

    ``shared``: other processes of the same build (parts, ranks) may be at work in it too. Otherwise a second run is refused;
    worker processes hold the lock as well, so that a killed run's last workers keep a new run out until they are gone.

    Raises:
        ResumeError: it holds another recipe's shards, files of something else, or a run in progress.
    """
    if not shared:
        with locked_folder(out) as descriptor:
            claim(out, plan)
            lock(descriptor, fcntl.LOCK_SH, out)
            yield
        return
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    try:
        lock(descriptor, fcntl.LOCK_SH, out)
        claim(out, plan)
        yield
    finally:
        os.close(descriptor)


def claim(folder: Path, plan: BuildPlan) -> None:
    """Write the plan into an empty folder, or find it there. Raises ResumeError as ``claimed_folder``."""
    path = folder / RECIPE_NAME
    if not path.exists():
        refuse_strangers(folder)
        for table in plan.tables:
            table.write(folder)
        build = {"fields": plan.fields, "classes": list(plan.classes), "facts": plan.facts}
        write_json(folder / BUILD_NAME, build, shared=True)  # other parts may be claiming it now, with the same content
        write_json(path, plan.recipe, shared=True)
        return
    found = read_object(path, ResumeError)
    if found != plan.recipe:
        raise ResumeError.naming(
            "{out} {}: holds another dataset ({}); give the same settings, or another {out}",
            folder,
            differences(found, plan.recipe),
        )


def claimed_plan(folder: Path, plan: BuildPlan) -> BuildPlan:
    """The plan with the page size that the folder was begun with: an earlier version chose another for small shards."""
    begun = json.loads((folder / BUILD_NAME).read_bytes())["facts"].get("page_size")
    facts = {key: value for key, value in plan.facts.items() if key != "page_size"}
    return replace(plan, facts={**facts, **({"page_size": begun} if begun else {})})


def refuse_strangers(folder: Path) -> None:
    """Raise ResumeError if the folder holds files that no build of genrep starts from."""
    if (folder / RECIPE_NAME).exists():
        return
    others = sorted(
        entry.name for entry in folder.iterdir() if entry.name not in BEGINNINGS and not is_clutter(entry.name)
    )
    others = [name for name in others if not name.endswith(".tmp")]  # of another part that claims the folder now
    if others:
        raise ResumeError.naming(
            "{out} {}: is neither empty nor a genrep dataset (found {}); give an empty folder", folder, others[0]
        )


def differences(found: Any, wanted: Any, name: str = "") -> str:
    """Name the fields in which two recipes differ: ``views.std 0.1 there, 0.2 asked for``."""
    rows = list(_differences(found, wanted, name))
    shown = "; ".join(rows[:MAX_NAMED_DIFFERENCES])
    return shown if len(rows) <= MAX_NAMED_DIFFERENCES else f"{shown}; and {len(rows) - MAX_NAMED_DIFFERENCES} more"


def _differences(found: Any, wanted: Any, name: str) -> list[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        rows = []
        for key in sorted(found.keys() | wanted.keys()):
            rows += _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
        return rows
    return [] if found == wanted else [f"{name} {json.dumps(found)} there, {json.dumps(wanted)} asked for"]
