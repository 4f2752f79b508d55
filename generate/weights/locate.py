"""From a recipe to its weights on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrep.errors import RecipeError, WeightsError
from genrep.files import file_and_network, user_path

from .cache import (
    GAN_FACTS,
    GAN_WEIGHTS,
    PACKAGE,
    cache_folder,
    describe,
    digest_file,
    make_folder,
    publish,
    read_record,
    record_path,
    shipped,
    weights_folder,
    writable,
    write_record,
)
from .download import check_digest, download, file_name, is_url
from .model_folder import LocatedFolder, locate_folder

if TYPE_CHECKING:
    from ..recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class LocatedWeights:
    """Weights that are on this machine.

    ``facts``: file, source, licence and sha256 (the last not for a folder); ``extra``, the same of each file beside it
    that was downloaded with it.
    """

    path: Path  # a file, an archive (.tar.gz) or a folder, as conversion.read_checkpoint takes them
    facts: dict[str, Any]
    network: str | None = None  # which of several in the file; None: no choice was made


def locate(recipe: Recipe, weights: str | Path | None = None) -> LocatedWeights:
    """The weights of a recipe, or ``weights`` (a file, a folder or a URL) in their place; downloads what is not there.

    A ``#`` in either is followed by the name of one of several networks in the file.

    The file must have the published sha256. Without one, that of the first use is recorded beside the download and must stay.

    Raises:
        RecipeError: the weights of the recipe are not of a known form.
        WeightsError: there are no weights, they cannot be fetched, or they differ from those recorded.
    """
    _check(recipe)
    if weights is not None:
        if is_url(weights):
            return _fetch(str(weights), weights_folder(recipe.name), sha256=None, licence="unknown")
        path, network = file_and_network(weights)
        return replace(_local(path, recipe), network=network)
    if recipe.weights is None:
        hint = f" ({recipe.source})" if recipe.source else ""
        raise WeightsError.naming("recipe {}: no weights ship with it; give {weights} FILE{}", recipe.name, hint)
    if is_url(recipe.weights):
        return _fetch_all(recipe, weights_folder(recipe.name))
    return _shipped(recipe)


def refuse_weights(recipe: Recipe, weights: str | Path | None) -> None:
    """Raise RecipeError for weights that are given to, or named by, a recipe whose family has none."""
    if weights is not None:
        raise RecipeError.naming(
            "{weights} {}: recipe {} is of the family {}, which has no weights", weights, recipe.name, recipe.family
        )
    for key, value in (("weights", recipe.weights), ("sha256", recipe.weights_sha256)):
        if value is not None:
            raise RecipeError(
                f"recipe {recipe.name}: [generator] {key} = {value!r}: the family {recipe.family} has no weights"
            )


def get_weights(name: str, out: Path | None = None) -> Path | None:
    """Put the weights of the recipe ``name`` into the folder ``out``, or into the cache; returns the file.

    None: the recipe's family has no weights, so there is nothing to fetch.

    Weights that ship with the package, or lie beside the recipe's file, are copied. Their facts are in FILE.facts.json. An
    archive stays packed: ``--weights`` accepts it as it is.

    Raises:
        RecipeError: there is no such recipe.
        WeightsError: as ``locate``; or ``out`` cannot be written, or holds another file of that name.
    """
    from ..generators.families import is_of_folders, weightless
    from ..recipes.recipe import load_recipe

    recipe = load_recipe(name)
    if is_of_folders(recipe.family):
        found = locate_folder(recipe, out=out)
        return found.path if out is None else _copy_folder(found, out)
    _check(recipe)
    if recipe.family != "module" and weightless(recipe.family):
        refuse_weights(recipe, None)
        return None
    folder = weights_folder(recipe.name) if out is None else out
    if recipe.weights is not None and is_url(recipe.weights):
        return _fetch_all(recipe, folder).path
    source = locate(recipe)
    if os.path.isdir(source.path):
        raise WeightsError(f"weights {source.path}: is a folder, wanted a file; copy the folder itself")
    path = _make(folder) / source.path.name
    if not os.path.exists(path):
        _copy(source.path, path)
    if digest_file(path) != source.facts["sha256"]:
        raise WeightsError(f"weights {path}: exists and differs from {source.path}; remove it to copy that")
    write_record(path, source=source.facts["source"], licence=source.facts["licence"])
    return path


def _copy_folder(found: LocatedFolder, out: Path) -> Path:
    """Copy the files of a model folder that is not there itself. Raises WeightsError for another file of a name."""
    names = found.only or [
        str(path.relative_to(found.path)) for path in sorted(found.path.rglob("*")) if path.is_file()
    ]
    for name in names:
        path = out / name
        _make(path.parent)
        if not os.path.exists(path):
            _copy(found.path / name, path)
        if digest_file(path) != digest_file(found.path / name):
            raise WeightsError(f"weights {path}: exists and differs from {found.path / name}; remove it to copy that")
    return out


def _check(recipe: Recipe) -> None:
    if recipe.addresses or recipe.files:
        raise RecipeError(f"recipe {recipe.name}: addresses and [files] are of model folders, not of {recipe.family}")
    texts = (recipe.weights, recipe.weights_sha256, recipe.source)
    if not all(text is None or isinstance(text, str) for text in texts):
        raise RecipeError(f"recipe {recipe.name}: [generator] weights, sha256 and source must be strings")
    if not all(is_url(url) for url in recipe.extra_weights):
        raise RecipeError(f"recipe {recipe.name}: [generator] extra_weights must be a list of http(s) addresses")
    try:
        check_digest(recipe.weights_sha256)
    except WeightsError as error:
        raise RecipeError(f"recipe {recipe.name}: [generator] {str(error).removeprefix('weights: ')}") from None


def _local(path: Path, recipe: Recipe) -> LocatedWeights:
    """Weights of the user's own."""
    if os.path.isfile(path / GAN_FACTS) and os.path.isfile(path / GAN_WEIGHTS):
        path = path / GAN_WEIGHTS
    if os.path.isdir(path):
        return LocatedWeights(path=path, facts={"source": "a local folder", "licence": "unknown"})
    if not os.path.isfile(path):
        raise WeightsError(f"weights {path}: no such file")
    facts = describe(path)
    published = check_digest(recipe.weights_sha256)
    if published and facts["sha256"].startswith(published):
        facts["licence"] = recipe.licence
    return LocatedWeights(path=path, facts=facts)


