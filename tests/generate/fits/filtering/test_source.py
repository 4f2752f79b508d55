"""Pairs through a filter: a function of recipe and index, whatever the batches, shards, processes and interruptions."""

import itertools
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from genrep import datasets_manifest
from genrep.datasets_manifest import read_manifest
from genrep.errors import GeneratorError, WeightsError
from genrep.generate.build.run import run_build
from genrep.generate.build.shard import Job
from genrep.generate.build.workers import WorkerPool, build_here
from genrep.generate.pixels import to_uint8
from genrep.generate.sources.base import OutOfMemoryError
from genrep.generate.views.filter_network import load_filter
from genrep.generate.views.filters import FilterSpec

from .conftest import opener


def collect(source, first, count):
    """Columns of a range."""
    batches = list(source.batches(first, count))
    columns = {
        "index": [batch.indices for batch in batches],
        "label": [batch.labels for batch in batches],
        "z": [np.stack(batch.latents, axis=1) for batch in batches],
        "image": [np.stack(batch.images, axis=1) for batch in batches],
        "row": [batch.values["row"] for batch in batches if "row" in batch.values],
    }
    return {name: np.concatenate(parts) for name, parts in columns.items() if parts}


def plainly(source, filter_file, count, keep):
    """The candidates of pairs 0 .. count - 1, and the scores of all, by loops over single images."""
    scorer = load_filter(filter_file).scorer
    conditions = max(1, len(source.conditions.choices))
    g = max(1, 64 // conditions)
    n = round(g / keep)

    def score(candidate):
        index = np.array([candidate])
        y = source.conditions.y(index)
        z = torch.from_numpy(source.latent.sample(source.seed, index))
        image = source.generator.synthesize(z, None if y is None else torch.from_numpy(y))
        return float(scorer(to_uint8(image, "127.5x+128"))[0])

    rounds = -(-count // conditions)
    chosen, scores = {}, {}
    for condition in range(min(conditions, count)):
        for group in range(-(-rounds // g)):
            members = [condition + conditions * (group * n + j) for j in range(n)]
            scores |= {candidate: score(candidate) for candidate in members}
            best = sorted(sorted(members, key=lambda candidate: (-scores[candidate], candidate))[:g])
            for j, candidate in enumerate(best):
                chosen[condition + conditions * (group * g + j)] = candidate
    return [chosen[i] for i in range(count)], scores


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gen", "keep", "count"),
    [
        ("toygen:plain", 0.5, 100),
        ("toygen:plain", 0.7, 70),
        ("toygen:conditional", 0.4, 80),
        ("toygen:instances", 0.5, 70),
        ("filtergen:hundred", 0.3, 130),
    ],
)
def test_pairs_are_those_of_the_best_candidates_of_their_condition(filtered, filter_file, gen, keep, count):
    through = filtered(gen, keep=keep)
    found, plain = collect(through, 0, count), through.source
    chosen, scores = plainly(plain, filter_file, count, keep)
    candidates = np.array(chosen)
    assert np.array_equal(found["index"], np.arange(count))
    assert np.array_equal(found["z"][:, 0], plain.latent.sample(plain.seed, candidates))
    assert np.array_equal(found["z"][:, 1], plain.draw(candidates).z[1])
    assert np.array_equal(found["label"], plain.conditions.label(np.arange(count)))  # as balanced as without a filter
    if "row" in found:
        assert np.array_equal(found["row"], plain.conditions.y(np.arange(count)))
    kept = [scores[candidate] for candidate in chosen]
    rejected = [scores[candidate] for candidate in scores.keys() - set(chosen)]
    assert np.mean(kept) > np.mean(rejected) + 0.5 * np.std([*kept, *rejected])


@pytest.mark.slow
@pytest.mark.parametrize("gen", ["toygen:plain", "toygen:conditional", "filtergen:hundred"])
def test_pairs_depend_neither_on_the_batch_nor_on_where_a_range_begins(filtered, gen):
    whole = collect(filtered(gen, batch_size=64), 0, 200)
    for batch_size in (1, 7, 150):
        found = collect(filtered(gen, batch_size=batch_size), 0, 200)
        assert np.array_equal(found["z"], whole["z"])
        assert np.array_equal(found["label"], whole["label"])
    for first, count in ((5, 3), (63, 2), (100, 100), (130, 1)):
        found = collect(filtered(gen, batch_size=64), first, count)
        for name in ("index", "label", "z", "image"):
            assert np.array_equal(found[name], whole[name][first : first + count]), name


def test_ranges_asked_for_in_turns_do_not_disturb_each_other(filtered):
    source, whole = filtered(), collect(filtered(), 0, 140)
    ranges = [source.ranges(0, 70), source.ranges(70, 70)]
    found = {}
    for _ in range(10):
        for indices in [next(part) for part in ranges]:
            batch = source.launch(indices).result()
            found |= dict(zip(batch.indices.tolist(), batch.latents[0]))
    assert np.array_equal(np.stack([found[i] for i in range(140)]), whole["z"][:, 0])


def test_a_block_is_judged_once_by_a_source_that_builds_shard_after_shard(filtered, monkeypatch):
    source, judged = filtered(), []
    original = source._judge
    monkeypatch.setattr(source, "_judge", lambda candidates: judged.append(len(candidates)) or original(candidates))
    for first in range(0, 120, 10):
        collect(source, first, 10)
    assert judged == [64, 64, 64, 64]  # two blocks, none beyond the end


def job_of(folder, filter_file, name, *, shard_size="30"):
    from filtergen import OpenFiltered

    pairs = opener(num_pairs=150, shard_size=shard_size)
    spec = FilterSpec(keep=0.5, weights=filter_file)
    pairs.plan.recipe["filter"] = spec.to_json()
    source = OpenFiltered(opener=pairs, spec=spec)
    return Job(out=folder / name, plan=pairs.plan, open_source=source, device="cpu", threads=1)


def build(job, source=None):
    run_build(job, lambda numbers: build_here(job, source or job.open_source(), numbers))
    return [shard.sha256 for shard in read_manifest(job.out).shards]


@pytest.mark.slow
def test_a_dataset_is_the_same_from_another_process_other_shards_and_after_an_interruption(folder, filter_file):
    whole = build(job_of(folder, filter_file, "whole"))
    job = job_of(folder, filter_file, "worker")
    first, second = (build_here(job, job.open_source(), iter(numbers)) for numbers in ([0, 3], [1]))
    run_build(job, lambda numbers: itertools.chain(first, second, WorkerPool(job, 1).run(iter([2, 4]))))
    assert [shard.sha256 for shard in read_manifest(job.out).shards] == whole

    class Interrupted:
        """A source that is stopped at pair 70, in the middle of a block and of a shard."""

        def __init__(self, source):
            self.source, self.batch_size = source, source.batch_size

        def batches(self, first, count):
            for batch in self.source.batches(first, count):
                if batch.indices[0] >= 70:
                    raise KeyboardInterrupt
                yield batch

    job = job_of(folder, filter_file, "interrupted")
    with pytest.raises(KeyboardInterrupt):
        build(job, Interrupted(job.open_source()))
    assert build(job) == whole
    build(job_of(folder, filter_file, "layout", shard_size="100"))
    datasets = [datasets_manifest.open(folder / name) for name in ("whole", "layout")]
    for i in range(150):
        for name in ("anchor", "positive", "z_anchor", "z_positive", "label", "index"):
            assert np.array_equal(datasets[0][i][name], datasets[1][i][name])


def test_candidates_that_the_device_cannot_hold_are_made_in_smaller_batches(filtered):
    source, wanted = filtered("toygen:hungry"), collect(filtered(), 0, 70)
    with pytest.raises(OutOfMemoryError, match=r"^filter: cpu is out of memory at 64 candidates"):
        collect(source, 0, 70)
    while source.candidate_batch > 16:
        source.halve_batch()
        with pytest.raises(OutOfMemoryError) if source.candidate_batch > 16 else nullcontext():
            found = collect(source, 0, 70)
    assert source.batch_size == 7
    assert np.array_equal(found["z"], wanted["z"])
    source.halve_batch()
    assert (source.batch_size, source.source.batch_size, source.candidate_batch) == (3, 3, 16)


@pytest.mark.parametrize(
    ("gen", "line"),
    [
        ("toygen:nan", r"candidate 3 of filter: image values up to nan, wanted finite"),
        ("toygen:tiring", r"candidates 0 to 63 of filter: raised ValueError: no more ideas"),
    ],
)
def test_a_candidate_that_is_no_image_is_named(filtered, gen, line):
    with pytest.raises(GeneratorError, match=line):
        collect(filtered(gen), 0, 10)


def test_weights_that_give_no_number_are_refused(filtered):
    source = filtered()
    for parameter in source.filter.scorer.parameters():
        parameter.fill_(1e30)
    with pytest.raises(WeightsError, match=r"^filter: its weights give scores that are not finite"):
        collect(source, 0, 10)
