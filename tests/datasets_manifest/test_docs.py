"""docs/format.md speaks of what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path

from genrep.datasets_manifest import catalogue, read_manifest, schema, strict_json, tables, verify
from genrep.datasets_manifest.recovery import compare

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text()


def test_the_example_is_a_manifest(tmp_path: Path) -> None:
    example = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert example is not None
    (tmp_path / "manifest.json").write_text(example[1])
    manifest = read_manifest(tmp_path)
    assert manifest.num_pairs == 10_000
    assert json.loads(example[1]) == manifest.to_json()


def test_every_key_and_level_is_described() -> None:
    keys = (
        *schema.TOP_KEYS,
        schema.TABLES_KEY,
        schema.LATENTS_STORED,
        *schema.TABLE_KEYS,
        *schema.TABLES,
        *schema.SHARD_KEYS,
        *schema.RECIPE_KEYS,
        *schema.FINGERPRINT_KEYS,
        *catalogue.KEYS,
    )
    for name in (*keys, *verify.LEVELS, *compare.SAMENESS[:3]):
        assert f"`{name}`" in PAGE, name
    assert f"at most {schema.MAX_SHARDS:,} of them" in PAGE
    assert f"at most {strict_json.MAX_DEPTH} levels deep" in PAGE
    assert f"at most {schema.MAX_SIDE} pixels a side" in PAGE
    assert f"at most {schema.MAX_TABLE_ROWS:,} rows and {schema.MAX_TABLE_BYTES >> 30} GiB" in PAGE
    assert f"a line at most {tables.MAX_LINE >> 10} KiB" in PAGE
    assert f"1 to {tables.MAX_PROMPT:,} characters, a group at most {tables.MAX_GROUP}" in PAGE
    for name in ("label", "index", "row", "prompt", "source", "weight", "strength", "noise_level"):
        assert f"| `{name}`" in PAGE, name


def test_the_rows_shown_are_rows(tmp_path: Path) -> None:
    shown = re.findall(r'^\{"(?:group|prompt)":.*\}$', PAGE, re.MULTILINE)
    (tmp_path / "prompts.jsonl").write_text("".join(f"{line}\n" for line in shown))
    assert list(tables.Prompts(tmp_path / "prompts.jsonl")) == ["a photo of a cat", "a street at night"]
