"""Tasks: each once, in order, in parallel; failures, stops and other runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genrep.files import locked_folder
from genrep.papers.tasks import scheduling
from genrep.papers.tasks.scheduling import Estimates, Scheduler, TimeEstimate, record_path, total_of
from genrep.papers.tasks.task import open_tasks, read_record

COUNT = "open('begun', 'a').write(out.name.rpartition('-')[0] + ' ')"
Make = Callable[..., Any]


def begun(out: Path) -> list[str]:
    return (out / "begun").read_text().split()


def quiet(line: str) -> None:
    pass


def test_what_two_need_is_made_once_and_first(stub: Make, slots: Make, tmp_path: Path) -> None:
    data = stub("data", COUNT, kind="dataset")
    one, two = stub("one", COUNT, data), stub("two", COUNT, data)
    # Another object with the same settings is the same task.
    again = stub("two", COUNT, stub("data", COUNT, kind="dataset"))
    (tmp_path / data.folder).mkdir(parents=True)
    outcome = Scheduler(tmp_path, slots(1), {}, quiet).run([one, two, again])
    # A dataset without a manifest that names its shards is not done, whatever its command says.
    assert begun(tmp_path) == ["data"] and data.folder in outcome.failed
    fit = stub("fit", COUNT, kind="fit")
    goals = [stub("one", COUNT, fit), stub("two", COUNT, fit), stub("two", COUNT, stub("fit", COUNT, kind="fit"))]
    assert not Scheduler(tmp_path, slots(1), {}, quiet).run(goals).failed
    assert begun(tmp_path)[1:] == ["fit", "one", "two"]
    assert not Scheduler(tmp_path, slots(1), {}, quiet).run(goals).failed
    assert len(begun(tmp_path)) == 4  # nothing is done again


def test_what_no_open_task_needs_is_not_made_again(stub: Make, slots: Make, tmp_path: Path) -> None:
    fit = stub("fit", COUNT, kind="fit")
    goal = stub("goal", COUNT, fit)
    Scheduler(tmp_path, slots(1), {}, quiet).run([goal])
    (tmp_path / fit.folder / "final").unlink()
    assert open_tasks([goal], tmp_path) == []
    (tmp_path / goal.folder / "final").unlink()
    assert [task.label for task in open_tasks([goal], tmp_path)] == ["fit", "goal"]


def test_a_failure_fails_what_needs_it_and_nothing_else(stub: Make, slots: Make, tmp_path: Path) -> None:
    bad = stub("bad", "print('Error: tool: no such file'); print('noise'); sys.exit(3)")
    after = stub("after", COUNT, bad)
    last = stub("last", COUNT, after)
    good = stub("good", COUNT)
    said: list[str] = []
    outcome = Scheduler(tmp_path, slots(1), {}, said.append).run([last, good])
    assert list(outcome.failed) == [bad.folder, after.folder, last.folder]
    assert outcome.failed[bad.folder].startswith("ended with status 3: tool: no such file (log: ")
    assert outcome.failed[last.folder] == f"not started: {after.folder} failed"
    assert [task.label for task in outcome.done] == ["good"] and begun(tmp_path) == ["good"]
    assert not read_record(record_path(tmp_path, bad))["finished"]


def test_a_command_that_ends_well_and_leaves_nothing_has_failed(stub: Make, slots: Make, tmp_path: Path) -> None:
    empty = stub("empty", "print('all fine'); os._exit(0)")
    outcome = Scheduler(tmp_path, slots(1), {}, quiet).run([empty])
    assert "status 0: " in outcome.failed[empty.folder]


@pytest.mark.parametrize("signal_class", [KeyboardInterrupt, SystemExit])
def test_a_stop_is_passed_on_and_the_same_call_goes_on(
    stub: Make, slots: Make, tmp_path: Path, signal_class: type[BaseException]
) -> None:
    code = """
if not (out / 'checkpoint').exists():
    def stop(*_):
        (out / 'checkpoint').write_text('here')
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    (out / 'ready').write_text('')
    time.sleep(60)
