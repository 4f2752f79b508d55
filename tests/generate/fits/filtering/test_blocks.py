"""Which candidates become which pairs, and how a filter is written."""

import numpy as np
import pytest

from genrep.errors import RecipeError, WeightsError
from genrep.generate.views.filters import Blocks, FilterSpec, parse_filter


@pytest.mark.parametrize("conditions", [1, 3, 10, 63, 64, 65, 100, 1000])
@pytest.mark.parametrize("keep", [0.5, 0.3, 0.02])
def test_every_candidate_stands_once_and_has_the_condition_of_its_pair(conditions, keep):
    blocks = Blocks(keep=keep, conditions=conditions)
    seen, pair = [], 0
    for block in range(3 * conditions // blocks.pairs + 2):
        candidates = blocks.candidates(block)
        scores = np.random.default_rng(block).standard_normal(candidates.shape)
        seen.append(candidates.ravel())
        for candidate in blocks.select(block, scores):
            assert candidate % conditions == pair % conditions
            pair += 1
    seen = np.concatenate(seen)
    assert len(np.unique(seen)) == len(seen)
    assert seen.min() == 0
    assert 60 <= blocks.pairs <= 64 or conditions in (3, 10, 63)


def test_without_conditions_the_best_part_of_a_block_is_kept_in_order_and_ties_fall_to_the_lower_index():
    blocks = Blocks(keep=0.5)
    scores = np.zeros((128, 1))
    scores[[3, 100, 127]] = 1.0
    scores[0] = -1.0
    chosen = blocks.select(2, scores)
    wanted = sorted([3, 100, 127, *[i for i in range(1, 65) if i not in (3,)][:61]])
    assert chosen.tolist() == [256 + i for i in wanted]


def test_many_conditions_take_the_best_of_few_candidates_each():
    blocks = Blocks(keep=1 / 3, conditions=100)
    assert (blocks.pairs, blocks.drawn, blocks.kept) == (64, 3, 1)
    assert blocks.candidates(0)[:, 5].tolist() == [5, 105, 205]
    assert blocks.candidates(1)[:, 40].tolist() == [304, 404, 504]  # pair 104: the second of condition 4


def test_keep_is_met_to_the_nearest_candidate():
    assert Blocks(keep=0.7).drawn == 91
    assert Blocks(keep=0.5, conditions=10).candidates(4).shape == (12, 10)


def test_a_filter_is_written_as_keys_in_any_order(filter_file):
    spec = parse_filter(f"weights={filter_file},keep=.25")
    assert spec == FilterSpec(keep=0.25, weights=filter_file)
    assert parse_filter(f"weights={filter_file}").keep == 0.5
    assert spec.to_json() == {"keep": 0.25, "weights": spec.loaded.digest, "block": 64}
    assert parse_filter(f"keep=0.25,weights={filter_file.parent}").to_json() == spec.to_json()
    assert spec.files()[0].path == filter_file
    spec.check((8, 8), 0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", r"'' is not keep=PART or weights=FILE"),
        ("keep=.5", r"wanted weights=FILE"),
        ("keep=half,weights=f", r"keep='half' is not a number"),
        ("keep=nan,weights=f", r"keep=nan, wanted at least 0\.01 and less than 1"),
        ("keep=1,weights=f", r"keep=1\.0, wanted at least 0\.01 and less than 1"),
        ("keep=1e-9,weights=f", r"keep=1e-09, wanted at least 0\.01"),
        ("keep=.5,keep=.5,weights=f", r"'keep=\.5' is not keep=PART or weights=FILE, each once"),
        ("top=.5,weights=f", r"'top=\.5' is not keep=PART"),
        ("weights=", r"'weights=' is not"),
    ],
)
def test_a_filter_that_cannot_be_is_refused_in_one_line(text, line):
    with pytest.raises(RecipeError, match=r"^filter.*" + line):
        parse_filter(text)


def test_a_filter_that_does_not_suit_the_recipe_is_refused(filter_file, folder):
    spec = parse_filter(f"keep=.9,weights={filter_file}")
    with pytest.raises(RecipeError, match=r"scores images of 8x8, this recipe's are 32x32"):
        spec.check((32, 32), 0)
    spec.check((8, 8), 3)
    with pytest.raises(
        RecipeError, match=r"keep=0\.9 would keep all 1 candidates .* 1000 conditions, wanted at most 0\.5"
    ):
        spec.check((8, 8), 1000)
    with pytest.raises(WeightsError, match=r"no such filter"):
        parse_filter("weights=nothing").to_json()
