"""Datasets of prompts and of real anchors, from a sampler in miniature that shows in its pixels what it was given."""

import json

import numpy as np
import pytest
from PIL import Image

from genrep import datasets_manifest, seeding
from genrep.across import RegenerationConfig
from genrep.datasets_manifest.recovery.repair import RepairConfig, repair
from genrep.datasets_manifest.verify import verify
from genrep.errors import GenRepError, RecipeError
from genrep.generate import BuildConfig, build_dataset
from genrep.generate.sources.online import open_online

PROMPTS = "cat\ta cat\ncat\ta small cat\ncat\ta cat on a sofa\ndog\ta dog\ndog\tthe dog of the house\n"
TEXTS = ["a cat", "a small cat", "a cat on a sofa", "a dog", "the dog of the house"]
GROUPS = [0, 0, 0, 1, 1]


@pytest.fixture
def folder(toy_folder):
    """Where the module lies, and everything else."""
    return toy_folder


@pytest.fixture
def prompts(folder):
    path = folder / "prompts.txt"
    path.write_text(PROMPTS)
    return path


@pytest.fixture
def photos(folder):
    """Six pictures of two classes, of sizes of their own."""
    random = np.random.RandomState(0)
    for i in range(6):
        path = folder / f"photos/{'ab'[i % 2]}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.randint(0, 255, (9 + i, 12, 3), dtype=np.uint8)).save(path)
    return folder / "photos"


def build(out, **options):
    settings = {"num_pairs": 14, "shard_size": "5", "batch_size": 4, "processes": 1, "out": out, **options}
    return build_dataset(BuildConfig(**settings))


def level(value):
    """The stored level of a pixel value."""
    return int(np.clip(127.5 * np.float32(value) + 128, 0, 255))


def noise_of(index, stream, size=32, seed=0):
    return seeding.standard_normals(seed, np.array([index]), stream, size)[0].astype(np.float32)


def steps_of(index, stream, seed=0):
    return sum(noise_of(index, stream, 8, seeding.derive("step", seed, step)).mean() for step in range(3))


def test_pairs_of_prompts_are_those_of_the_equations(folder, prompts):
    out = folder / "out"
    build(out, gen="toygen:diffuser", prompts=prompts, views="independent", num_positives=2)
    dataset = datasets_manifest.open(out)
    assert (out / "prompts.jsonl").read_text().splitlines()[1] == '{"group":"cat","prompt":"a small cat"}'
    assert list(dataset.manifest.classes) == ["cat", "dog"]
    for i in range(14):
        pair = dataset[i]
        assert pair["prompt"] == i % 5 and dataset.prompts[pair["prompt"]] == TEXTS[i % 5]
        assert pair["label"] == GROUPS[i % 5]
        for name, stream in (("anchor", seeding.ANCHOR), ("positive", 256), ("positive_1", 257)):
            z = noise_of(i, stream)
            assert pair[f"z_{name}"].shape == (2, 4, 4) and np.array_equal(pair[f"z_{name}"].ravel(), z)
            wanted = [level(z.mean()), level(steps_of(i, stream)), level(len(TEXTS[i % 5]) / 50)]
            assert np.abs(pair[name][0, 0].astype(int) - wanted).max() <= 1


def test_other_prompts_are_of_the_same_group_and_differ_while_there_are_others(folder, prompts):
    out = folder / "out"
    build(out, gen="toygen:diffuser", prompts=prompts, views="prompts", num_positives=2, num_pairs=60)
    seen = set()
    for pair in datasets_manifest.open(out):
        rows = [pair["prompt"], pair["prompt_1"], pair["prompt_2"]]
        assert {GROUPS[row] for row in rows} == {pair["label"]}
        assert rows[1] != rows[0] and rows[2] != rows[0]
        if pair["label"] == 0:
            assert len(set(rows)) == 3
        seen.add(tuple(rows))
        assert abs(int(pair["positive_1"][0, 0, 2]) - level(len(TEXTS[rows[2]]) / 50)) <= 1
    assert len(seen) > 6  # both orders of the others occur


def test_the_anchors_latent_may_stay_with_another_prompt(folder, prompts):
    out = folder / "out"
    build(out, gen="toygen:diffuser", prompts=prompts, views="prompts:noise=anchor")
    for pair in datasets_manifest.open(out):
        assert np.array_equal(pair["z_anchor"], pair["z_positive"])
        assert pair["anchor"][0, 0, 0] == pair["positive"][0, 0, 0]


