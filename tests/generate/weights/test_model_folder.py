"""Recipes of model folders: addresses tried in order, every file with its sha256, servers that lie or move."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from folder_server import Quiet, serving

from genrep.errors import RecipeError, WeightsError
from genrep.generate.cli import cli
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.weights.load import open_generator
from genrep.generate.weights.locate import get_weights
from genrep.generate.weights.model_folder import file_address, locate_folder

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {"model_index.json": b"{}", "unet/config.json": b'{"a": 1}', "unet/weights.safetensors": b"x" * 5000}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENREP_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "home"


def write(folder: Path, **other: bytes) -> Path:
    """The files, some with other content."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(other.get(name.rpartition("/")[2].partition(".")[0], content))
    return folder


def recipe(tmp_path: Path, *addresses: str, files: dict[str, bytes] = FILES, name: str = "mine"):
    """A recipe with these addresses and the sha256 of the files."""
    lines = [f'"{file}" = "{hashlib.sha256(content).hexdigest()}"' for file, content in files.items()]
    path = tmp_path / f"{name}.toml"
    path.write_text(
        f'[generator]\nfamily = "diffusers"\nlicence = "MIT"\naddresses = {list(addresses)!r}\n\n[files]\n'.replace(
            "'", '"'
        )
        + "\n".join(lines)
    )
    return load_recipe(str(path))


def content(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES if (folder / name).exists()}


def test_files_are_fetched_into_the_cache_once(tmp_path, home):
    source = write(tmp_path / "server")
    with serving(source) as url:
        made = recipe(tmp_path, f"{url}/")
        found = locate_folder(made)
        assert content(found.path) == FILES and found.path.is_relative_to(home / "weights" / "mine")
        assert found.only == tuple(FILES) and found.facts["source"] == f"{url}/"
        assert found.facts["licence"] == "MIT" and set(found.facts["files"]) == set(FILES)
    assert locate_folder(made).path == found.path  # the server is gone
    assert not list(found.path.rglob(".*"))


def test_the_first_address_that_has_the_right_file_is_taken(tmp_path):
    lying, moved, right = (tmp_path / name for name in ("lying", "moved", "right"))
    write(lying, weights=b"y" * 5000)
    write(moved, config=b'{"a": 2}')
    (moved / "model_index.json").unlink()
    write(right)
    with serving(lying) as one, serving(moved) as two, serving(right) as three:
        found = locate_folder(recipe(tmp_path, one, two, three))
        assert content(found.path) == FILES


def test_the_refusal_names_all_addresses(tmp_path):
    lying, empty = write(tmp_path / "lying", weights=b"y" * 5000), tmp_path / "empty"
    empty.mkdir()
    with serving(lying) as one, serving(empty) as two:
        made = recipe(tmp_path, one, two, str(tmp_path / "nowhere"))
        with pytest.raises(WeightsError) as caught:
            locate_folder(made)
    message = str(caught.value)
    wanted = hashlib.sha256(FILES["unet/weights.safetensors"]).hexdigest()
    found = hashlib.sha256(b"y" * 5000).hexdigest()
    assert "\n" not in message
    assert f"recipe mine: no address has unet/weights.safetensors with sha256 {wanted}" in message
    assert one in message and f"has sha256 {found}" in message
    assert two in message and "404" in message
    assert f"{tmp_path / 'nowhere'} (weights {tmp_path / 'nowhere'}: no such folder" in message


def test_a_file_in_the_cache_that_was_changed(tmp_path):
    with serving(write(tmp_path / "server")) as url:
        made = recipe(tmp_path, url)
        found = locate_folder(made)
        (found.path / "unet/config.json").write_bytes(b"other")
        with pytest.raises(WeightsError, match=r"config.json: has sha256 .*, the recipe states .*; remove it"):
            locate_folder(made)
        (found.path / "unet/config.json").unlink()
        assert content(locate_folder(made).path) == FILES


def test_other_files_have_another_place(tmp_path):
    with serving(write(tmp_path / "server")) as url:
        first = locate_folder(recipe(tmp_path, url))
        (tmp_path / "server/unet/config.json").write_bytes(b"new")
        second = locate_folder(recipe(tmp_path, url, files={**FILES, "unet/config.json": b"new"}))
    assert first.path != second.path and content(first.path) == FILES


def test_a_local_folder_is_used_where_it_lies(tmp_path):
    folder = write(tmp_path / "local")
    found = locate_folder(recipe(tmp_path, "http://127.0.0.1:1", "local"))
    assert found.path == folder and found.only == tuple(FILES)
    (folder / "unet/config.json").write_bytes(b"other")
    made = recipe(tmp_path, "local")
    with pytest.raises(WeightsError, match=r"local/unet/config.json: has sha256 .*, recipe mine wants"):
        locate_folder(made)
    (folder / "unet/config.json").unlink()
    with pytest.raises(WeightsError, match=r"local/unet/config.json: missing \(wanted by recipe mine\)"):
        locate_folder(made)
    assert locate_folder(made, write(tmp_path / "given")).path == tmp_path / "given"
    with pytest.raises(WeightsError, match="a file; wanted a model folder"):
        locate_folder(made, tmp_path / "mine.toml")


