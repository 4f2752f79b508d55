"""Weights of any format, converted once: recognised, kept, never trusted when damaged."""

import gzip
import hashlib
import io
import json
import os
import pickle
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from genrep.errors import RecipeError
from genrep.generate.generators.base import Checkpoint, save_checkpoint
from genrep.generate.weights import conversion
from genrep.generate.weights import locate as weights_module
from genrep.generate.weights.conversion import read_checkpoint

pytestmark = pytest.mark.usefixtures("toys")
PACKAGED = Path(weights_module.__file__).parent / "stylegan2_fashion.safetensors"


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "home" / "converted"


@pytest.fixture
def file(tmp_path):
    (tmp_path / "given").mkdir()
    torch.save({"g": torch.arange(6.0).reshape(2, 3).t()}, tmp_path / "given" / "net.pt")
    return tmp_path / "given" / "net.pt"


def same(a, b):
    return (
        a.family == b.family
        and a.config == b.config
        and a.tensors.keys() == b.tensors.keys()
        and a.digest() == b.digest()
    )


@pytest.mark.parametrize("family", [None, "green"])
def test_a_file_is_converted_once_and_comes_out_the_same_from_the_cache(file, cache, toys, family):
    first, facts = read_checkpoint(file, family)
    assert facts == {
        "file": "net.pt",
        "source": "a local file",
        "licence": "unknown",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    assert torch.equal(first.tensors["weight"], torch.arange(6.0).reshape(2, 3).t())
    assert [toy.asked for toy in toys] == ([[], [True]] if family else [[False], [False]])
    kept = sorted(path.suffix for path in cache.iterdir())
    assert kept == [".json", ".safetensors"]
    second, again = read_checkpoint(file, family)
    assert same(first, second) and facts == again
    assert len(toys[1].asked) == 1


def test_the_facts_of_a_conversion_are_kept(file, cache):
    checkpoint, facts = read_checkpoint(file, "green")
    kept = json.loads(next(cache.glob("*.json")).read_text())
    assert kept.items() >= {**facts, "family": "green", "config": checkpoint.config}.items()
    assert kept["inputs"]["conversion"] == conversion.CONVERSION


def test_whatever_decides_the_result_decides_the_key(file, cache, monkeypatch):
    def read(path=file, family="green"):
        read_checkpoint(path, family)
        return len(list(cache.glob("*.safetensors")))

    assert [read(), read()] == [1, 1]
    assert read(family=None) == 2
    (file.parent / "unrelated.json").write_text("{}")
    assert read() == 2
    (file.parent / "config.json").write_text('{"scale": 2}')
    assert read() == 3
    assert read_checkpoint(file, "green")[0].config["scale"] == 2
    (file.parent / "config.json").write_text('{"scale": 3}')
    assert read() == 4
    (file.parent / "state_dict_best0.pth").write_bytes(b"state")
    assert read() == 5
    torch.save({"g": torch.ones(2)}, file)
    assert read() == 6
    assert read(file.rename(file.with_name("other.pt"))) == 7
    monkeypatch.setattr(conversion, "CONVERSION", conversion.CONVERSION + 1)
    assert read(file.with_name("other.pt")) == 8


@pytest.mark.parametrize("victim", ["*.safetensors", "*.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone", "list", "deep"])
def test_a_damaged_cache_is_made_anew_and_never_used(file, cache, toys, victim, damage):
    wanted, _ = read_checkpoint(file, "green")
    path = next(cache.glob(victim))
    good = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = good[:-3] + bytes([good[-3] ^ 255]) + good[-2:]
        bad = {"flip": flipped, "cut": good[:-1], "empty": b"", "list": b"[1]", "deep": b"[" * 100_000}
        path.write_bytes(bad[damage])
    found, _ = read_checkpoint(file, "green")
    assert same(found, wanted)
    cut_json = victim == "*.json" and damage == "cut"  # it lost its last newline only
    made = 1 if cut_json else 2
    assert len(toys[1].asked) == made
    assert same(read_checkpoint(file, "green")[0], wanted)
    assert len(toys[1].asked) == made  # it is whole again


def test_without_a_cache_it_works_as_well(file, monkeypatch, toys):
    for place in ("/proc/genrep", str(file), "~nobody-of-this-name"):
        monkeypatch.setenv("GENREP_HOME", place)
        assert read_checkpoint(file, "green")[0].family == "green"
    assert len(toys[1].asked) == 3


def test_a_full_disk_costs_only_the_cache(file, cache, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("genrep.files.os.fsync", full)
    assert read_checkpoint(file, "green")[0].family == "green"
    assert list(cache.iterdir()) == []


def test_what_a_killed_process_left_is_swept(file, cache):
    (cache / ".unpacked-x" / "deep").mkdir(parents=True)
    (cache / ".unpacked-x" / "deep" / "G.pth").write_bytes(b"half")
    (cache / ".key.123.safetensors").write_bytes(b"half")
    read_checkpoint(file, "green")
    assert not list(cache.glob(".*"))


def test_only_one_of_several_converts_and_the_others_use_it(file, toys):
    real = toys[1].recognise

    def slow(*arguments, **options):
        time.sleep(0.3)
        return real(*arguments, **options)

    toys[1].recognise = slow
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_checkpoint(file, "green")[0], range(4)))
    assert len(toys[1].asked) == 1
    assert all(same(checkpoint, found[0]) for checkpoint in found)


