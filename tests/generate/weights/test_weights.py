"""From a recipe to a file: cache, records of first use, hand-placed files, and the command's function."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from genrep.errors import RecipeError
from genrep.generate.recipes.recipe import Recipe, load_recipe
from genrep.generate.views import view_from_json
from genrep.generate.weights import cache as records
from genrep.generate.weights import locate as module
from genrep.generate.weights.cache import cache_folder, digest_file, weights_folder, writable
from genrep.generate.weights.locate import get_weights, locate

PACKAGED = Path(module.__file__).parent / "stylegan2_fashion.safetensors"
OFFLINE = "http://127.0.0.1:1/net.pkl"  # nobody listens there


def recipe(weights=None, name="toy", **options):
    return Recipe(
        name=name, family="stylegan2", weights=weights, views=view_from_json("none"), licence="MIT", **options
    )


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("genrep_home", "xdg", "wanted"),
    [
        ("/a", "/b", "/a"),
        ("", "/b", "/b/genrep"),
        (None, "relative", "/home/u/.cache/genrep"),
        (None, None, "/home/u/.cache/genrep"),
        ("~/g", None, "/home/u/g"),
    ],
)
def test_the_cache_lies_where_the_environment_says(monkeypatch, genrep_home, xdg, wanted):
    monkeypatch.setenv("HOME", "/home/u")
    for name, value in (("GENREP_HOME", genrep_home), ("XDG_CACHE_HOME", xdg)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(wanted)


def test_a_relative_cache_is_made_absolute(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENREP_HOME", "here")
    assert cache_folder() == tmp_path / "here"


@pytest.mark.parametrize("place", ["/proc/genrep", "file", "file/below", "n" * 300, "~nobody-of-this-name"])
def test_an_absurd_cache_is_one_line_that_names_the_variable(monkeypatch, tmp_path, refused, server, place):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GENREP_HOME", place if place[0] in "/~" else str(tmp_path / place))
    assert "GENREP_HOME" in refused(locate, recipe(server.serve("net.pkl", b"data")))


@pytest.mark.parametrize("name", ["..", ".", "", ".hidden", "a/b", "a\nb", "ü m"])
def test_any_name_of_a_recipe_is_a_folder_below_the_cache(name):
    folder = weights_folder(name)
    assert folder.parent == cache_folder() / "weights"
    assert folder.name not in ("", ".", "..") and "\n" not in folder.name


def test_a_download_lies_in_the_cache_with_its_facts_and_is_made_once(server, home, bytes_of):
    body = bytes_of(1000)
    url = server.serve("models/net.pkl", body)
    first, second = locate(recipe(url)), locate(recipe(url))
    assert first == second
    assert first.path == home / "weights" / "toy" / "net.pkl"
    facts = {"file": "net.pkl", "source": url, "licence": "MIT", "sha256": sha256(body)}
    assert first.facts == facts
    assert json.loads((first.path.parent / "net.pkl.facts.json").read_text()) == facts
    assert len(server.asked) == 1
    assert sorted(path.name for path in first.path.parent.iterdir()) == ["net.pkl", "net.pkl.facts.json"]


def test_a_network_of_the_file_is_named_behind_its_address_or_path(server, home, bytes_of, tmp_path):
    url = server.serve("models/net.pkl", bytes_of(1000))
    plain, chosen = locate(recipe(url)), locate(recipe(url), f"{url}#state_dict.g")
    assert (plain.network, chosen.network, chosen.path.name) == (None, "state_dict.g", "net.pkl")
    assert locate(recipe(f"{url}#g_ema")).network == "g_ema"
    assert chosen.facts["source"] == url
    assert [name for name, _ in server.asked] == ["/models/net.pkl"]
    for name in ("net.pt", "a#b.pt"):
        (tmp_path / name).write_bytes(b"weights")
    beside = recipe("net.pt#g", folder=tmp_path)
    assert (locate(beside).path, locate(beside).network) == (tmp_path / "net.pt", "g")
    odd = locate(recipe("a#b.pt", folder=tmp_path))
    assert (odd.path, odd.network) == (tmp_path / "a#b.pt", None)
    own = locate(recipe(url), f"{tmp_path}/a#b.pt#.")
    assert (own.path, own.network) == (tmp_path / "a#b.pt", ".")


def test_files_that_belong_beside_it_come_too(server, bytes_of, refused):
    body, config = bytes_of(1000), b'{"layers": []}'
    extra = server.serve("big-config.json", config)
    wanted = recipe(server.serve("big-pytorch_model.bin", body), extra_weights=(extra,))
    source = locate(wanted)
    assert source.path.with_name("big-config.json").read_bytes() == config
    assert source.facts["extra"] == [
        {"file": "big-config.json", "source": extra, "licence": "MIT", "sha256": sha256(config)}
    ]
    source.path.with_name("big-config.json").unlink()
    del server.files["/big-config.json"]
    assert extra in refused(locate, wanted)


def test_the_first_use_is_recorded_and_another_content_is_refused(server, bytes_of, refused):
    url = server.serve("net.pkl", bytes_of(1000))
    path = locate(recipe(url)).path
    path.write_bytes(bytes_of(1000, seed=1))
    line = refused(locate, recipe(url))
    assert sha256(bytes_of(1000)) in line and sha256(bytes_of(1000, seed=1)) in line and str(path) in line
    path.unlink()  # the publisher has another file now
    server.serve("net.pkl", bytes_of(1000, seed=2), etag='"two"')
    assert sha256(bytes_of(1000, seed=2)) in refused(locate, recipe(url))
    path.with_name("net.pkl.facts.json").unlink()
    assert locate(recipe(url)).facts["sha256"] == sha256(bytes_of(1000, seed=2))


def test_a_published_digest_is_held_to_at_every_use(server, bytes_of, refused):
    body = bytes_of(1000)
    url = server.serve("car-3659b4b6.pt", body)
    for published in (sha256(body), sha256(body)[:8]):
        path = locate(recipe(url, weights_sha256=published)).path
    assert "the published file 3659b4b6" in refused(locate, recipe(url, weights_sha256="3659b4b6"))
    path.unlink()
    assert "wanted 3659b4b6" in refused(locate, recipe(url, weights_sha256="3659b4b6"))
    assert not path.exists()


def test_a_recipe_of_the_same_name_with_another_address_is_refused(server, bytes_of, refused):
    locate(recipe(server.serve("a/net.pkl", bytes_of(1000))))
    line = refused(locate, recipe(server.serve("b/net.pkl", bytes_of(1000, seed=1))))
    assert "/a/net.pkl" in line and "/b/net.pkl" in line


@pytest.mark.parametrize("record", ["", "{}", "[]", '{"file": 1}', "[" * 100_000, "\xff"])
def test_a_damaged_record_is_one_line(server, bytes_of, refused, record):
    url = server.serve("net.pkl", bytes_of(1000))
    path = locate(recipe(url)).path
    path.with_name("net.pkl.facts.json").write_bytes(record.encode("latin-1"))
    assert "net.pkl.facts.json" in refused(locate, recipe(url))


def test_offline_one_line_says_where_to_put_the_file_and_it_is_used_from_there(home, refused, bytes_of):
    place = home / "weights" / "toy" / "net.pkl"
    line = refused(locate, recipe(OFFLINE))
    assert OFFLINE in line and str(place) in line
    place.write_bytes(bytes_of(1000))
    assert locate(recipe(OFFLINE)).facts["sha256"] == sha256(bytes_of(1000))


def test_a_cache_that_someone_else_filled_is_read_without_writing(home, bytes_of, monkeypatch):
    def forbidden(path, data):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(records, "publish", forbidden)
    monkeypatch.setattr(os, "access", lambda *_: False)
    folder = home / "weights" / "toy"
    folder.mkdir(parents=True)
    (folder / "net.pkl").write_bytes(bytes_of(1000))
    assert locate(recipe(OFFLINE)).facts["sha256"] == sha256(bytes_of(1000))


def test_weights_in_the_package_stay_there():
    source = locate(load_recipe("stylegan2_fashion"))
    assert source.path == PACKAGED
    assert source.facts == {
        "file": PACKAGED.name,
        "source": "package:stylegan2_fashion.safetensors",
        "licence": "MIT",
        "sha256": sha256(PACKAGED.read_bytes()),
    }
    assert not cache_folder().exists()


def test_a_path_in_a_recipe_starts_at_its_file(tmp_path, refused):
    (tmp_path / "net.pkl").write_bytes(b"data")
    facts = locate(recipe("net.pkl", folder=tmp_path)).facts
    assert facts == {"file": "net.pkl", "source": "net.pkl", "licence": "MIT", "sha256": sha256(b"data")}
    assert "wants 00000000" in refused(locate, recipe("net.pkl", folder=tmp_path, weights_sha256="0" * 8))
    assert "other.pkl: no such file" in refused(locate, recipe("other.pkl", folder=tmp_path))


def test_a_file_of_the_users_own_is_used_as_it_is(tmp_path, refused):
    (tmp_path / "net.pkl").write_bytes(b"data")
    source = locate(recipe(OFFLINE), tmp_path / "net.pkl")
    assert source.path == tmp_path / "net.pkl"
    local = {"file": "net.pkl", "source": "a local file", "licence": "unknown", "sha256": sha256(b"data")}
    assert source.facts == local
    published = recipe(OFFLINE, weights_sha256=sha256(b"data"))
    assert locate(published, str(tmp_path / "net.pkl")).facts == {**local, "licence": "MIT"}
    assert locate(recipe(OFFLINE), tmp_path).facts == {"source": "a local folder", "licence": "unknown"}
    assert "gone.pkl: no such file" in refused(locate, recipe(OFFLINE), tmp_path / "gone.pkl")
    assert "no such file" in refused(locate, recipe(OFFLINE), "a\0b")


def test_an_address_of_the_users_own_is_downloaded(server, home, bytes_of):
    source = locate(recipe(OFFLINE), server.serve("mine.pkl", bytes_of(1000)))
    assert source.path == home / "weights" / "toy" / "mine.pkl"
    assert source.facts["licence"] == "unknown"


def test_a_recipe_without_weights_says_whence_they_come(refused):
    line = refused(locate, recipe(None, source="the README of its authors"))
    assert "no weights ship with it; give weights FILE (the README of its authors)" in line


@pytest.mark.parametrize(
    "options",
    [
        {"weights": 7},
        {"weights": "package:"},
        {"weights": "package:../recipe.py"},
        {"weights": OFFLINE, "weights_sha256": "abc"},
        {"weights": OFFLINE, "weights_sha256": 12345678},
        {"weights": OFFLINE, "extra_weights": ("config.json",)},
        {"weights": OFFLINE, "extra_weights": tuple("abc")},
        {"weights": OFFLINE, "extra_weights": (1,)},
    ],
)
def test_a_recipe_whose_weights_are_of_no_known_form_is_refused(refused, options):
    assert "recipe toy: [generator]" in refused(locate, recipe(**options), error=RecipeError)


def test_the_command_downloads_into_the_cache_or_the_folder(server, home, tmp_path, bytes_of, monkeypatch):
    body = bytes_of(1000)
    (tmp_path / "mine.toml").write_text(
        f'[generator]\nfamily = "stylegan2"\nweights = "{server.serve("net.pkl", body)}"\nlicence = "MIT"\n'
    )
    assert get_weights(str(tmp_path / "mine.toml")) == home / "weights" / "mine" / "net.pkl"
    path = get_weights(str(tmp_path / "mine.toml"), tmp_path / "out" / "deep")
    assert path == tmp_path / "out" / "deep" / "net.pkl"
    assert path.read_bytes() == body
    # Its provenance is known wherever it is used from.
    assert locate(recipe(OFFLINE), path).facts["source"].endswith("/net.pkl")
    path.write_bytes(b"changed")
    assert locate(recipe(OFFLINE), path).facts["source"] == "a local file"


@pytest.mark.parametrize("to_cache", [True, False])
def test_the_command_copies_what_ships_with_the_package(home, tmp_path, refused, to_cache):
    folder = home / "weights" / "stylegan2_fashion" if to_cache else tmp_path / "out"
    for _ in range(2):
        path = get_weights("stylegan2_fashion", None if to_cache else folder)
        assert path == folder / PACKAGED.name
        assert path.read_bytes() == PACKAGED.read_bytes()
    assert sorted(entry.name for entry in folder.iterdir()) == [PACKAGED.name, f"{PACKAGED.name}.facts.json"]
    path.write_bytes(b"other")
    assert "remove it" in refused(get_weights, "stylegan2_fashion", None if to_cache else folder)


def test_the_commands_folder_must_be_one_that_can_be_written(tmp_path, refused, server, bytes_of):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "x", Path("/proc/genrep")):
        line = refused(get_weights, "stylegan2_fashion", place)
        assert f"out {place}" in line and "GENREP_HOME" not in line


def test_the_command_refuses_what_it_cannot_get(refused):
    assert "no weights ship with it" in refused(get_weights, "biggan")
    assert "unknown generator" in refused(get_weights, "nonsense", error=RecipeError)


def test_every_address_in_the_recipes_names_a_file():
    from genrep.generate.recipes.recipe import known_recipes
    from genrep.generate.weights.download import file_name, is_url

    for name in known_recipes():
        known = load_recipe(name)
        for url in (known.weights, *known.extra_weights):
            assert not is_url(url) or file_name(url)


def test_a_digest_is_computed_once_while_the_file_stays_as_it_is(tmp_path, monkeypatch):
    path = tmp_path / "net.pkl"
    path.write_bytes(b"data")
    assert digest_file(path) == sha256(b"data")
    monkeypatch.setattr("genrep.generate.weights.cache.sha256_file", lambda path: "new")
    assert digest_file(path) == sha256(b"data")
    path.write_bytes(b"tada")
    os.utime(path, ns=(1, 1))
    assert digest_file(path) == "new"


def test_a_folder_of_the_cache_that_cannot_be_written_is_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "no permission to write" in refused(writable, tmp_path)
