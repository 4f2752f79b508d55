"""Every table at every scale is a graph of commands that exist, and shares what can be shared."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path

import click
import pytest

from genrep.cli import invoke
from genrep.generate.cli import cli as generate
from genrep.generate.fits.config import NavigatorConfig
from genrep.generate.views.grammar import parse_view
from genrep.images.sets import DATASETS, list_split
from genrep.papers.cli import group as evaluate
from genrep.papers.figure3.__main__ import figure3
from genrep.papers.report.papers import find_row, published
from genrep.papers.reproduce.planning import TablePlan, make_plan
from genrep.papers.reproduce.reporting import delta_entries
from genrep.papers.reproduce.specs import SCALES, read_method, read_scale, read_table, table_names
from genrep.papers.tasks.scheduling import shipped_rates
from genrep.papers.tasks.subset import command as subset
from genrep.papers.tasks.task import Task, all_tasks
from genrep.train.cli import command as train
from genrep.train.config import TrainConfig
from genrep.train.objectives import option_names
from genrep.train.presets import preset

EVERY = [(table, scale) for table in table_names() for scale in SCALES]
GROUPS = {"genrep.generate": generate, "genrep.evaluate": evaluate}
COMMANDS = {"genrep.train": train, "genrep.papers.tasks.subset": subset, "genrep.papers.figure3": figure3}


@cache
def plan(table: str, scale: str) -> TablePlan:
    return make_plan(table, scale)


def words(task: Task, device: str = "cpu", root: str = "/data") -> list[str]:
    """What stands after the module."""
    return task.command({"root": root}, device)[3:]


def parsed(task: Task, root: str = "/data") -> click.Context:
    """The task's command line, read by the command that it is for."""
    module, *rest = task.verb.program
    if rest:
        (verb,) = rest
        parent = click.Context(GROUPS[module])
        found = GROUPS[module].get_command(parent, verb)
        assert found is not None, task.verb
        return found.make_context(verb, words(task, root=root)[1:])
    return COMMANDS[module].make_context(module, words(task, root=root))


def test_the_tables_of_the_issue_are_there() -> None:
    wanted = {*(f"genrep-table{i}" for i in range(1, 7)), *(f"genrep-fig{i}" for i in (5, 6, 8, 9)), "genrep-appd"}
    wanted |= {*(f"cop-gen-table{i}" for i in range(1, 6)), "cop-gen-linear-walk"}
    wanted |= {*(f"hl-table{i}" for i in range(1, 5)), *(f"hl-fig{i}" for i in (3, 5, 6, 7))}
    assert set(table_names()) == wanted


@pytest.mark.slow
@pytest.mark.parametrize(("table", "scale"), EVERY)
def test_every_command_reads_the_settings_that_its_task_holds(table: str, scale: str) -> None:
    for task in all_tasks(plan(table, scale).goals):
        context = parsed(task)
        assert "{" not in " ".join(words(task)), task.folder
        assert str(context.params["out"]) == task.out
        assert not task.verb.has_device or context.params["device"] == "cpu"
        default = click.core.ParameterSource.DEFAULT
        given = {name for name in context.params if context.get_parameter_source(name) is not default}
        names = {_option(task, name): name for name in task.given}
        assert given - {"device"} == {*names, "out"}, task.folder
        for name in names.keys() - {"preset"}:
            assert plain(context.params[name]) == plain(getattr(task.config, name)), (task.folder, name)


def _option(task: Task, name: str) -> str:
    """A protocol of one seed has ``seed``, others have ``seeds``."""
    return "seed" if name == "seeds" and not hasattr(task.config, name) else name


def plain(value: object) -> list[object]:
    """A setting, be it one or several, with paths as words."""
    several = value if isinstance(value, tuple) else (value,)
    return [one if isinstance(one, (int, float)) else str(one).replace("{root}", "/data") for one in several]


