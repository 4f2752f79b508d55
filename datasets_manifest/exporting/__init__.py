"""Datasets in other formats, for users without FFCV.

>>> from genrep.datasets_manifest.exporting import ExportConfig, export
>>> export(ExportConfig(folder=Path("shards"), format="webdataset", out=Path("tars"))).files
4
"""

from __future__ import annotations

from .run import FORMATS, ExportConfig, ExportReport, export

__all__ = ["FORMATS", "ExportConfig", "ExportReport", "export"]