def test_our_own_files_are_read_directly(monkeypatch, cache, refused):
    monkeypatch.undo()  # the real families
    monkeypatch.setenv("GENREP_HOME", str(cache.parent))
    for family in (None, "stylegan2"):
        checkpoint, facts = read_checkpoint(PACKAGED, family)
        assert (checkpoint.family, facts["file"]) == ("stylegan2", PACKAGED.name)
    assert not cache.exists()
    assert "this is a stylegan2 file, wanted biggan" in refused(read_checkpoint, PACKAGED, "biggan")


def test_our_own_file_of_a_family_that_nobody_knows_is_refused(tmp_path, refused):
    save_checkpoint(Checkpoint(family="bl\nue", tensors={"w": torch.ones(1)}), tmp_path / "a.safetensors")
    assert "unknown family 'bl ue'; known: red, green" in refused(read_checkpoint, tmp_path / "a.safetensors", None)


def test_safetensors_of_others_are_offered_to_the_families(tmp_path, cache):
    save_file({"g": torch.ones(3).half()}, tmp_path / "a.safetensors")
    checkpoint, _ = read_checkpoint(tmp_path / "a.safetensors", None)
    assert checkpoint.tensors["weight"].dtype == torch.float32
    assert len(list(cache.glob("*.safetensors"))) == 1


def test_the_wrong_family_is_named(file, cache, refused):
    line = refused(read_checkpoint, file, "red")
    assert line == f"weights {file}: this is a green file, wanted red"
    assert not list(cache.glob("*.json"))
    with pytest.raises(RecipeError, match="unknown family 'blue'; known: red, green"):
        read_checkpoint(file, "blue")


def test_a_file_of_nobodys_is_described_and_the_families_are_listed(tmp_path, refused):
    torch.save({"epoch\n": 3, "model": {}, "a": 1, "b": 2, "c": 3}, tmp_path / "a.pt")
    line = refused(read_checkpoint, tmp_path / "a.pt", None)
    assert "5 entries (epoch, model, a, b, ...)" in line and "red, green" in line
    line = refused(read_checkpoint, tmp_path / "a.pt", "red")
    assert "wanted a red file" in line
    (tmp_path / "b.pkl").write_bytes(pickle.dumps([1, 2]))
    assert "an object of type list" in refused(read_checkpoint, tmp_path / "b.pkl", None)


def test_a_damaged_file_of_a_known_family_is_one_line(tmp_path, refused):
    torch.save({"g": "broken"}, tmp_path / "a.pt")
    assert "a broken green" in refused(read_checkpoint, tmp_path / "a.pt", "red")
    torch.save({"g": {}}, tmp_path / "b.pt")
    assert "a damaged green file (TypeError" in refused(read_checkpoint, tmp_path / "b.pt", None)