@pytest.mark.slow
def test_batches_processes_and_restarts_change_nothing(folder, prompts):
    options = {"gen": "toygen:diffuser", "prompts": prompts, "views": "sdedit:strength=.2-.9", "num_positives": 2}
    build(folder / "one", **options)
    build(folder / "two", **options, processes=2)
    names = [f"shard-0000{k}.beton" for k in range(3)] + ["prompts.jsonl"]
    for name in names:
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    build(folder / "three", **{**options, "batch_size": 3})
    for one, other in zip(datasets_manifest.open(folder / "one"), datasets_manifest.open(folder / "three")):
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_strength_is_drawn_for_each_positive_and_stored(folder):
    out = folder / "out"
    build(out, gen="toygen:diffuser_plain", views="sdedit:strength=.2-.9", num_positives=2, num_pairs=200)
    dataset = datasets_manifest.open(out)
    found = np.array([[pair["strength"], pair["strength_1"]] for pair in dataset])
    assert 0.2 <= found.min() < 0.25 and 0.85 < found.max() <= 0.9
    assert abs(np.corrcoef(found.T)[0, 1]) < 0.25
    pair = dataset[3]
    part = found[3, 1]
    wanted = (1 - part) * noise_of(3, 0).mean() + part * noise_of(3, 257).mean()
    assert abs(int(pair["positive_1"][0, 0, 0]) - level(wanted)) <= 1


def test_latents_that_are_not_stored_come_back(folder):
    options = {"gen": "toygen:diffuser_plain", "views": "angular:std=.4", "num_positives": 2}
    build(folder / "with", **options)
    build(folder / "without", **options, store_latents="no")
    kept, free = datasets_manifest.open(folder / "with"), datasets_manifest.open(folder / "without")
    assert [shard.latents_sha256 for shard in kept.manifest.shards] == [
        shard.latents_sha256 for shard in free.manifest.shards
    ]
    assert kept.manifest.id != free.manifest.id
    assert (folder / "without/shard-00000.beton").stat().st_size < (folder / "with/shard-00000.beton").stat().st_size
    for one, other in zip(kept, free):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert verify(folder / "without", "full") == []


