"""Wherever a file is read, a pipe, a device or a link to one in its place is refused at once: nothing waits, nothing fills."""

import contextlib
import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from genrep.errors import GenRepError, RecipeError, WeightsError
from genrep.evaluate.finetune.run import read_subset
from genrep.files import sha256_file
from genrep.generate.build.output_folder import claim
from genrep.generate.fits.navigator_measure import _read as read_navigator_run
from genrep.generate.gan.model import read_networks
from genrep.generate.generators.base import read_safetensors
from genrep.generate.generators.biggan_deep.structure import read_config
from genrep.generate.recipes.conditions import select_classes
from genrep.generate.recipes.recipe import load_recipe
from genrep.generate.views import parse_view
from genrep.generate.views.walks import load_walks
from genrep.generate.weights.archive import is_archive
from genrep.generate.weights.conversion import read_checkpoint
from genrep.images import photo_sets
from genrep.images.idx import read as read_idx
from genrep.runs.checkpoints import read_state
from genrep.runs.metrics import read_lines
from genrep.train.engine.run import check_same_run
from genrep.train.presets import read_preset
from genrep.unpickle import read_file
from genrep.untrusted import read_object

READERS = {
    "recipe.toml": lambda path: load_recipe(str(path)),
    "views.toml": lambda path: parse_view(str(path)),
    "preset.toml": lambda path: read_preset(str(path)),
    "classes.txt": lambda path: select_classes(str(path), 10),
    "recipe.json": lambda path: claim(path.parent, None),
    "config.json": lambda path: check_same_run(path.parent, None),
    "checkpoint.pt": lambda path: read_state(path, torch.device("cpu")),
    "metrics.jsonl": read_lines,
    "facts.json": lambda path: read_object(path, RecipeError),
    "biggan.json": read_config,
    "network.safetensors": read_safetensors,
    "walks.safetensors": load_walks,
    "network.pkl": read_file,
    "weights.pt": lambda path: read_checkpoint(path, None),
    "weights.tar.gz": is_archive,
    "images-idx3-ubyte": lambda path: read_idx(path, 3),
    "digest": sha256_file,
    "ClassName.txt": photo_sets._words,
    "gan.pt": lambda path: read_networks(path, torch.device("cpu")),
    "subset.txt": lambda path: read_subset(SimpleNamespace(paths=[], name="x"), path),
}


@contextlib.contextmanager
def seconds(limit):
    def late(*arguments):
        raise AssertionError(f"still waiting after {limit} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "link to a device"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    else:
        path.symlink_to("/dev/zero")
    with seconds(20), pytest.raises((GenRepError, OSError, ValueError)) as caught:
        READERS[name](path)
    assert "\n" not in str(caught.value) and not isinstance(caught.value, UnicodeError)


def test_a_navigators_run_with_a_pipe_in_the_place_of_its_checkpoint(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    os.mkfifo(tmp_path / "checkpoint.pt")
    with seconds(20), pytest.raises(WeightsError, match="not the folder of a run of fit-navigator"):
        read_navigator_run(Path(tmp_path))