class Evil:
    def __reduce__(self):
        return os.system, ("touch was-here",)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"\x80\x04", b"<!DOCTYPE html>", b"PK\x03\x04", b"\x1f\x8b", pickle.dumps(Evil()), b"\x00" * 100],
)
@pytest.mark.parametrize("suffix", [".pkl", ".safetensors", ".tar.gz"])
def test_a_file_that_is_no_weights_file_is_one_line_and_runs_nothing(tmp_path, refused, monkeypatch, content, suffix):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    assert str(path) in refused(read_checkpoint, path, None)
    assert os.listdir(tmp_path) == [path.name] or sorted(os.listdir(tmp_path)) == [path.name, "home"]


@pytest.mark.parametrize("name", ["gone.pkl", "a\0b", "n" * 300, "net.pt/below"])
def test_a_missing_file_is_one_line(file, refused, name):
    assert "no such file" in refused(read_checkpoint, file.parent / name, None)


def test_a_folder_holds_the_file_that_the_family_finds(file, cache, refused):
    folder = file.parent
    assert "holds no weights file of green" in refused(read_checkpoint, folder, "green")
    assert "any family (red, green)" in refused(read_checkpoint, folder, None)
    file.rename(folder / "green-1.pt")
    for family in ("green", None):
        checkpoint, facts = read_checkpoint(folder, family)
        assert (checkpoint.family, facts["file"]) == ("green", "green-1.pt")
    assert f"{folder / 'green-1.pt'}: this is a green file, wanted red" in refused(read_checkpoint, folder, "red")
    (folder / "red.pt").write_bytes(b"not one")  # what the first family finds is none
    assert read_checkpoint(folder, None)[0].family == "green"
    assert str(folder / "red.pt") in refused(read_checkpoint, folder, "red")


def archive(path, files):
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("inner", ["", "net_res64/", "a/b/"])
def test_an_archive_is_unpacked_converted_and_not_kept(file, tmp_path, cache, toys, inner):
    files = {f"{inner}green.pt": file.read_bytes(), f"{inner}config.json": b'{"scale": 5}'}
    path = archive(tmp_path / "a.tar.gz", files)
    first, facts = read_checkpoint(path, "green")
    assert first.config["scale"] == 5
    assert facts["file"] == "a.tar.gz"
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sorted(entry.suffix for entry in cache.iterdir()) == [".json", ".safetensors"]
    assert same(read_checkpoint(path, "green")[0], first)
    assert len(toys[1].asked) == 1


def test_an_archive_of_something_else_is_one_line_with_its_own_name(file, tmp_path, cache, refused):
    path = archive(tmp_path / "a.tar.gz", {"x/green.pt": file.read_bytes(), "x/other": b""})
    assert f"{path}/x/green.pt: this is a green file, wanted red" in refused(read_checkpoint, path, "red")
    path = archive(tmp_path / "b.tar.gz", {"readme": b"hello"})
    assert f"weights {path}: the folder holds no weights" in refused(read_checkpoint, path, "red")
    path = archive(tmp_path / "c.tar.gz", {"../green.pt": file.read_bytes()})
    assert "not a path inside the archive" in refused(read_checkpoint, path, "green")
    (tmp_path / "d.pkl.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert str(tmp_path / "d.pkl.gz") in refused(read_checkpoint, tmp_path / "d.pkl.gz", "green")
    assert list(cache.iterdir()) == []


def test_an_archive_is_read_without_a_cache_too(file, tmp_path, monkeypatch):
    monkeypatch.setenv("GENREP_HOME", "/proc/genrep")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "given"))
    path = archive(tmp_path / "a.tar.gz", {"green.pt": file.read_bytes()})
    assert read_checkpoint(path, "green")[0].family == "green"
    assert os.listdir(tmp_path / "given") == ["net.pt"]


def test_waiting_for_another_process_ends(file, cache, monkeypatch):
    monkeypatch.setattr(conversion, "PATIENCE", 0.2)
    with conversion.workshop():
        (cache / ".unpacked-of-the-other").mkdir()
        assert read_checkpoint(file, "green")[0].family == "green"
        assert (cache / ".unpacked-of-the-other").exists()  # not ours to sweep