def test_real_anchors_lie_beside_their_positives(folder, photos):
    out = folder / "out"
    build(out, gen="toygen:diffuser_classes", anchors=str(photos), views="sdedit:strength=.5", num_pairs=None)
    dataset = datasets_manifest.open(out)
    assert len(dataset) == 6 and list(dataset.manifest.classes) == ["a", "b"]
    rows = [json.loads(line) for line in (out / "sources.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png", "b/5.png"]
    for i, pair in enumerate(dataset):
        assert pair["source"] == i and "z_anchor" not in pair and pair["label"] == i // 3
        mixed = (pair["anchor"].astype(np.float32) / 127.5 - 1) * 0.5
        mixed[..., 0] += 0.5 * noise_of(i, 256).mean()
        mixed[..., 2] += 0.5 * (i // 3) / 50
        assert np.abs(pair["positive"].astype(int) - (127.5 * mixed + 128)).max() <= 1.01
    assert verify(out, "full") == []


def test_a_set_in_memory_gives_anchors_more_than_once(folder, photos):
    build(
        folder / "out",
        gen="toygen:diffuser",
        anchors=str(photos),
        views="unclip:noise_level=100-700",
        num_pairs=9,
        prompts=write(folder / "one.txt", "a photo\n"),
    )
    pairs = list(datasets_manifest.open(folder / "out"))
    assert [pair["source"] for pair in pairs] == [0, 1, 2, 3, 4, 5, 0, 1, 2]
    assert np.array_equal(pairs[0]["anchor"], pairs[6]["anchor"])
    assert not np.array_equal(pairs[0]["positive"], pairs[6]["positive"])
    levels = [pair["noise_level"] for pair in pairs]
    assert all(value == int(value) and 100 <= value <= 700 for value in levels) and len(set(levels)) > 5


def test_prompts_of_an_anchors_class_go_with_it(folder, photos):
    path = write(folder / "p.txt", "b\ta bee\na\tan ant\nb\tanother bee\n")
    build(folder / "out", gen="toygen:diffuser", anchors=str(photos), views="sdedit", prompts=path, num_pairs=None)
    dataset = datasets_manifest.open(folder / "out")
    assert [dataset.prompts[pair["prompt"]] for pair in dataset] == ["an ant"] * 3 + ["a bee", "another bee", "a bee"]


def write(path, text):
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gen": "toygen:diffuser"}, "prompts: this generator takes prompts: give a file of them"),
        ({"gen": "toygen:plain", "prompts": "PROMPTS"}, "prompts: this generator takes none"),
        ({"gen": "toygen:plain", "views": "sdedit"}, "views sdedit: needs a generator that denoises images"),
        ({"gen": "toygen:plain", "views": "unclip"}, "views unclip: needs a generator that is conditioned on images"),
        ({"gen": "toygen:plain", "views": "prompts"}, "views prompts: needs a generator that takes prompts"),
        ({"gen": "toygen:diffuser_plain", "views": "gaussian", "anchors": "PHOTOS"}, "real images have no latent"),
        ({"gen": "toygen:diffuser_plain", "views": "sdedit:strength=0"}, "strength=0, wanted numbers above 0"),
        ({"gen": "toygen:diffuser_plain", "views": "sdedit:strength=.8-.2"}, "wanted a number or LOW-HIGH from 0 to 1"),
        ({"gen": "toygen:diffuser_plain", "views": "unclip:noise_level=1000"}, "from 0 to 999"),
        ({"gen": "toygen:diffuser_plain", "views": "mix:sdedit=1"}, "sdedit is no part of another view"),
        ({"gen": "toygen:conditional", "views": "sdedit", "anchors": "PHOTOS"}, "views sdedit: needs a generator that"),
        (
            {"gen": "toygen:diffuser_plain", "views": "sdedit", "anchors": "nowhere"},
            "nowhere: neither a folder nor one",
        ),
        ({"gen": "toygen:diffuser_plain", "root": "x"}, "root: belongs to anchors"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(folder, prompts, photos, options, message):
    given = {key: {"PROMPTS": prompts, "PHOTOS": str(photos)}.get(value, value) for key, value in options.items()}
    with pytest.raises(GenRepError) as error:
        build(folder / "out", **given)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert not (folder / "out").exists() or not any((folder / "out").iterdir())


def test_prompts_of_no_group_have_no_others(folder):
    for text in ("a cat\na dog\n", "x\ta cat\na dog\n"):
        with pytest.raises(RecipeError, match="views prompts: needs prompts in groups"):
            build(folder / "out", gen="toygen:diffuser", prompts=write(folder / "p.txt", text), views="prompts")
    with pytest.raises(RecipeError, match="views prompts: group 'x' of prompts has one prompt, wanted two"):
        build(folder / "out", gen="toygen:diffuser", prompts=write(folder / "p.txt", "x\ta\n"), views="prompts")


def test_another_prompt_file_is_another_dataset(folder, prompts):
    build(folder / "out", gen="toygen:diffuser", prompts=prompts, views="independent")
    prompts.write_text(PROMPTS.replace("sofa", "bed"))
    with pytest.raises(GenRepError, match=r"holds another dataset \(prompts\.sha256"):
        build(folder / "out", gen="toygen:diffuser", prompts=prompts, views="independent")


def test_an_anchor_that_changes_during_the_build_is_named(folder, photos):
    out = folder / "out"
    build(out, gen="toygen:diffuser_plain", anchors=str(photos), views="sdedit", part="0/2", shard_size="2")
    Image.new("RGB", (9, 9)).save(photos / "a/4.png")
    with pytest.raises(GenRepError):
        build(out, gen="toygen:diffuser_plain", anchors=str(photos), views="sdedit", part="1/2", shard_size="2")


@pytest.mark.parametrize("kind", ["prompts", "anchors"])
def test_a_lost_shard_is_made_again_byte_for_byte(folder, prompts, photos, kind):
    out = folder / "out"
    given = {"prompts": prompts} if kind == "prompts" else {"anchors": str(photos)}
    gen = "toygen:diffuser" if kind == "prompts" else "toygen:diffuser_plain"
    build(out, gen=gen, views="sdedit:strength=.3-.6", **given)
    before = (out / "shard-00001.beton").read_bytes()
    (out / "shard-00001.beton").unlink()
    more = {"prompts": out / "prompts.jsonl"} if kind == "prompts" else {"anchors": str(photos)}
    repair(RepairConfig(folder=out, making=RegenerationConfig(gen=gen, **more)))
    assert (out / "shard-00001.beton").read_bytes() == before
    assert verify(out, "full") == []


def test_online_pairs_are_the_builders(folder, prompts, photos):
    for options in (
        {"gen": "toygen:diffuser", "prompts": prompts, "views": "prompts", "num_positives": 2},
        {"gen": "toygen:diffuser_plain", "anchors": str(photos), "views": "sdedit:strength=.1-.9"},
    ):
        out = folder / options["gen"].replace(":", "-")
        build(out, **options)
        source = open_online(**options)
        batch = source.batch(np.arange(8, 14))
        dataset = datasets_manifest.open(out)
        for row, pair in enumerate(dataset[i] for i in range(8, 14)):
            assert set(pair) == set(batch)
            for name, value in pair.items():
                value = np.float32(value) if isinstance(value, float) else value
                assert np.array_equal(batch[name][row].numpy(), value), name
