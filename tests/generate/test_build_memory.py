"""A build's memory does not grow with the number of its pairs."""

import json
import os
import subprocess
import sys
import textwrap

import pytest

PAIRS_PER_SHARD = 2_000  # what a process keeps of a shard is a matter of the shard, so all have one size
FEW, MANY = 20_000, 200_000
BUILD = """
    import json, re, shutil, sys
    from pathlib import Path
    from genrep.generate import BuildConfig, build_dataset, LatentSpec
    import torch


    class Null:
        latent, num_classes, image_shape = LatentSpec(dim=1), 0, (8, 8)
        image = torch.zeros(1, 3, 8, 8)

        def synthesize(self, z, y=None):
            return self.image.expand(len(z), -1, -1, -1)


    def peak_after(num_pairs, pairs_per_shard):
        out = Path("out")
        config = BuildConfig(
            gen="null_build:Null", out=out, num_pairs=num_pairs, shard_size=pairs_per_shard, batch_size=500,
            device="cpu", processes=1,
        )
        assert build_dataset(config).built_pairs == num_pairs
        shutil.rmtree(out)
        return 1024 * int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])


    if __name__ == "__main__":
        peaks = [peak_after(int(num_pairs), sys.argv[1]) for num_pairs in sys.argv[2:]]
        print(json.dumps(peaks))
"""


@pytest.mark.slow
def test_two_hundred_thousand_pairs_take_the_memory_of_twenty_thousand(tmp_path):
    (tmp_path / "null_build.py").write_text(textwrap.dedent(BUILD))
    run = subprocess.run(
        [sys.executable, "null_build.py", str(PAIRS_PER_SHARD), str(FEW), str(MANY)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=300,
    )
    few, many = json.loads(run.stdout)
    assert many <= 1.10 * few
    assert many - few <= 50 * (MANY - FEW), "the process is large before the first pair, so 10 % of it would hide much"


PLAN = """
    import json, sys, tracemalloc
    from pathlib import Path
    from genrep.generate import BuildConfig
    from genrep.generate.build.run import run_build
    from genrep.generate.build.shard import Job
    from genrep.generate.plans.resolve import make_plan
    from genrep.generate.recipes.recipe import load_recipe
    from genrep.generate.sources.open import OpenPairs
    from genrep.generate.weights.load import open_generator

    size = sys.argv[1] if len(sys.argv) > 1 else None
    config = BuildConfig(gen="toygen:plain", out=Path("out"), num_pairs=10_000_000, shard_size=size)
    recipe = load_recipe(config.gen)
    loaded = open_generator(recipe, None, "cpu")
    offered = []
    tracemalloc.start()
    plan = make_plan(config, recipe, loaded)
    job = Job(out=config.out, plan=plan, open_source=OpenPairs(config=config, plan=plan, device="cpu"), device="cpu", threads=1)
    report = run_build(job, lambda numbers: (("pairs", offered.append(number) or 0) for number in numbers))
    peak = tracemalloc.get_traced_memory()[1]
    assert offered == list(range(report.num_shards))
    print(json.dumps([report.done_shards, report.num_shards, peak]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("shard_size", "num_shards"), [("1000", 10_000), (None, 16)])
def test_a_plan_of_ten_million_pairs_takes_a_few_megabytes(toy_folder, shard_size, num_shards):
    # In a process of its own: in one that has run thousands of tests, Python's table of names may double meanwhile.
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PLAN), *([shard_size] if shard_size else [])],
        check=True,
        env={**os.environ, "PYTHONPATH": str(toy_folder), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        timeout=300,
    )
    done, shards, peak = json.loads(run.stdout)
    assert (done, shards) == (0, num_shards)
    assert peak < 12_000_000  # bytes
