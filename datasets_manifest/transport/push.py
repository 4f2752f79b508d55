"""``push``: publish a finished dataset folder, shards first and the manifest last."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from genrep.errors import DatasetError, ResumeError
from genrep.files import is_clutter
from genrep.net import SCHEMES, Limits, shown
from genrep.settings import config, setting

from ..manifest import MANIFEST_NAME, Manifest, dataset_folder
from ..verify import require_valid
from .pull import EXTRAS, PullConfig, jobs_setting, pull
from .stores import local_path, scheme_of


@config
class PushConfig:
    """Settings of ``genrep-manifest push``."""

    folder: Path = setting(argument=True, metavar="DIR", parse=dataset_folder)
    target: str = setting(argument=True, metavar="URL|DIR")
    jobs: int = jobs_setting()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, kw_only=True)
class PushReport:
    """The result of a push."""

    manifest: Manifest
    kept: int  # shards (files, on the Hub) that were there before
    sent: int  # bytes
    left_out: tuple[str, ...]  # files of the folder that are no part of a published dataset
    warnings: tuple[str, ...]


def push(config: PushConfig) -> PushReport:
    """Send a dataset, or resume an interrupted push. Files that are already there are not sent again.

    The folder is checked (``verify`` level quick, and the sha256 of every shard and table that is read).

    Raises:
        DatasetError: the folder is no whole dataset, or the target cannot be written; one line.
        ResumeError: another dataset is at the target, it lies inside the folder, or another process is at work there.
    """
    folder, scheme = config.folder, scheme_of(config.target)
    if scheme in SCHEMES:
        raise DatasetError(
            f"{shown(config.target)}: web servers are read only; wanted a folder, hf://, s3://, gs://, ..."
        )
    manifest = require_valid(folder, "quick")
    names = _names(folder, manifest)
    left_out = sorted({path.name for path in folder.iterdir() if not is_clutter(path.name)} - set(names))
    warnings: list[str] = []
    if scheme in ("", "file"):
        sent, kept = _to_folder(config)
    elif scheme == "hf":
        from .hub import check_advice, push_to_hub

        warnings = check_advice(manifest, len(names))
        sent, kept = push_to_hub(folder, manifest, names, config.target, config.limits)
    else:
        from .upload import push_to_store

        sent, kept = push_to_store(folder, manifest, names, config.target, jobs=config.jobs, limits=config.limits)
    return PushReport(manifest=manifest, kept=kept, sent=sent, left_out=tuple(left_out), warnings=tuple(warnings))


def _names(folder: Path, manifest: Manifest) -> list[str]:
    """The files to send, the manifest last."""
    names = [name for shard in manifest.shards for name in (shard.name, shard.record_name)]
    names = [*(table["name"] for table in manifest.tables), *names]
    return [*names, *(name for name in EXTRAS if (folder / name).exists()), MANIFEST_NAME]


def _to_folder(config: PushConfig) -> tuple[int, int]:
    """A push to a folder is a pull from one."""
    try:
        report = pull(
            PullConfig(
                source=str(config.folder.absolute()),
                out=local_path(config.target),
                jobs=config.jobs,
                limits=config.limits,
            )
        )
    except (DatasetError, ResumeError) as error:
        raise type(error)(str(error).removeprefix("out ")) from None
    return report.fetched, report.kept
