"""The model folder of a recipe: on this machine, in the package, or fetched file by file from the first address that has it.

A recipe with addresses states the sha256 of every file in its table [files]. What an address serves otherwise is refused and
the next one is asked, so that a model that its publisher takes down, or changes, is the same from a mirror.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.datasets_manifest.transport.hub import hub_endpoint, hub_headers
from genrep.errors import RecipeError, WeightsError
from genrep.files import digest_json, user_path
from genrep.net import Lost, Refused, shown
from genrep.untrusted import one_line, printable

from .cache import PACKAGE, describe_folder, digest_file, make_folder, shipped, weights_folder, writable
from .download import download, is_url

if TYPE_CHECKING:
    from ..recipes.recipe import Recipe

INDEX = "model_index.json"
_HUB = re.compile(r"hf://([\w.-]+/[\w.-]+)@([0-9a-f]{40})((?:/[\w.-]+)*)/?", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class LocatedFolder:
    """A model folder that is on this machine."""

    path: Path
    only: tuple[str, ...] | None = None  # the files whose sha256 was checked, which alone may be read; None: all
    facts: dict[str, Any] = field(default_factory=dict)  # source, licence, files


def is_model_folder(path: Path) -> bool:
    """Whether a path is a folder with an index of a pipeline."""
    return os.path.isfile(path / INDEX)


def locate_folder(recipe: Recipe, weights: str | Path | None = None, out: Path | None = None) -> LocatedFolder:
    """The model folder of a recipe, or ``weights`` (a folder or an address) in its place; fetches what is not there.

    Args:
        out: where to put what is fetched; None = the cache.

    Raises:
        RecipeError: the recipe's addresses or files are not of a known form.
        WeightsError: there is no folder, no address has the files, or a file differs from its sha256.
    """
    addresses = _addresses(recipe, weights)
    if not addresses:
        hint = f" ({recipe.source})" if recipe.source else ""
        raise WeightsError.naming("recipe {}: no weights ship with it; give {weights} DIR{}", recipe.name, hint)
    remote = [address for address in addresses if _is_remote(address)]
    if remote and INDEX not in recipe.files:
        raise RecipeError(
            f"recipe {recipe.name}: {shown(remote[0])} is an address; wanted a table [files] with the sha256 of every "
            f"file, {INDEX} among them"
        )
    reasons = {}
    for address in addresses:
        if not _is_remote(address):
            try:
                return _local(recipe, address)
            except WeightsError as error:
                if len(addresses) == 1:
                    raise
                reasons[address] = one_line(str(error))
    return _Fetch(recipe, remote, reasons, out).run()


def _addresses(recipe: Recipe, weights: str | Path | None) -> list[str]:
    if weights is not None:
        return [os.fspath(weights)]
    return [*([recipe.weights] if recipe.weights is not None else []), *recipe.addresses]


def _is_remote(address: str) -> bool:
    return is_url(address) or address.startswith("hf://")


def _local(recipe: Recipe, address: str) -> LocatedFolder:
    """A folder of the user's own, beside the recipe's file, or in the package."""
    path = shipped(address, recipe.name, "folder") or (recipe.folder or Path()) / user_path(address)
    if not os.path.isdir(path):
        found = "a file" if os.path.exists(path) else "no such folder"
        raise WeightsError(f"weights {printable(str(path))}: {found}; wanted a model folder of diffusers")
    for name, sha256 in recipe.files.items():
        if not os.path.isfile(path / name):
            raise WeightsError(f"weights {printable(str(path))}/{name}: missing (wanted by recipe {recipe.name})")
        if (found := digest_file(path / name)) != sha256:
            raise WeightsError(
                f"weights {printable(str(path))}/{name}: has sha256 {found}, recipe {recipe.name} wants {sha256}"
            )
    known = bool(recipe.files) or address.startswith(PACKAGE)
    facts = _facts(recipe, address) if known else describe_folder(path)
    return LocatedFolder(path=path, only=tuple(recipe.files) or None, facts=facts)


def _facts(recipe: Recipe, source: str) -> dict[str, Any]:
    facts: dict[str, Any] = {"source": source, "licence": recipe.licence}
    return {**facts, "files": dict(recipe.files)} if recipe.files else facts


class _Fetch:
    """The files of a recipe on their way into a folder."""

    def __init__(self, recipe: Recipe, addresses: Sequence[str], reasons: dict[str, str], out: Path | None) -> None:
        self.recipe, self.addresses, self.reasons = recipe, list(addresses), reasons
        for address in self.addresses:
            file_address(address, INDEX)  # refuses what is no address before anything is fetched
        key = digest_json(recipe.files)[:16]  # other files, other folder
        self.folder = weights_folder(recipe.name) / key if out is None else out
        self.own = out is not None

    def run(self) -> LocatedFolder:
        """Fetch what is not there. Raises WeightsError."""
        source = None
        for name, sha256 in self.recipe.files.items():
            path = self.folder / name
            if not os.path.isfile(path):
                source = self._one(name, sha256)
            elif (found := digest_file(path)) != sha256:
                raise WeightsError(f"weights {path}: has sha256 {found}, the recipe states {sha256}; remove it")
        facts = _facts(self.recipe, source or self.addresses[0])
        return LocatedFolder(path=self.folder, only=tuple(self.recipe.files), facts=facts)

    def _one(self, name: str, sha256: str) -> str:
        """Fetch a file from the first address that has it, which is asked first for the next one."""
        path = self.folder / name
        self._make(path.parent)
        reasons = dict(self.reasons)
        for address in list(self.addresses):
            headers = hub_headers() if address.startswith("hf://") else None
            try:
                download(file_address(address, name), path, sha256=sha256, headers=headers)
            except WeightsError as error:
                cause = error.__context__
                known = isinstance(cause, (Refused, Lost))
                reasons[address] = one_line(str(cause)) if known else _without_path(str(error), path)
                continue
            self.addresses.sort(key=lambda one: one != address)
            return address
        told = "; ".join(f"{shown(address)} ({reason})" for address, reason in reasons.items())
        raise WeightsError(f"recipe {self.recipe.name}: no address has {name} with sha256 {sha256}: {told}")

    def _make(self, folder: Path) -> None:
        if not self.own:
            writable(folder)
        elif (reason := make_folder(folder)) is not None:
            raise WeightsError.naming("{out} {}: cannot be written ({})", folder, reason)


def _without_path(text: str, path: Path) -> str:
    return one_line(text.removeprefix(f"weights {path}: "))


def file_address(address: str, name: str) -> str:
    """The http(s) address of a file of a model. Raises RecipeError for a hub address without a revision of 40 digits."""
    if is_url(address):
        return f"{address.rstrip('/')}/{name}"
    found = _HUB.fullmatch(address)
    if found is None or ".." in address:
        raise RecipeError(
            f"{shown(address)}: wanted hf://ORG/NAME@REVISION, the revision as 40 hex digits: a branch may move"
        )
    return f"{hub_endpoint()}/{found[1]}/resolve/{found[2]}{found[3]}/{name}"
