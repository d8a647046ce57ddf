"""Members are grouped into stacks."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bikefit.config import ConfigError
from bikefit.processes import process_id
from bikefit.sweeps.jobs import Job
from bikefit.sweeps.stacks import count_slots, group_members, plan_stacks
from bikefit.training.checkpoints import LAST, TIMESTAMPS, CheckpointDir, MemberRuns
from bikefit.training.members import Member
from conftest import make_settings

ENDED = f"{process_id().rpartition('.')[0]}.1000000000"  # the number has been used since
QUICK = ["network.hidden=[4]", "training.epochs=2", "training.batch_size=64"]


def make_job(*overrides: str) -> Job:
    quick = QUICK[1:] if "network=custom" in overrides else QUICK
    return Job(make_settings(*quick, *overrides), " ".join(overrides))


def members_of(*jobs: Job) -> list[Member]:
    return [member for job in jobs for member in job.members]


def test_members_with_equal_shapes_share_stacks(workplace: Path) -> None:
    wide = [make_job("network.hidden=[8]", f"seed={s}") for s in (0, 1)]
    narrow = [make_job(f"regularization.l2={v}") for v in (0, 0.1, 1)]
    stacks = group_members(members_of(*wide, *narrow), processes=1, stack_size=8)
    assert stacks == [members_of(*wide), members_of(*narrow)]


def test_large_groups_are_divided_by_size_and_among_processes(workplace: Path) -> None:
    many = [make_job(f"seed={s}", f"regularization.l2={v}") for v in range(4) for s in range(2)]
    sizes = [len(s) for s in group_members(members_of(*many), processes=1, stack_size=3)]
    assert sorted(sizes) == [2, 3, 3]
    halves = group_members(members_of(*many), processes=2, stack_size=100)
    # members with the same seed stay together, because they share rows and noise
    assert [{member.settings.seed for member in stack} for stack in halves] == [{0}, {1}]


@pytest.mark.parametrize("wide", [["network.hidden=[64]"], ["network=custom"]])
def test_a_group_that_costs_more_than_its_share_is_divided(
    workplace: Path, wide: list[str]
) -> None:
    jobs = [make_job("network.hidden=[2]"), *(make_job(*wide, f"seed={seed}") for seed in range(6))]
    jobs.append(make_job("network.hidden=[3]"))
    assert sorted(len(s) for s in group_members(members_of(*jobs), processes=2)) == [1, 1, 3, 3]
    assert sorted(len(s) for s in group_members(members_of(*jobs), processes=1)) == [1, 1, 6]


@pytest.mark.slow
def test_small_networks_train_in_larger_stacks(workplace: Path) -> None:
    def sizes(*overrides: str) -> list[int]:
        jobs = [make_job(*overrides, f"regularization.l2={v}") for v in range(48)]
        return [len(s) for s in group_members(members_of(*jobs), processes=1)]

    # 4 bytes x (87 x 128 + 128 x 64 + 64 parameters + 256 rows x 128 units) = 204 KiB, of which
    # 3 MiB hold 15
    assert sizes("network.hidden=[128,64]", "training.batch_size=256") == [12] * 4
    assert sizes("network.hidden=[16]", "training.batch_size=256") == [48]
    assert sizes("network.hidden=[4096]", "training.batch_size=256") == [4] * 12


def test_stacks_on_a_gpu_have_up_to_512_members(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings("network.hidden=[4096]", "trainer.accelerator=gpu")
    jobs = [Job(settings.model_copy(update={"seed": seed}), str(seed)) for seed in range(600)]
    assert [len(s) for s in group_members(members_of(*jobs), processes=1)] == [300, 300]
    assert [len(s) for s in group_members(members_of(*jobs[:400]), processes=1)] == [400]
    assert [len(s) for s in group_members(members_of(*jobs[:400]), processes=2)] == [200, 200]
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert count_slots(jobs, None) == 2
    assert count_slots(jobs, 5) == 5
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(ConfigError, match=r"accelerator=gpu: .* no GPU here"):
        count_slots(jobs, None)


@pytest.fixture
def jobs(workplace: Path) -> dict[str, Job]:
    """Jobs whose members have the fingerprints a to e."""
    jobs = {name: make_job() for name in "abcde"}
    for name, job in jobs.items():
        job.members[0] = replace(job.members[0], fingerprint=name)
    return jobs


def directory(
    root: Path, jobs: dict[str, Job], names: str, epoch: int, process: str = ENDED
) -> None:
    """Make the folder of a stack, with a checkpoint."""
    members = [jobs[name].members[0] for name in names]
    made = CheckpointDir(root, members, MemberRuns(process=process))
    made.create()
    made.save({LAST: np.full(len(names), epoch), TIMESTAMPS: np.arange(epoch)})


@pytest.mark.parametrize(
    ("pending", "finished", "expected"),
    [
        ("abcde", "", ["bd", "ca", "e"]),
        ("abde", "c", ["bd", "ca", "e"]),  # c is trained again for the bits of a
        ("abde", "", ["ae", "bd"]),  # c is not pending: a starts again
        ("e", "ab", ["e"]),
    ],
)
def test_stacks_with_a_folder_have_the_same_members_again(
    jobs: dict[str, Job],
    pending: str,
    finished: str,
    expected: list[str],
    workplace: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    root = workplace / "checkpoints"
    directory(root, jobs, "ca", epoch=3)
    directory(root, jobs, "bd", epoch=2)
    stacks = plan_stacks([jobs[name] for name in pending], 1, 2, root, set(finished))
    assert sorted("".join(stack.fingerprints) for stack in stacks) == expected
    if len(expected) == 3:
        count = len(set("abcd") & set(pending))
        assert f"{count} members resume from checkpoints, after 2 to 3 epochs" in caplog.text


def test_a_folder_whose_members_are_finished_is_removed(
    jobs: dict[str, Job], workplace: Path
) -> None:
    root = workplace / "checkpoints"
    directory(root, jobs, "ca", epoch=3)
    plan_stacks([jobs["b"]], 1, None, root, {"c"})
    assert len(list(root.iterdir())) == 1
    plan_stacks([jobs["b"]], 1, None, root, {"a", "c"})
    assert not list(root.iterdir())


@pytest.mark.process
def test_a_folder_of_another_running_command_is_not_removed(
    jobs: dict[str, Job], workplace: Path
) -> None:
    """It trains its members again with `rerun=true`."""
    root = workplace / "checkpoints"
    code = "from bikefit.processes import process_id; print(process_id(), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdin and other.stdout
        directory(root, jobs, "ca", epoch=3, process=other.stdout.readline().strip())
        plan_stacks([jobs["b"]], 1, None, root, {"a", "c"})
        assert len(list(root.iterdir())) == 1
        other.stdin.close()
        other.wait()
        plan_stacks([jobs["b"]], 1, None, root, {"a", "c"})
    assert not list(root.iterdir())


def test_a_new_stack_belongs_to_this_process(jobs: dict[str, Job], workplace: Path) -> None:
    (stack,) = plan_stacks([jobs["b"]], 1, None, workplace / "checkpoints", set())
    assert stack.runs == MemberRuns(process=process_id())