@pytest.mark.slow
@pytest.mark.parametrize(("table", "scale"), EVERY)
def test_every_training_is_one_that_can_be(table: str, scale: str) -> None:
    for task in all_tasks(plan(table, scale).goals):
        if task.kind != "run":
            continue
        context = parsed(task)
        given = dict(context.params)
        name = given.pop("preset")
        given.pop("dry_run")
        default = click.core.ParameterSource.DEFAULT
        settings = {key: value for key, value in given.items() if context.get_parameter_source(key) is not default}
        if "steps" in settings:
            settings["epochs"] = None
        config = TrainConfig(**{**given, **(preset(name) if name else {}), **settings})
        assert set(config.objective_options()) <= set(option_names(config.objective)), task.folder
        assert config.epochs or config.steps
        assert len(config.folders) == (0 if config.online else 2 if config.mix is not None else 1)
        assert not (config.positive == "anchor" and config.pixel_views == "none"), task.folder


def test_every_published_row_of_a_table_has_a_row() -> None:
    said = {key for table in table_names() for row in plan(table, "full").rows for key in row.spec.published or ()}
    assert all(find_row(key) for key in said)
    missing = {one.key for one in published() if one.paper in ("GenRep", "COP-Gen", "HL")} - said
    assert missing == {"genrep-section4.2/bigbigan-encoder"}  # an encoder that is not trained here


@pytest.mark.parametrize("scale", ["cpu", "small", "full"])
def test_views_without_learned_files_can_be_read(scale: str, tmp_path: Path) -> None:
    seen = set()
    for table in table_names():
        for task in all_tasks(plan(table, scale).goals):
            if "views" not in task.given:
                continue
            text = task.config.views
            if task.views is not None:
                (tmp_path / "views.toml").write_text(task.views)
                text = str(tmp_path / "views.toml")
            if not any(need.kind == "fit" and need.label.partition("-")[0] != "filter" for need in task.needs):
                seen.add(parse_view(text))
            elif task.views is None:
                assert all(need.folder in text for need in task.needs if not need.label.startswith("filter"))
            else:
                assert all(f'"../{need.folder}"' in task.views for need in task.needs)
    assert len(seen) >= 10