def is_embedded(recipe: Recipe) -> bool:
    """Whether a recipe's weights come with the package."""
    return str(recipe.weights).startswith(PACKAGE)


def _shipped(recipe: Recipe) -> LocatedWeights:
    """Weights in the package, or beside the recipe's file."""
    text, network = str(recipe.weights), None
    path = shipped(text, recipe.name, "file")
    if path is None:
        path, network = file_and_network((recipe.folder or Path()) / user_path(text))
    facts = {"source": text, "licence": recipe.licence}
    if os.path.isdir(path):
        return LocatedWeights(path=path, facts=facts, network=network)
    if not os.path.isfile(path):
        raise WeightsError(f"weights {path}: no such file (wanted by recipe {recipe.name})")
    facts |= {"file": path.name, "sha256": digest_file(path)}
    published = check_digest(recipe.weights_sha256)
    if published and not facts["sha256"].startswith(published):
        raise WeightsError(f"weights {path}: has sha256 {facts['sha256']}, recipe {recipe.name} wants {published}")
    return LocatedWeights(path=path, facts=facts, network=network)


def _fetch_all(recipe: Recipe, folder: Path) -> LocatedWeights:
    """The download of a recipe, with the files that belong beside it."""
    source = _fetch(str(recipe.weights), folder, sha256=recipe.weights_sha256, licence=recipe.licence)
    extra = [_fetch(url, folder, sha256=None, licence=recipe.licence).facts for url in recipe.extra_weights]
    return replace(source, facts={**source.facts, "extra": extra}) if extra else source


def _fetch(address: str, folder: Path, *, sha256: str | None, licence: str) -> LocatedWeights:
    """One file, found there or downloaded. It must be the published one or, failing that, the recorded one."""
    url, _, network = address.partition("#")
    path = folder / file_name(url)
    record = read_record(path)
    if not os.path.isfile(path):
        download(url, _make(folder) / path.name, sha256=sha256)
    found, wanted = digest_file(path), check_digest(sha256)
    if wanted and not found.startswith(wanted):
        raise WeightsError(
            f"weights {path}: has sha256 {found}, the published file {wanted}; remove it to download it from {url}"
        )
    if record and not wanted and found != record["sha256"]:
        raise WeightsError(
            f"weights {path}: has sha256 {found}, but had {record['sha256']} at its first use; remove it to download it again, "
            f"or {record_path(path).name} beside it to accept it as it is"
        )
    if record and not wanted and record["source"] != url:
        raise WeightsError(
            f"weights {path}: came from {record['source']}, but {url} is wanted; remove it and its facts"
        )
    if record is None or record != {"file": path.name, "source": url, "licence": licence, "sha256": found}:
        record = write_record(path, source=url, licence=licence)
    return LocatedWeights(path=path, facts=dict(record), network=network or None)


def _make(folder: Path) -> Path:
    """Make the folder of a download, in the cache or the user's own."""
    reason = make_folder(folder)
    if reason is None:
        return folder
    if folder.is_relative_to(cache_folder()):
        return writable(folder)  # says what to do about it
    raise WeightsError.naming("{out} {}: cannot be written ({})", folder, reason)


def _copy(source: Path, path: Path) -> None:
    try:
        publish(path, source.read_bytes())
    except OSError as error:
        raise WeightsError(f"weights {path}: cannot be written ({error.strerror})") from None