"""
    long = stub("long", code)
    after = stub("after", "assert pathlib.Path('" + long.folder + "/checkpoint').exists()", long)

    def stop_when_ready(line: str) -> None:
        while not (tmp_path / long.folder / "ready").exists():
            pass
        raise signal_class

    with pytest.raises(signal_class):
        Scheduler(tmp_path, slots(1), {}, stop_when_ready).run([after])
    assert (tmp_path / long.folder / "checkpoint").read_text() == "here"
    assert read_record(record_path(tmp_path, long))["finished"] is False
    outcome = Scheduler(tmp_path, slots(1), {}, quiet).run([after])
    assert [task.label for task in outcome.done] == ["long", "after"]
    record = read_record(record_path(tmp_path, long))
    assert (
        record["finished"] and len(record["pieces"]) == 2 and record["seconds"] == pytest.approx(sum(record["pieces"]))
    )


def test_a_task_that_does_not_end_is_killed_in_the_end(
    stub: Make, slots: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "GRACE", 0.3)
    stubborn = stub(
        "stubborn", "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n(out / 'ready').touch()\ntime.sleep(60)"
    )

    def stop_when_ready(line: str) -> None:
        while not (tmp_path / stubborn.folder / "ready").exists():
            pass
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Scheduler(tmp_path, slots(1), {}, stop_when_ready).run([stubborn])
    with locked_folder(tmp_path / "tasks" / stubborn.id):  # its process is gone
        pass


def test_slots_run_side_by_side_each_on_its_gpu(stub: Make, slots: Make, tmp_path: Path) -> None:
    code = """
(out / 'gpu').write_text(os.environ['CUDA_VISIBLE_DEVICES'] + ' ' + os.environ['PYTHONSAFEPATH'])
open('here-' + out.name.rpartition('-')[0], 'w').close()
until = time.monotonic() + 20
while len(list(pathlib.Path().glob('here-*'))) < 2 and time.monotonic() < until:
    time.sleep(.02)
assert len(list(pathlib.Path().glob('here-*'))) == 2
"""
    tasks = [stub("one", code), stub("two", code)]
    assert not Scheduler(tmp_path, slots(2), {}, quiet).run(tasks).failed
    assert {(tmp_path / task.folder / "gpu").read_text() for task in tasks} == {"0 1", "1 1"}


def test_another_runs_task_is_waited_for_and_its_result_taken(
    stub: Make, slots: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduling, "RETRY", 0.05)
    task = stub("shared", COUNT)
    holder = locked_folder(tmp_path / "tasks" / task.id)
    holder.__enter__()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        (tmp_path / task.folder).mkdir(parents=True)
        (tmp_path / task.folder / "final").touch()
        holder.__exit__(None, None, None)

    outcome = Scheduler(tmp_path, slots(1), {}, say).run([task])
    assert said == [f"{task.folder}: another process is working on it; waiting"]
    assert [one.label for one in outcome.done] == ["shared"] and not (tmp_path / "begun").exists()


def test_a_process_holds_its_task_even_when_its_scheduler_is_gone(stub: Make, slots: Make, tmp_path: Path) -> None:
    task = stub("orphan", "time.sleep(60)")
    scheduler = Scheduler(tmp_path, slots(1), {}, quiet)
    scheduler.waiting, scheduler.total = [task], 1
    scheduler._start()
    (one,) = scheduler.running
    one.held.close()  # what the end of the scheduler's process does
    with pytest.raises(Exception, match="another process is using"), locked_folder(tmp_path / "tasks" / task.id):
        pass
    one.process.kill()
    one.process.wait()


def test_estimates_are_of_the_same_kind_on_the_same_hardware(stub: Make, slots: Make, tmp_path: Path) -> None:
    task = stub("done", "")
    Scheduler(tmp_path, slots(1), {}, quiet).run([task])
    path = record_path(tmp_path, task)
    record = json.loads(path.read_text())
    assert record["device"] == "Stub GPU" and record["cores"] >= 1 and record["task"] == task.folder
    path.write_text(json.dumps({**record, "like": "train x", "units": 10.0, "seconds": 5.0}))
    (slot,) = slots(1)
    longer = type(task)(**_fields(task))
    assert Estimates(tmp_path, slot).seconds(longer) == pytest.approx(20.0)
    assert total_of(map(Estimates(tmp_path, slot).of, [longer, task])) == TimeEstimate(seconds=20.0, unknown=1)
    other = type(slot)(**{**vars(slot), "name": "Other GPU"})
    assert Estimates(tmp_path, other).seconds(longer) is None
    path.write_text(json.dumps({**record, "like": "train x", "units": 10.0, "finished": False}))
    assert Estimates(tmp_path, slot).seconds(longer) is None


def _fields(task: Any) -> dict[str, Any]:
    names = task.__dataclass_fields__
    return {**{name: getattr(task, name) for name in names}, "like": "train x", "units": 40.0}