@pytest.mark.parametrize("table", ["genrep-table3", "hl-table2"])
def test_recipes_of_a_small_plan_resolve(
    table: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    datasets = [
        task
        for task in all_tasks(plan(table, "small").goals)
        if task.verb.name == "dataset" and not any(need.kind == "fit" for need in task.needs)
    ]
    fits = [task for task in all_tasks(plan(table, "small").goals) if task.kind == "fit"]
    assert datasets and fits
    for task in datasets + fits:
        assert invoke(generate, [*words(task), "--dry-run"]) == 0, capsys.readouterr().err


def test_tables_share_datasets_and_encoders() -> None:
    one, two = (all_tasks(plan(table, "small").goals) for table in ("genrep-table1", "cop-gen-table1"))
    shared = {task.id for task in one} & {task.id for task in two}
    kinds = [task.kind for task in one if task.id in shared]
    assert kinds.count("run") == 6 * 3  # real, none, Gaussian, steered, COP-Gen, supervised
    assert kinds.count("dataset") == 4 and kinds.count("fit") == 2
    figures = [{task.id for task in all_tasks(plan(name, "small").goals)} for name in ("genrep-fig5", "genrep-fig9")]
    rows = {row.spec.id: row for row in plan("genrep-table1", "small").rows}
    assert {run.id for name in ("real", "gauss", "supervised") for run in rows[name].runs} < figures[0]
    assert {run.id for name in ("real", "supervised") for run in rows[name].runs} < figures[1]
    data = [rows[name].runs[0].needs[0].id for name in ("none", "gauss", "gauss-only", "inverter")]
    assert len(set(data)) == 1  # they differ in what is done with the same pairs
    assert len({run.id for row in rows.values() for run in row.runs}) == 11 * 3


def test_equal_settings_have_one_folder_whatever_row_they_come_from() -> None:
    folders: dict[str, set[str]] = {}
    for table, scale in EVERY:
        for task in all_tasks(plan(table, scale).goals):
            folders.setdefault(task.digest, set()).add(task.folder)
    assert [names for names in folders.values() if len(names) > 1] == []


CONTRASTIVE = {"simclr", "simsiam", "supcon"}


@pytest.mark.parametrize(("table", "scale"), EVERY)
def test_every_comparison_of_encoders_has_its_baselines(table: str, scale: str) -> None:
    rows = [row.spec for row in plan(table, scale).rows if row.spec.data != "walk"]
    real = {read_method(row.method)["objective"] for row in rows if row.data == "real"}
    if rows:
        assert any(row.data == "none" for row in rows)
        assert CONTRASTIVE & real and "classifier" in real


@pytest.mark.parametrize("table", table_names())
def test_only_labelled_real_images_train_what_needs_labels(table: str) -> None:
    needs_labels = {"supcon", "classifier", "inverter-conditional"}
    for row in plan(table, "full").rows:
        if row.spec.data in ("real", "mixed") and read_method(row.spec.method)["objective"] in needs_labels:
            assert row.spec.real in DATASETS, row.spec.id


def test_baselines_are_the_encoders_of_other_tables() -> None:
    def runs(table: str, scale: str, row: str) -> list[str]:
        return [run.id for one in plan(table, scale).rows if one.spec.id == row for run in one.runs]

    for table in ("genrep-fig6", "genrep-appd"):
        assert runs(table, "cpu", "supervised") == runs("genrep-table1", "cpu", "supervised") != []
    assert runs("genrep-fig6", "cpu", "baseline-real") == runs("genrep-table1", "cpu", "real")
    assert runs("genrep-fig6", "full", "baseline-real") == runs("genrep-table4", "full", "real")
    assert runs("genrep-fig8", "full", "baseline-real") == runs("genrep-table5", "full", "real")
    assert runs("genrep-table6", "full", "baseline-real") == runs("genrep-table4", "full", "real")
    assert runs("genrep-table2", "full", "supervised") == runs("genrep-table1", "full", "supervised")
    assert runs("hl-fig6", "small", "baseline-real") == runs("hl-table2", "small", "real")


def test_hls_simclr_is_cop_gens_in_all() -> None:
    """HL, Table 2: framework, settings and evaluation are COP-Gen's; the rows with a star are COP-Gen's own."""
    rows = {row.spec.id: row for row in plan("hl-table2", "full").rows}
    cop_gen = {row.spec.id: row for row in plan("cop-gen-table1", "full").rows}
    for name, theirs in (("real", "real-simclr"), ("none", "none"), ("random", "gauss"), ("learned", "cop-gen")):
        assert [task.id for task in rows[f"simclr-{name}"].results] == [task.id for task in cop_gen[theirs].results]
    for name in ("simclr-hl-random", "simclr-hl-learned"):
        given = {task.verb.name: parsed(task).params["preset"] for task in rows[name].results}
        assert given == {"linear": "cop-gen", "detection": "cop-gen-96k"}
        (run,) = rows[name].runs
        assert parsed(run).params["preset"] == "hl-simclr" and parsed(run).params["pixel_views"] == "no-color"
    given = {task.verb.name: parsed(task).params["preset"] for task in rows["hl-random"].results}
    assert given == {"linear": "hl", "detection": "genrep-24k"}


HL_VIEWS = {"simclr", "no-color", "no-crop", "none"}


def sweep(table: str) -> set[tuple[str, str]]:
    rows = [row.spec for row in plan(table, "full").rows if row.spec.data == "generated"]
    return {(row.id.removesuffix(f"-{row.pixel_views}"), row.pixel_views or "") for row in rows}


def test_hls_figures_are_grids_over_pixel_views() -> None:
    """HL, Figures 5 to 7: σ of random views, and checkpoints of walks, each with every kind of pixel views."""
    values = {
        "hl-fig5": {"std-0.05", "std-0.2", "hl-std-0.8", "hl-std-1"},  # the best of each half, and those beside it
        "hl-fig6": {"hl-all", "hl-above-0"},
        "hl-fig7": {"std-0.15", "hl-car-all"},
    }
    for table, best in values.items():
        names = {name for name, _ in sweep(table)}
        assert best < names
        assert sweep(table) == {(name, kind) for name in names for kind in HL_VIEWS}
    samples = {
        parsed(need).params["samples"]: parsed(need).params["chunks"]
        for row in plan("hl-fig6", "full").rows
        if row.spec.id in ("hl-all-simclr", "hl-above-0-simclr")
        for need in row.runs[0].needs
    }
    assert samples == {60_000: None, 120_000: "1-5"}
    cars = {row.spec.id: row for row in plan("hl-fig7", "full").rows}
    (run,) = cars["std-0.15-none"].runs
    assert parsed(run).params["views"] == "gaussian:std=0.15,truncation=0.9"
    assert parsed(run).params["gen"] == "stylegan2_car_hl" and parsed(run).params["steps_per_epoch"] == 174
    assert parsed(cars["hl-car-all-simclr"].runs[0].needs[0]).params["samples"] == 32_000
    assert {word for task in cars["std-0.15-none"].results for word in task.arguments} >= {"stanford_cars", "100"}


def test_hls_walks_have_their_rates_and_see_112_pixels() -> None:
    found = {}
    for table in ("hl-table1", "hl-table3"):
        for task in all_tasks(plan(table, "full").goals):
            if task.verb.name == "fit-navigator":
                given = {name: value for name, value in parsed(task).params.items() if name != "dry_run"}
                config = NavigatorConfig.of_preset(given.pop("preset"), **given)
                found[f"{config.gen} {config.chunks or config.layers or 'all'}"] = (config.lr_walk, config.lr_f)
                assert (config.crop, config.pixel_views, config.batch_size) == (112, "none", 64)
    many, one = (1e-5, 3e-5), (8e-5, 5e-5)
    assert found == {
        **{f"bigbigan {chunk}": one for chunk in range(6)},
        **{"bigbigan all": many, "bigbigan 1-5": many, "stylegan2_car_hl all": many},
        **{f"stylegan2_car_hl {layers}": one for layers in ("0-3", "8-11", "12-15")},
    }


def test_finetuning_is_vissls_at_full_scale() -> None:
    row = plan("cop-gen-table2", "full").rows[0]
    given = [parsed(task).params for task in row.results if task.verb.name == "finetune"]
    lists = [str(one["subset"]) for one in given]
    assert lists == ["/data/1percent.txt", "/data/10percent.txt"]
    assert all((one["labels"], one["size"], one["crop"]) == (None, 256, 224) for one in given)


@pytest.mark.slow
@pytest.mark.parametrize("table", table_names())
def test_training_finds_the_real_images_where_evaluation_does(table: str, tmp_path: Path) -> None:
    wnids = [line.split("\t")[1] for line in (files("genrep.images") / "imagenet100.txt").read_text().splitlines()]
    for name in wnids:
        (tmp_path / "imagenet/train" / name).mkdir(parents=True)
        (tmp_path / "imagenet/train" / name / "1.JPEG").touch()
    (tmp_path / "lsun_car/train/car").mkdir(parents=True)
    (tmp_path / "lsun_car/train/car/1.jpg").touch()
    for task in all_tasks(plan(table, "full").goals):
        if task.verb.name in ("from-folder", "fit-filter"):
            given = parsed(task, str(tmp_path)).params
            assert list_split(given["data"], given["root"], "train").names, task.folder


def test_a_linear_evaluation_of_hl_has_five_seeds_of_one_encoder(tmp_path: Path) -> None:
    for table, verb in (("hl-table2", "linear"), ("hl-table3", "transfer"), ("hl-fig5", "linear")):
        found = make_plan(table, "full", seeds=(0, 7))
        row = next(
            row for row in found.rows if row.spec.data == "generated" and row.spec.method.startswith("hl-simsiam")
        )
        assert len(row.runs) == 2
        tasks = [task for task in row.results if task.verb.name == verb]
        assert [parsed(task).params["seeds"] for task in tasks] == [(0, 1, 2, 3, 4)] * 2
        assert [task.seed for task in found.goals] == sorted(task.seed or 0 for task in found.goals)
        random = next(row for row in found.rows if row.spec.data == "none").results
        assert len({task.id for task in random}) == len(random)
        # The file is there after the first seed.
        (tmp_path / tasks[0].folder).mkdir(parents=True)
        (tmp_path / tasks[0].folder / tasks[0].final).touch()
        assert not tasks[0].done(tmp_path)


def test_the_size_of_a_training_is_its_presets_if_it_says_none() -> None:
    rows = {row.spec.id: row.runs[0] for row in plan("genrep-appd", "full").rows if row.runs}
    assert {name: rows[name].units for name in ("gauss-5ep", "gauss-15ep", "gauss")} == {
        **{"gauss-5ep": 5.0, "gauss-15ep": 15.0, "gauss": 20.0}
    }
    assert rows["gauss-5ep"].like == rows["gauss"].like
    assert {run.units for row in plan("cop-gen-table1", "full").rows for run in row.runs} >= {100.0}


def test_what_was_measured_is_known_of_every_new_plan() -> None:
    rates = shipped_rates("cpu", 1)
    tasks = {task.kin: task for table, scale in EVERY for task in all_tasks(plan(table, scale).goals)}
    assert rates and not rates.keys() - tasks.keys()
    assert shipped_rates("cpu", 64) == rates and not shipped_rates("cuda", 1)


def test_a_part_of_the_samples_is_a_batch_at_least() -> None:
    for name in ("tiny", "cpu", "small"):
        scale = read_scale(name)
        parts = [row.limit * row.times for row in read_table("genrep-fig6", name).rows if row.limit]
        assert min(parts) * scale.num_pairs >= scale.batch_size


def test_all_rows_have_one_seed_before_any_has_two() -> None:
    order = [task.arguments[-1] for task in plan("genrep-table1", "small").goals]
    assert order == sorted(order) and set(order) == {"0", "1", "2"}


def test_folders_depend_on_settings_and_on_no_path(tmp_path: Path) -> None:
    task = plan("genrep-table1", "full").rows[0].runs[0]
    assert task.command({"root": "/a"}, "cpu") != task.needs[0].command({"root": "/b"}, "cuda")
    assert "/a" in task.needs[0].command({"root": "/a"}, "cpu")
    folders = [{run.folder for row in plan("genrep-fig5", "small").rows for run in row.runs}]
    folders.append({run.folder for row in make_plan("genrep-fig5", "small", seeds=(0, 1)).rows for run in row.runs})
    assert folders[1] < folders[0]
    file = tmp_path / "weights"
    runs = []
    for content in (b"one", b"two", b"one"):
        file.write_bytes(content)
        given = make_plan("genrep-table1", "small", weights={"stylegan2_fashion": file})
        runs.append(given.rows[3].runs[0].id)
    assert runs[0] == runs[2] != runs[1] != plan("genrep-table1", "small").rows[3].runs[0].id


def test_cifar_is_taken_when_its_generator_is_there(tmp_path: Path) -> None:
    file = tmp_path / "generator.safetensors"
    file.write_bytes(b"")
    given = make_plan("genrep-fig9", "small", weights={"stylegan2_cifar10": file})
    command = " ".join(word for task in all_tasks(given.goals) for word in task.arguments)
    assert "stylegan2_cifar10 --weights {weights:stylegan2_cifar10}" in command
    assert "--dataset cifar10" in command and "fashion" not in command
    conditional = make_plan("genrep-table3", "small", weights={"stylegan2_cifar10": file})
    assert any("stylegan2_fashion_cond" in task.arguments for task in all_tasks(conditional.goals))


def test_rows_of_one_scale_only() -> None:
    assert "chunk-4" in {row.id for row in read_table("hl-table1", "full").rows}
    assert "chunk-4" not in {row.id for row in read_table("hl-table1", "small").rows}
    assert {row.id for row in read_table("genrep-fig5", "small").rows} > {
        row.id for row in read_table("genrep-fig5", "full").rows if row.data == "generated"
    }


def test_sample_sweeps_have_equally_many_updates() -> None:
    scale = read_scale("small")
    rows = [row for row in plan("genrep-fig6", "small").rows if row.spec.data == "generated"]
    steps = {row.runs[0].config.steps for row in rows}
    assert steps == {scale.epochs * scale.num_pairs // scale.batch_size}
    assert len({row.runs[0].needs[0].id for row in rows}) == 1 and len({row.runs[0].id for row in rows}) == len(rows)


@pytest.mark.parametrize("table", ["genrep-fig6", "genrep-fig8"])
def test_sample_sweeps_are_of_a_hundred_classes(table: str) -> None:
    """GenRep, section 4.3 and appendix C.2.4: 130 K anchors are the base, transfer is to ImageNet-100."""
    rows = [row for row in plan(table, "full").rows if row.spec.data == "generated"]
    (data,) = {row.runs[0].needs[0].id: row.runs[0].needs[0] for row in rows}.values()
    given = parsed(data).params
    assert given["num_pairs"] == 1_300_000  # of which the rows take a part
    assert given["classes"] == ("imagenet100" if table == "genrep-fig8" else "all")
    parts = {row.spec.id: parsed(row.runs[0]).params["limit"] for row in rows}
    assert {name: round(1_300_000 * (part or 1)) for name, part in parts.items()} == {
        **{"times-0.1": 13_000, "times-0.5": 65_000, "times-1": 130_000, "times-2": 260_000},
        **{"times-5": 650_000, "times-10": 1_300_000},
    }
    assert {parsed(row.runs[0]).params["steps"] for row in rows} == {200 * (130_000 // 256)}
    measured = {word for row in plan(table, "full").rows for task in row.results for word in task.arguments}
    assert "imagenet100" in measured and "imagenet" not in measured


def test_delta_becomes_results() -> None:
    part = {"chunk": 1, "mean": 1.0, "std": 0.1, "min": 0.0, "max": 2.0}
    row = {"loss_f": 0.7, "samples": 64, "delta": part, "delta_per_chunk": [part], "weights_sha256": "ab"}
    content = {"rows": [row], "anchors": 10, "seed": 0, "device": "cpu", "seconds": 1.5}
    found = {entry["metric"]: entry["value"] for entry in delta_entries(content, "bigbigan")}
    assert found == {"loss of the estimator": 0.7, "samples": 64, "mean distance": 1.0, "std of distance": 0.1}
    row["delta_per_chunk"], row["loss_f"] = [part, {**part, "chunk": 2, "mean": 3.0}], None
    found = {entry["metric"]: entry["value"] for entry in delta_entries(content, "bigbigan")}
    assert found["mean distance in chunk 2"] == 3.0 and "loss of the estimator" not in found


def test_an_encoder_that_is_given_is_only_measured(tmp_path: Path) -> None:
    """GenRep, section 4.2: BigBiGAN's own encoder, 55.70 on ImageNet-100, at 256 px with batches of 128 and rate .3."""
    assert any("left out; it requires --encoder bigbigan=FILE" in text for text in plan("genrep-table4", "full").says)
    file = tmp_path / "encoder.pth"
    found = []
    for content in (b"one", b"two"):
        file.write_bytes(content)
        rows = make_plan("genrep-table4", "full", encoders={"bigbigan": str(file)}).rows
        (row,) = [row for row in rows if row.spec.id == "bigbigan-encoder"]
        assert not row.runs and [one.text for one in find_row((row.spec.published or ("",))[0])] == ["55.70"]
        found.append(row.results[0])
    assert found[0].id != found[1].id  # another file, another result
    words = found[0].command({"encoder:bigbigan": "/e.pth", "root": "/data"}, "cpu")
    assert words[words.index("--encoder") + 1] == "/e.pth"
    assert [words[words.index(name) + 1] for name in ("--size", "--batch-size", "--lr")] == ["256", "128", "0.3"]
    assert not any(row.spec.id == "bigbigan-encoder" for row in plan("genrep-table4", "small").rows)
