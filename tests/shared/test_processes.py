"""One process alone, and environments that torchrun did not make."""

from __future__ import annotations

import pytest
import torch

from genrep.errors import TrainingError
from genrep.runs.processes import join


def test_a_process_alone_is_the_first_of_one() -> None:
    with join("cpu") as processes:
        assert (processes.rank, processes.size, processes.first, processes.device.type) == (0, 1, True, "cpu")
        assert processes.first_does(lambda: "answer") == "answer"
        assert processes.mean(torch.tensor([2.0])).tolist() == [2.0]
        assert processes.agree(True) and not processes.agree(False)


def test_a_world_without_an_address_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match=r"^WORLD_SIZE is 2, but MASTER_ADDR is not set"), join("cpu"):
        pass
