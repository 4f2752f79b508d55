"""Pipelines with which FFCV's own ``Loader`` reads our shards. The only module that imports ffcv."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genrep.datasets_manifest import Manifest, read_manifest
from genrep.datasets_manifest.beton import check_beton
from genrep.datasets_manifest.layout import in_beton, largest_shape, not_stored, varies
from genrep.errors import DatasetError, one_of
from genrep.extras import install


def ffcv_pipelines(
    folder: str | Path, *, fields: Sequence[str] | None = None, size: tuple[int, int] | None = None
) -> dict[str, list[Any] | None]:
    """Pipelines for FFCV's ``Loader``, of any shard of the dataset in ``folder``: by field, decoder and transforms.

    They give what ``PairLoader`` does: images uint8 ``(B, H, W, 3)``, latents float32 ``(B, …)``, integers int64 ``(B,)``,
    other numbers float32 ``(B,)``. Latents that are not stored are in no file, and so not among the pipelines. Append
    transforms of your own. A ``Loader`` knows one file: call this once for each, since FFCV's operations belong to one.

    FFCV trusts a file's tables and reads outside of memory where they lie: those of all shards in the folder are checked here.
    Its decoder uses the fast DCT, so that a JPEG's pixels are some levels off ``PairLoader``'s.

    Args:
        fields: those to read; the others become None, which FFCV skips. None: all.
        size: (height, width) to which images are brought, the largest square of their centre. For sets whose images vary in
            size; of other sets images stay as they are stored.

    Raises:
        DatasetError: FFCV is not installed; the dataset is unfinished or damaged, lacks a field or does not store it, or varies
            and has no ``size``.
    """
    try:
        from ffcv.fields.basics import FloatDecoder
        from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, NDArrayDecoder, SimpleRGBImageDecoder
        from ffcv.transforms import Convert, Squeeze, ToTensor
    except ImportError as error:
        raise DatasetError(
            f"FFCV's Loader needs ffcv ({error}): {install('ffcv')}; PairLoader reads the same shards without"
        ) from None
    manifest = read_manifest(Path(folder))
    known = {field["name"]: field for field in in_beton(manifest.fields)}
    _check_known(folder, manifest, fields or ())
    for shard in manifest.shards:
        if (path := Path(folder) / shard.name).exists():
            check_beton(path, manifest.fields, shard.count, shard.first_index)

    def pipeline(field: dict[str, Any]) -> list[Any]:
        if field["kind"] == "int":
            return [IntDecoder(), ToTensor(), Squeeze(1)]
        if field["kind"] == "float":
            import torch

            return [FloatDecoder(), ToTensor(), Convert(torch.float32), Squeeze(1)]
        if field["kind"] == "float32":
            return [NDArrayDecoder(), ToTensor()]
        if not varies(field):
            return [SimpleRGBImageDecoder(), ToTensor()]
        if size is None:
            height, width, _ = largest_shape(field)
            raise DatasetError(f"{folder}: images vary in size, up to {height} x {width}; give size=(height, width)")
        return [CenterCropRGBImageDecoder(size, 1.0), ToTensor()]

    return {name: pipeline(field) if fields is None or name in fields else None for name, field in known.items()}


def _check_known(folder: str | Path, manifest: Manifest, names: Sequence[str]) -> None:
    known = [field["name"] for field in in_beton(manifest.fields)]
    made_again = [field["name"] for field in not_stored(manifest.fields)]
    for name in names:
        if name in made_again:
            raise DatasetError(f"{folder}: the field {name!r} is not stored; PairLoader makes it again")
        if name not in known:
            raise DatasetError(f"{folder}: no field {name!r}; it has {one_of(name, known)}")
