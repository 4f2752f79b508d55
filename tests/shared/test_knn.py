"""Weighted k-nearest neighbours agree with a plain loop and with scikit-learn, whatever the chunks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from genrep import knn
from genrep.errors import WeightsError


def data(classes: int = 10, train: int = 400, test: int = 130, dim: int = 12) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Overlapping clouds of unequal lengths, so that many answers are wrong."""
    stream = torch.Generator().manual_seed(classes)
    centres = torch.randn(classes, dim, generator=stream)
    found = []
    for count in (train, test):
        labels = torch.randint(0, classes, (count,), generator=stream)
        features = centres[labels] + 1.5 * torch.randn(count, dim, generator=stream)
        found += [features * torch.rand(count, 1, generator=stream).add(0.1), labels]
    return found[0], found[1], found[2], found[3]


def plain_votes(train: Tensor, labels: Tensor, query: Tensor, k: int, temperature: float) -> dict[int, float]:
    """Wu et al. 2018, eq. 8, one pair after the other."""
    x = query.double().numpy()
    found = []
    for i, row in enumerate(train.double().numpy()):
        cosine = float(row @ x) / math.sqrt(float(row @ row)) / math.sqrt(float(x @ x))
        found.append((-cosine, i))
    votes: dict[int, float] = {}
    for minus, i in sorted(found)[:k]:
        label = int(labels[i])
        votes[label] = votes.get(label, 0.0) + math.exp(-minus / temperature)
    return votes


@pytest.mark.slow
@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (20, 0.07), (37, 0.5)])
def test_a_plain_loop_gives_the_same_accuracies(k: int, temperature: float) -> None:
    train, labels, test, truth = data()
    top1 = top5 = 0
    for query, true in zip(test, truth.tolist()):
        votes = plain_votes(train, labels, query, k, temperature)
        ranked = sorted(votes, key=lambda label: (-votes[label], label))
        top1 += ranked[0] == true
        top5 += true in ranked[:5]
    score = knn.knn_score(train, labels, test, truth, num_classes=10, k=k, temperature=temperature)
    assert score.top1 == pytest.approx(100 * top1 / len(test), abs=1e-5)
    assert score.top5 == pytest.approx(100 * top5 / len(test), abs=1e-5)
    assert 20 < score.top1 < 95
    options = {"num_classes": 10, "k": k, "temperature": temperature}
    assert knn.knn_top1(train, labels, test, truth, **options) == score.top1


