"""``few-label``: the draws, the regression against scikit-learn, and what few-label.json holds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from genrep.cli import invoke
from genrep.errors import ConfigError, DataError
from genrep.evaluate import FewLabelConfig, evaluate_few_label
from genrep.evaluate.cli import group
from genrep.evaluate.few_label import run as module
from genrep.evaluate.few_label.fit import draw_labelled, few_label_accuracies, fit_draws

CLASSES = ("a", "b", "c")


def problem(count: int, dim: int, seed: int) -> tuple[torch.Tensor, np.ndarray[Any, Any]]:
    generator = torch.Generator().manual_seed(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    centres = torch.randn(3, dim, generator=torch.Generator().manual_seed(9))
    return centres[labels] + 2 * torch.randn(count, dim, generator=generator) + 5, labels


@pytest.mark.parametrize(("per_class", "dim"), [(2, 20), (10, 20), (4, 3)])
def test_each_draw_is_scikit_learns_regression(per_class: int, dim: int) -> None:
    """With fewer images than features, and with more."""
    train, labels = problem(90, dim, 0)
    rows = draw_labelled(labels, classes=CLASSES, per_class=per_class, draws=5, seed=3)
    features, wanted = train.double()[rows], torch.arange(3).repeat_interleave(per_class)
    weight, bias = fit_draws(features, wanted, num_classes=3, inverse_l2=0.5)
    assert weight.shape == (5, 3, dim)
    for draw in range(5):
        theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000).fit(features[draw].numpy(), wanted.numpy())
        ours = (features[draw] @ weight[draw].T + bias[draw]).softmax(dim=1).numpy()
        np.testing.assert_allclose(ours, theirs.predict_proba(features[draw].numpy()), atol=1e-5)
        np.testing.assert_allclose(weight[draw].numpy(), theirs.coef_, atol=1e-5)


def test_accuracies_are_those_of_scikit_learn_on_standardised_features(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels = problem(120, 8, 0)
    train[:, 5] = 3.0  # constant
    test, answers = problem(60, 8, 1)
    test[:, 5] = 3.0
    given: dict[str, Any] = {"classes": CLASSES, "per_class": 5, "draws": 7, "seed": 1}
    found = few_label_accuracies(train, labels, test, answers, **given)
    array = train.double().numpy()
    mean, scale = array.mean(axis=0), array.std(axis=0)
    scale[5] = 1.0
    rows = draw_labelled(labels, classes=CLASSES, per_class=5, draws=7, seed=1)
    for draw, value in zip(rows, found):
        theirs = LogisticRegression(C=1.0, tol=1e-10, max_iter=10_000).fit((array[draw] - mean) / scale, labels[draw])
        assert value == pytest.approx(100 * theirs.score((test.double().numpy() - mean) / scale, answers))
    for name in ("MOST_BYTES", "ROWS"):  # a draw at a time, and test images in many parts
        monkeypatch.setattr(f"genrep.evaluate.few_label.fit.{name}", 7)
    assert few_label_accuracies(train, labels, test, answers, **given) == found


def test_draws_are_nested_balanced_and_functions_of_the_seed() -> None:
    labels = np.array([0, 1, 2, 2, 1, 0] * 20, dtype=np.int64)
    few, many = (
        draw_labelled(labels, classes=CLASSES, per_class=number, draws=4, seed=5).reshape(4, 3, number)
        for number in (3, 8)
    )
    assert (labels[many] == np.arange(3)[None, :, None]).all()
    assert (few == many[:, :, :3]).all()
    assert len({draw.tobytes() for draw in many}) == 4 and all(len(set(draw.ravel())) == 24 for draw in many)
    assert not (draw_labelled(labels, classes=CLASSES, per_class=3, draws=4, seed=6).reshape(4, 3, 3) == few).all()
    with pytest.raises(DataError, match=r"^labels 41: class a has 40 training images; wanted at least that many"):
        draw_labelled(labels, classes=CLASSES, per_class=41, draws=1, seed=0)


def config(encoder: Path | None, images: Path, out: Path, **options: Any) -> FewLabelConfig:
    given = {"encoder": encoder, "dataset": str(images), "out": out, "labels": (1, 4), "draws": 6, "device": "cpu"}
    return FewLabelConfig(**{**given, **options})


def test_entries_say_everything_and_are_measured_once(
    encoder: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = evaluate_few_label(config(encoder, images, tmp_path))
    entries = json.loads((tmp_path / "few-label.json").read_text())
    assert [result.entry for result in results] == entries
    for entry, number in zip(entries, (1, 4)):
        assert (entry["protocol"]["labels_per_class"], entry["protocol"]["draws"]) == (number, 6)
        assert (entry["metric"], entry["unit"], entry["n"], len(entry["accuracies"])) == ("top-1", "percent", 15, 6)
        assert entry["value"] == pytest.approx(statistics.fmean(entry["accuracies"]))
        low, high = entry["interval"]
        assert high - low == pytest.approx(2 * 1.959964 * entry["std"] / 6**0.5)
    assert entries[1]["value"] > 60  # brightness is easy to see, through a random network too
    monkeypatch.setattr(module, "few_label_accuracies", None)
    assert all(result.already_done for result in evaluate_few_label(config(encoder, images, tmp_path)))


def test_results_do_not_depend_on_batches_or_workers(encoder: Path, images: Path, tmp_path: Path) -> None:
    found = [
        evaluate_few_label(config(encoder, images, tmp_path / str(batch), feature_batch=batch, workers=workers))
        for batch, workers in ((7, 1), (64, 3))
    ]
    for one, other in zip(*found):
        assert one.entry["accuracies"] == other.entry["accuracies"]


@pytest.mark.parametrize(("labels", "said"), [((), "none"), ((1, 1), "1,1"), ((0, 5), "0,5")])
def test_numbers_of_labels_are_checked(labels: tuple[int, ...], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^labels {said}: wanted positive numbers, each of them once"):
        config(tmp_path, tmp_path, tmp_path, labels=labels)


def test_too_many_labels_are_one_line_before_anything_is_computed(
    encoder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--encoder", str(encoder), "--dataset", str(images), "--out", str(tmp_path / "out"), "--labels", "500"]
    assert invoke(group, ["few-label", *options]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error")]
    assert "--labels 500: class " in line and "has 12 training images; wanted at least that many of each class" in line
    assert not (tmp_path / "out").exists()


def test_the_command_prints_means_and_intervals(
    encoder: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--encoder", str(encoder), "--dataset", str(images), "--out", str(tmp_path), "--labels", "1,3"]
    assert invoke(group, ["few-label", *options, "--draws", "5", "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 labels a class, 5 draws)" in lines[0] and " top-1 " in lines[0] and " to " in lines[0]
    assert lines[2].endswith("few-label.json")
