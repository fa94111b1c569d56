"""How the processes of a command find and tell each other."""

from __future__ import annotations

import pytest
from worlds import in_world

from audiointerp.processes.world import ToldElsewhere, World, current, found
from audiointerp.training.devices import pick_device

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
SRUN = {"SLURM_PROCID": "5", "SLURM_NTASKS": "7", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "7"}
NODES = {"SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}


def test_the_variables_of_torchrun_and_srun():
    assert found(TORCHRUN) == World(5, 8, 1, 4)
    assert found({"RANK": "1", "WORLD_SIZE": "2"}) == World(1, 2, 1, 2)
    assert found(SRUN | NODES) == World(5, 7, 1, 2)
    assert found(SRUN | NODES | {"SLURM_NODEID": "3", "SLURM_PROCID": "6", "SLURM_LOCALID": "0"}) == World(6, 7, 0, 1)


def test_one_process():
    batch_script = {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_LOCALID": "0"}
    for environment in ({}, {"RANK": "0", "WORLD_SIZE": "1"}, batch_script):
        assert found(environment) is None
    assert current() == World() and current().first and not current().others


@pytest.mark.parametrize("changed", [{"RANK": "x"}, {"RANK": "8"}, {"LOCAL_RANK": "4"}, {"RANK": "-1"}])
def test_variables_that_cannot_be(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        found(TORCHRUN | changed)


def test_alone_a_world_adds_nothing():
    assert World().once(lambda: "value") == "value" and World().gather([1]) == [[1]]
    with pytest.raises(KeyError):
        World().once({}.popitem)


def tell_each_other() -> list:
    world, calls = current(), []
    values = [world.once(lambda: calls.append(1) or {"rank": world.rank}), world.gather(10 * world.rank)]
    values += [world.gather(world.rank + turn) for turn in range(3)]
    try:
        world.once(lambda: int("seven"))
    except ToldElsewhere as error:
        values.append(f"told: {error}")
    except ValueError as error:
        values.append(f"own: {error}")
    return [*values, len(calls)]


@pytest.mark.slow
def test_what_processes_tell_each_other():
    same = [{"rank": 0}, [0, 10, 20], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    why = "invalid literal for int() with base 10: 'seven'"
    assert in_world(3, tell_each_other) == [
        [*same, f"own: {why}", 1],
        [*same, f"told: {why}", 0],
        [*same, f"told: {why}", 0],
    ]


def test_devices_of_several_processes(monkeypatch):
    monkeypatch.setattr("audiointerp.training.devices.current", lambda: World(5, 8, 1, 4))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    assert [str(pick_device(name)) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    with pytest.raises(ValueError, match=r"'cuda:1' is one device, and 8 processes"):
        pick_device("cuda:1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    with pytest.raises(ValueError, match="4 processes need a GPU each: torch finds 3"):
        pick_device("auto")
