"""A dataset as one page to look at: pairs, classes, distances, facts, and how to load it; nothing besides the page is needed.

>>> from genrep import datasets_manifest
>>> from genrep.datasets_manifest.browsing import BrowseConfig
>>> datasets_manifest.browse(BrowseConfig(source="shards", out=Path("page.html"))).pairs
300
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from genrep.errors import ConfigError, ResumeError
from genrep.files import require_writable, size_text, write_atomic
from genrep.settings import config, setting

from ..manifest import Manifest, dataset_folder
from ..transport import Limits, is_address
from ..verify import refuse_inside

__all__ = ["BrowseConfig", "BrowseReport", "browse"]

ROOM = 400_000  # bytes of a page beside its pictures, about


@config
class BrowseConfig:
    """What to look at, and what becomes of it."""

    source: str = setting(argument=True, metavar="DIR|URL")
    out: Path | None = setting(default=None, metavar="FILE.html", help="HTML file to write.")
    samples: int = setting(
        default=300, least=1, most=20_000, metavar="N", help="Pairs to show, spread evenly over all indices."
    )
    megabytes: float = setting(
        default=3.0,
        least=1,
        most=500,
        metavar="MB",
        help="Largest size of the page; pictures are made smaller until it fits.",
    )
    partial: bool = setting(default=False, help="Accept a dataset with shards missing.")
    force: bool = setting(default=False, help="Replace FILE.html if it exists.")
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class BrowseReport:
    """A page, and what it shows."""

    page: bytes
    manifest: Manifest
    pairs: int  # that are shown
    side: int  # pixels of the longer side of the largest picture
    shards: int  # that were opened
    fetched: int  # bytes, of a dataset at an address


def browse(config: BrowseConfig) -> BrowseReport:
    """Make a page of a dataset, and write it where ``out`` says so.

    The page is a function of the dataset and the settings alone. Of a dataset at an address only parts of some shards are
    fetched: their tables and the samples that are shown.

    Raises:
        DatasetError: no finished dataset, a damaged one, or one of which too much would have to be fetched.
        ResumeError: ``out`` is there already, lies in the dataset, or cannot be written.
        ConfigError: so many pairs do not go into a page of that size.
    """
    from .gather import gather
    from .page import page
    from .pictures import LEAST, fitted

    if config.out is not None:
        _refuse(config, config.out)
    found = gather(config.source, config.samples, partial=config.partial, limits=config.limits)
    budget = int(config.megabytes * 1e6) - ROOM
    sheets = fitted([pair.images for pair in found.pairs], budget)
    if sheets is None:
        raise ConfigError.naming(
            "{samples} {}: their pictures take more than {} even at {} pixels; wanted fewer, or more {megabytes}",
            len(found.pairs),
            size_text(budget),
            LEAST,
        )
    made = page(found, sheets)
    if config.out is not None:
        write_atomic(config.out, made)
    return BrowseReport(
        page=made,
        manifest=found.manifest,
        pairs=len(found.pairs),
        side=sheets.side,
        shards=found.shards,
        fetched=found.fetched,
    )


def _refuse(config: BrowseConfig, out: Path) -> None:
    """Look at where the page is to go before anything is read."""
    if out.is_dir():
        raise ResumeError.naming("{out} {}: a folder; wanted a file", out)
    if os.path.lexists(out) and not config.force:
        raise ResumeError.naming("{out} {}: exists; wanted a new file, or {force} to replace it", out)
    if not is_address(config.source):
        refuse_inside(out, dataset_folder(config.source), itself=True)
    if not out.parent.exists():
        raise ResumeError.naming("{out} {}: {} is not there; wanted a folder that is", out, out.parent)
    require_writable(out.parent)