def test_scikit_learn_gives_the_same_classes() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    train, labels, test, _ = data(classes=7, train=900, test=300)
    theirs = KNeighborsClassifier(
        n_neighbors=20, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    theirs.fit(train.double().numpy(), labels.numpy())
    ranked, _ = knn.knn_classes(train, labels, test, num_classes=7)
    assert ranked[:, 0].tolist() == theirs.predict(test.double().numpy()).tolist()


@pytest.mark.slow
def test_chunks_and_company_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    train, labels, test, _ = data()
    whole, voted = knn.knn_classes(train, labels, test, num_classes=10)
    alone = [knn.knn_classes(train, labels, test[i : i + 1], num_classes=10)[0] for i in range(0, 130, 10)]
    assert torch.equal(torch.cat(alone), whole[::10])
    for queries, keys in ((7, 1000), (64, 33), (1, 5)):
        monkeypatch.setattr(knn, "QUERIES", queries)
        monkeypatch.setattr(knn, "KEYS", keys)
        again, also = knn.knn_classes(train, labels, test, num_classes=10)
        assert torch.equal(again, whole) and torch.equal(also, voted)


@pytest.mark.parametrize("keys", [4, 65_536])
def test_of_equal_neighbours_the_earlier_votes(monkeypatch: pytest.MonkeyPatch, keys: int) -> None:
    monkeypatch.setattr(knn, "KEYS", keys)
    train = torch.tensor([[0.0, 1.0]] * 3 + [[1.0, 0.0]] * 9 + [[-1.0, 0.0]] * 4)
    labels = torch.tensor([0] * 3 + [5, 5, 5, 1, 1, 1, 1, 1, 1] + [2, 3, 3, 3])
    ranked, voted = knn.knn_classes(train, labels, torch.tensor([[2.0, 0.0], [-3.0, 0.0]]), num_classes=6, k=4)
    assert ranked[:, :2].tolist() == [[5, 1], [3, 2]]
    assert voted[:, :3].tolist() == [[True, True, False], [True, True, False]]
    ranked, _ = knn.knn_classes(train, labels, torch.tensor([[0.0, -1.0]]), num_classes=6, k=4)
    assert ranked[0, 0] == 5  # among equal similarities (zero here) rows 3, 4, 5, 6


def test_a_class_without_a_vote_is_not_among_the_best_five() -> None:
    train, labels = torch.eye(8), torch.arange(8)
    score = knn.knn_score(train, labels, torch.eye(8), torch.arange(8).flip(0), num_classes=8, k=1)
    assert (score.top1, score.top5) == (0.0, 0.0)
    few = knn.knn_score(train[:3], labels[:3], train[:3], labels[:3], num_classes=3, k=1)
    assert (few.top1, few.top5) == (100.0, None)


def test_what_cannot_be_answered_is_refused() -> None:
    train, labels, test, truth = data(train=30)
    with pytest.raises(ValueError, match="k 31: wanted 1 to 30"):
        knn.knn_score(train, labels, test, truth, num_classes=10, k=31)
    with pytest.raises(ValueError, match="temperature 0"):
        knn.knn_score(train, labels, test, truth, num_classes=10, temperature=0.0)
    with pytest.raises(ValueError, match="no test images"):
        knn.knn_score(train, labels, test[:0], truth[:0], num_classes=10)
    test[3, 2] = torch.nan
    with pytest.raises(WeightsError, match="not finite"):
        knn.knn_score(train, labels, test, truth, num_classes=10)


GOLDENS = Path(__file__).parents[1] / "goldens/losses"


def test_dinov2s_code_gives_the_same_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The softmax is over the 20 nearest, once; those of 3 and 10 add up to less than 1."""
    monkeypatch.setattr(knn, "QUERIES", 4)
    golden = torch.load(GOLDENS / "dinov2_knn/n120.pt", weights_only=True)
    sides = (golden[f"in/{name}"] for name in ("train_features", "train_labels", "test_features"))
    chunks = list(knn.knn_class_scores(*sides, num_classes=6, ks=(10, 3, 20)))
    assert [list(chunk) for chunk in chunks] == [[10, 3, 20]] * 4
    for k in (3, 10, 20):
        found = torch.cat([chunk[k] for chunk in chunks])
        torch.testing.assert_close(found, golden[f"out/probas_k{k}"].double(), atol=1e-5, rtol=0)
    assert float(found.sum(dim=1).sub(1).abs().max()) < 1e-12


def test_dinos_code_gives_the_same_accuracies() -> None:
    """Its weights are not normalised, which ranks classes alike: both functions give its numbers."""
    golden = torch.load(GOLDENS / "dino_knn/knn_n400.pt", weights_only=True)
    sides = [golden[f"in/{name}"] for name in ("train_features", "train_labels", "test_features", "test_labels")]
    scores = knn.knn_scores(*sides, num_classes=10, ks=(3, 10, 20))
    for k, score in scores.items():
        assert score.top1 == pytest.approx(golden[f"out/top1_k{k}"], abs=2e-4)
        assert score == knn.knn_score(*sides, num_classes=10, k=k)
        # It also counts classes that no neighbour has, where fewer than five (or k) have one: its sort says which.
        voted = knn.knn_classes(*sides[:3], num_classes=10, k=k)[1]
        open_places = float((~voted[:, : min(5, k)]).any(dim=1).double().mean()) * 100
        assert score.top5 is not None
        assert score.top5 <= golden[f"out/top5_k{k}"] + 2e-4 <= score.top5 + open_places + 4e-4