def test_addresses_of_the_hub(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    address = f"hf://org/model@{REVISION}/sub"
    assert file_address(address, "unet/config.json").endswith(f"/org/model/resolve/{REVISION}/sub/unet/config.json")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example/")
    assert file_address(f"hf://org/model@{REVISION}", "a").startswith("http://mirror.example/org/model/resolve/")
    for wrong in ("hf://org/model", "hf://org/model@main", f"hf://org/model@{REVISION[:-1]}", f"hf://model@{REVISION}"):
        with pytest.raises(RecipeError, match=r"wanted hf://ORG/NAME@REVISION, the revision as 40 hex digits"):
            file_address(wrong, "a")


def test_the_hubs_token_goes_to_the_hub_only(tmp_path, monkeypatch):
    seen: list[tuple[str, str | None]] = []

    class Noting(Quiet):
        def do_GET(self) -> None:
            seen.append((self.path, self.headers.get("Authorization")))
            super().do_GET()

    write(tmp_path / "hub/org/model/resolve" / REVISION)
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("HF_TOKEN", "secret")
    with serving(tmp_path / "hub", handler=Noting) as hub, serving(tmp_path / "empty", handler=Noting) as other:
        monkeypatch.setenv("HF_ENDPOINT", hub)
        found = locate_folder(recipe(tmp_path, other, f"hf://org/model@{REVISION}"))
    assert content(found.path) == FILES
    assert {token for path, token in seen if path.startswith("/org/")} == {"Bearer secret"}
    assert {token for path, token in seen if not path.startswith("/org/")} == {None}


def test_addresses_need_the_files_sha256(tmp_path):
    for address in (f"hf://org/model@{REVISION}", "http://127.0.0.1:1/model"):
        with pytest.raises(
            RecipeError, match=r"wanted a table \[files\] with the sha256 of every file, model_index.json"
        ):
            locate_folder(recipe(tmp_path, address, files={}))
    made = recipe(tmp_path, "hf://org/model@main")
    with pytest.raises(RecipeError, match="the revision as 40 hex digits: a branch may move"):
        locate_folder(made)


@pytest.mark.parametrize(
    "line",
    [
        '"../out" = "' + "0" * 64 + '"',
        '"/etc/passwd" = "' + "0" * 64 + '"',
        '"a/../../b" = "' + "0" * 64 + '"',
        '".hidden" = "' + "0" * 64 + '"',
        '"a" = "123"',
        '"a" = 5',
        '"a\\u001b" = "' + "0" * 64 + '"',
    ],
)
def test_files_that_leave_the_folder_or_have_no_sha256(tmp_path, line):
    path = tmp_path / "bad.toml"
    path.write_text(f'[generator]\nfamily = "diffusers"\n\n[files]\n{line}\n')
    with pytest.raises(
        RecipeError, match=r'\[files\] .*; wanted "folder/name" = the sha256 as 64 hex digits'
    ) as caught:
        load_recipe(str(path))
    assert str(caught.value).isprintable()


def test_other_families_have_neither_addresses_nor_files(tmp_path):
    recipe(tmp_path, "somewhere")
    path = tmp_path / "mine.toml"
    path.write_text(path.read_text().replace('"diffusers"', '"stylegan2"'))
    with pytest.raises(
        RecipeError, match=r"recipe mine: addresses and \[files\] are of model folders, not of stylegan2"
    ):
        get_weights(str(path))


def test_the_command_that_fetches(tmp_path):
    with serving(write(tmp_path / "server")) as url:
        recipe(tmp_path, url)
        out = tmp_path / "out"
        result = CliRunner().invoke(cli, ["weights", str(tmp_path / "mine.toml"), "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert str(out) in result.output and content(out) == FILES
    assert get_weights(str(tmp_path / "mine.toml"), out) == out
    shutil.rmtree(out)
    with pytest.raises(WeightsError, match=r"no address has model_index\.json"):
        get_weights(str(tmp_path / "mine.toml"), out)


def test_a_folder_that_ships_is_copied_and_is_the_same_generator(tmp_path):
    pytest.importorskip("diffusers")
    out = tmp_path / "copied"
    assert get_weights("flow_fashion_cond", out) == out
    assert get_weights("flow_fashion_cond", out) == out  # again: all is there
    recipe = load_recipe("flow_fashion_cond")
    assert open_generator(recipe, out, "cpu").weights_digest == open_generator(recipe, None, "cpu").weights_digest
    (out / "model_index.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"model_index\.json: exists and differs from"):
        get_weights("flow_fashion_cond", out)
