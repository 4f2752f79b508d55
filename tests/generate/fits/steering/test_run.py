"""Runs: walks that are known are found, kills change nothing, other settings are refused, records are left."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from genrep.errors import GeneratorError, RecipeError, ResumeError, Terminated, TrainingError, WeightsError
from genrep.generate.fits.config import SteerConfig
from genrep.generate.fits.frozen import open_frozen
from genrep.generate.fits.steering import SteerTrainer, fit_steer
from genrep.generate.fits.steering_targets import ROWS
from genrep.runs.metrics import Window
from genrep.runs.processes import Processes

CPU = torch.device("cpu")


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def without_times(rows):
    return [
        {name: value for name, value in row.items() if name not in ("seconds", "fraction_G", "samples_per_s")}
        for row in rows
    ]


@pytest.mark.slow
def test_known_walks_are_found(config, rows_of):
    """Discs move a width per 4 units of z, so that α = 1 is 1.5625 units; their colours are components of z."""
    result = fit_steer(config(samples=7680, batch_size=64, lr=0.05, checkpoint_samples=100_000))
    walks = rows_of(result.path)
    expected = {"shift_x": (0, 4 * 100 / 256), "shift_y": (1, 4 * 100 / 256), "zoom": (2, -2.0)}
    expected |= {"color_red": (3, 1.0), "color_green": (4, 1.0), "color_blue": (5, 1.0)}
    for name, (axis, length) in expected.items():
        walk = walks[ROWS.index(name), :6]
        assert abs(walk[axis]) / walk.norm() > 0.95, (name, walk)
        assert walk[axis] == pytest.approx(length, rel=0.25), (name, walk)
    assert walks[ROWS.index("rotate_2d"), :6].norm() < 0.3  # a disc looks turned as it was
    assert result.last["loss"] < 0.3 * result.last["loss_still"]


@pytest.mark.slow
def test_untouched_components_stay_as_they_were_drawn(config, rows_of):
    """The two that have no effect get no gradient: what is learned comes from images alone."""
    result = fit_steer(config(samples=320))
    walks = rows_of(result.path)
    trainer = SteerTrainer(config("other"), open_frozen("discgen:plain", None, CPU))
    assert torch.equal(walks[:, 6:], trainer.walks.detach()[:, 6:])
    assert not torch.equal(walks[:, :6], trainer.walks.detach()[:, :6])


@pytest.mark.slow
def test_a_run_leaves_walks_facts_metrics_and_pictures(config):
    from PIL import Image

    result = fit_steer(config(measure_images=8))
    folder = config().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoint.pt",
        "config.json",
        "effects.json",
        "effects.png",
        "metrics.jsonl",
        "walks.json",
        "walks.png",
        "walks.safetensors",
    ]
    rows = lines(folder)
    assert [row["step"] for row in rows] == [3, 6, 9, 10]
    assert rows[-1] == result.last and rows[-1]["samples"] == 160
    assert {"loss", "loss_still", "known", "norm_zoom", "seconds", "fraction_G", "samples_per_s"} <= rows[0].keys()
    facts = json.loads((folder / "walks.json").read_text())
    assert facts["device"] == "cpu" and facts["seconds"] >= 0 and facts["samples"] == 160
    assert facts["settings"]["lr"] == 1e-3 and set(facts["rises"]) >= {"shift_x", "zoom", "color_red"}
    effects = json.loads((folder / "effects.json").read_text())
    assert effects["images"] == 8 and len(effects["curves"][0]["effects"]) == 9
    with Image.open(folder / "walks.png") as sheet, Image.open(folder / "effects.png") as curves:
        assert sheet.width > 7 * 96 and curves.width > 800


@pytest.mark.slow
def test_a_run_that_stops_half_way_goes_on_to_the_same_bits(config, one_thread):
    fit_steer(config("whole"))
    fit_steer(config("parts", samples=64))
    fit_steer(config("parts"))
    one, other = (config(name).out for name in ("whole", "parts"))
    assert (one / "walks.safetensors").read_bytes() == (other / "walks.safetensors").read_bytes()


@pytest.mark.slow
def test_a_run_that_is_terminated_between_checkpoints_repeats_its_steps(config, one_thread, monkeypatch):
    whole = fit_steer(config("whole"))
    step = SteerTrainer.train_step

    def breaks(self):
        if self.step == 7:
            raise Terminated  # what SIGTERM becomes in a command
        return step(self)

    with monkeypatch.context() as patched, pytest.raises(Terminated):
        patched.setattr(SteerTrainer, "train_step", breaks)
        fit_steer(config("parts"))
    parts = fit_steer(config("parts"))
    assert whole.path.read_bytes() == parts.path.read_bytes()
    assert without_times(lines(config("whole").out)) == without_times(lines(config("parts").out))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "ends"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_finishes_the_step_and_saves_it(config, one_thread, monkeypatch, number, ends):
    whole = fit_steer(config("whole"))
    step = SteerTrainer.train_step

    def asked_to_end(self):
        if self.step == 6:
            signal.raise_signal(number)
        return step(self)

    handlers = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with monkeypatch.context() as patched, pytest.raises(ends):
        patched.setattr(SteerTrainer, "train_step", asked_to_end)
        fit_steer(config("parts"))
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == handlers
    assert torch.load(config("parts").out / "checkpoint.pt", weights_only=True)["trainer"]["step"] == 7
    assert not (config("parts").out / "walks.safetensors").exists()
    parts = fit_steer(config("parts"))
    assert whole.path.read_bytes() == parts.path.read_bytes()
    assert without_times(lines(config("whole").out)) == without_times(lines(config("parts").out))


@pytest.mark.slow
def test_a_checkpoint_of_an_older_version_is_one_line(config):
    fit_steer(config())
    path = config().out / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save({name: value for name, value in state.items() if name != "format"}, path)
    with pytest.raises(
        ResumeError, match=r"checkpoint\.pt: cannot be read \(of format None, .*; remove it to start over"
    ):
        fit_steer(config())


SCRIPT = """
import sys, torch
torch.set_num_threads(1)
sys.path.insert(0, ".")
from pathlib import Path
from genrep.generate.fits.config import SteerConfig
from genrep.generate.fits.steering import fit_steer
fit_steer(SteerConfig(gen="discgen:slow", out=Path("killed"), samples=1600, batch_size=16, measure_images=0,
                      checkpoint_samples=160, device="cpu"))
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bits(config, disc_folder, one_thread):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=disc_folder, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    checkpoint = disc_folder / "killed" / "checkpoint.pt"
    deadline = time.monotonic() + 50
    while not checkpoint.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    time.sleep(0.05)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not (disc_folder / "killed" / "walks.safetensors").exists()
    seen = torch.load(checkpoint, weights_only=True)["trainer"]["step"]
    assert 0 < seen < 100
    settings = {"gen": "discgen:slow", "samples": 1600, "log_every": 50, "checkpoint_samples": 800}
    # The generator's sleep is no part of its images: the other two thirds need not wait for it.
    killed, whole = (SteerConfig(**{**vars(config(name)), **settings}) for name in ("killed", "whole"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("time.sleep", lambda seconds: None)
        results = [fit_steer(settings) for settings in (killed, whole)]
    assert results[0].path.read_bytes() == results[1].path.read_bytes()


@pytest.mark.slow
def test_a_resumed_run_refuses_other_settings_and_names_them(config):
    fit_steer(config())
    with pytest.raises(
        ResumeError, match=r"holds another run \(lr 0\.001 there, 0\.1 asked for, seed 0 there, 3 asked"
    ):
        fit_steer(config(lr=0.1, seed=3))
    fit_steer(config(samples=192, checkpoint_samples=32, measure_images=4))  # these may change


def test_a_damaged_checkpoint_is_one_line(config):
    fit_steer(config())
    (config().out / "checkpoint.pt").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ResumeError, match=r"checkpoint\.pt: cannot be read .*remove it to start over"):
        fit_steer(config())


def test_a_folder_at_work_is_not_shared(config):
    from genrep.files import locked_folder

    with locked_folder(config().out), pytest.raises(ResumeError, match="another process is using"):
        fit_steer(config())


def test_generators_that_cannot_be_steered_are_refused(config):
    with pytest.raises(GeneratorError, match="discgen:blind"):
        fit_steer(config(gen="discgen:blind"))
    with pytest.raises(RecipeError, match="unknown generator"):
        fit_steer(config(gen="discs"))
    with pytest.raises(WeightsError):
        fit_steer(config(gen="stylegan2_fashion", weights=config().out / "none.pkl"))


def test_values_that_are_not_finite_end_the_run_before_they_are_saved(config):
    with pytest.raises(TrainingError, match=r"has diverged; try a lower lr"):
        fit_steer(config(gen="discgen:exploding"))
    folder = config().out
    assert not (folder / "checkpoint.pt").exists() and not (folder / "walks.safetensors").exists()


def test_classes_come_in_equal_numbers(disc_folder, config):
    source = open_frozen("discgen:conditional", None, CPU)
    source.generator.classes.clear()
    trainer = SteerTrainer(config(gen="discgen:conditional", batch_size=7), source)
    for _ in range(6):
        trainer.train_step()
    counts = np.bincount(source.generator.classes)
    assert counts.tolist() == [28, 28, 28]  # two images of each of 42 samples


def test_the_generator_stays_as_it_is(config, discs):
    trainer = SteerTrainer(config(), discs)
    gain = discs.generator.gain
    trainer.train_step()
    assert gain.grad is None and float(gain.detach()) == 1


def test_a_noisy_generator_shows_both_images_of_a_sample_the_same_noise(config, disc_folder, monkeypatch):
    source = open_frozen("discgen:noisy", None, CPU)
    trainer = SteerTrainer(config(gen="discgen:noisy"), source)
    seen = []
    monkeypatch.setattr("genrep.generate.fits.steering.draw_alphas", lambda seed, i: np.zeros((len(i), 8), np.float32))
    kept = source.generator.synthesize
    monkeypatch.setattr(
        type(source.generator), "synthesize", lambda self, z, y=None: seen.append(kept(z, y)) or seen[-1]
    )
    state = torch.get_rng_state()
    trainer.train_step()
    torch.set_rng_state(state)
    assert torch.equal(seen[0], seen[1])


@pytest.mark.slow
def test_the_callers_random_numbers_are_left_alone(config):
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    fit_steer(config(gen="discgen:noisy", measure_images=4))
    assert torch.equal(torch.rand(3), wanted)


def test_memory_does_not_grow_with_steps(config, discs):
    """What a step leaves on the autograd tape would keep its images: the walks must stay a leaf without history."""
    trainer = SteerTrainer(config(), discs)
    window = Window(Processes(device=CPU))
    for _ in range(3):
        window.add(trainer.train_step())
    assert trainer.walks.is_leaf and not any(row.requires_grad for row in window.rows)


def test_a_fit_that_diverges_leaves_no_checkpoint_and_no_walks(config):
    with pytest.raises(TrainingError, match=r"^out .*: at step \d+ .*: this training has diverged; try a lower lr, in"):
        fit_steer(config(lr=1e30))
    assert not list(config().out.glob("*.safetensors"))
    assert not (config().out / "checkpoint.pt").exists()
