"""`check_environment` names each fault of a family of environments, and finds none in those without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import faulty
import pytest

from pgrun.envs.checkup.examine import check_environment
from pgrun.envs.checkup.findings import Report
from pgrun.errors import UserError

BREAKS, WARNS = True, False


def examined(id: str, kwargs: dict[str, Any] | None = None, **how: Any) -> Report:
    """A short examination."""
    return check_environment(id, kwargs or {}, **{"steps": 300, **how})


FAULTS: list[tuple[type, bool, tuple[str, ...]]] = [
    (faulty.Bounds, WARNS, ("observation of", "holds", "from -2 to 2")),
    (faulty.Type, WARNS, ("float64", "float32", "np.asarray")),
    (faulty.Listed, WARNS, ("a list of 2", "np.asarray")),
    (faulty.Shape, BREAKS, ("shape (3,)", "shape (2,)")),
    (faulty.NaN, BREAKS, ("holds nan", "at step 4 of episode 1")),
    (faulty.Choice, BREAKS, ("Discrete(3)", "observation of")),
    (faulty.Key, BREAKS, ("a dict of 'a'", "'a', 'b'")),
    (faulty.TupleSeen, BREAKS, ("observation_space", "Tuple", "can't be read: use Box")),
    (faulty.TextAct, BREAKS, ("action_space", "Text", "can't be taken: use Discrete")),
    (faulty.NoSpace, BREAKS, ("2 for its action_space", "gymnasium.spaces.Space")),
    (faulty.RewardText, BREAKS, ("reward", "'much'", "a number")),
    (faulty.RewardPair, BREAKS, ("reward", "shape (2,)", "a number")),
    (faulty.RewardArray, WARNS, ("reward", "shape (1,)", "float(reward)")),
    (faulty.RewardNaN, BREAKS, ("reward", "nan", "step 4", "finite")),
    (faulty.Scale, WARNS, ("rewards are as large as", "algo.normalize_reward=true")),
    (faulty.Tiny, WARNS, ("rewards are as small as", "algo.normalize_reward=true")),
    (faulty.Ends, BREAKS, ("terminated", "'no'", "True or False")),
    (faulty.Whole, WARNS, ("terminated", "it is 0", "bool(")),
    (faulty.Reset, BREAKS, ("reset()", "(observation, info)")),
    (faulty.OldReset, BREAKS, ("reset() of", "takes no seed and no options")),
    (faulty.OldStep, BREAKS, ("step()", "gym before 0.26")),
    (faulty.Info, BREAKS, ("step()", "a list of 1 for its info")),
    (faulty.Unseeded, BREAKS, ("same seed", "another observation", "self.np_random")),
    (faulty.Globals, WARNS, ("random generators", "self.np_random")),
    (faulty.Left, BREAKS, ("same seed", "reward differs", "reset all attributes")),
    (faulty.Constructed, BREAKS, ("another copy", "reward differs")),
    (faulty.Shared, BREAKS, ("two copies", "stepped beside it", "not of the class")),
    (faulty.NoSuper, WARNS, ("super().reset(seed=seed)",)),
    (faulty.Alias, WARNS, ("it changed afterwards", "return a copy")),
    (faulty.Unbounded, WARNS, ("without finite bounds", "finite low and high")),
    (faulty.Wide, WARNS, ("spread over all of that", "ClipAction")),
    (faulty.Endless, WARNS, ("no episode ended", "env.max_episode_steps=N")),
    (faulty.Raises, BREAKS, ("ZeroDivisionError: by zero", "at step 4")),
    (faulty.Writes, WARNS, ("writes into the action",)),
    (faulty.WritesDeep, WARNS, ("writes into the action",)),
    (faulty.UnboundedPart, WARNS, ("action_space['push']", "without finite bounds")),
    (faulty.Held, WARNS, ("its state can't be saved (Held.numbers", "snapshot()")),
    (faulty.MaskWidth, BREAKS, ("info['action_mask']", "mask of 2 numbers")),
    (faulty.MaskNone, BREAKS, ("forbids every action", "at least one")),
    (faulty.MaskGone, BREAKS, ("mask", "None")),
]
QUICK = (faulty.Alias,)  # of the warnings, before which all is examined


@pytest.mark.parametrize(
    ("kind", "breaks", "words"),
    [pytest.param(*fault, marks=[] if fault[1] or fault[0] in QUICK else pytest.mark.slow) for fault in FAULTS],
    ids=[fault[0].__name__ for fault in FAULTS],
)
def test_a_fault_is_named_and_nothing_else(kind: type, breaks: bool, words: tuple[str, ...]) -> None:
    report = examined(faulty.name(kind))
    (finding,) = report.findings
    assert finding.breaks == report.breaks == breaks
    line = f"{finding.where}: {finding.what}; {finding.right}"
    for word in words:
        assert word in line, line
    assert "\n" not in line


GOOD = ["CartPole-v1", "Pendulum-v1", "MountainCar-v0", "Acrobot-v1", "Taxi-v4", "FrozenLake-v1"]


@pytest.mark.parametrize(
    "id",
    [
        *(pytest.param(id, marks=pytest.mark.slow) for id in GOOD),
        *map(faulty.name, (faulty.MaskSeen, faulty.Several, faulty.TupleAct, faulty.DictAct)),
        *(
            pytest.param(faulty.name(kind), marks=pytest.mark.slow)
            for kind in (faulty.Good, faulty.Masked, faulty.Nested, faulty.Bits, faulty.DeepAct, faulty.Image)
        ),
        "faulty:Drift",
    ],
)
def test_no_false_alarm(id: str) -> None:
    report = examined(id)
    assert report.findings == []
    assert report.observations
    assert report.actions
    assert report.action_space is not None


@pytest.mark.slow
@pytest.mark.parametrize("id", ["HalfCheetah-v5", "Ant-v5", "Humanoid-v5"])
def test_no_false_alarm_of_mujoco(id: str) -> None:
    pytest.importorskip("mujoco")
    assert examined(id).findings == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("id", "kwargs", "limit"),
    [
        ("pgrun.envs.worlds:CartPole", {"masked": []}, 500),
        ("pgrun.envs.worlds:Pendulum", {"masked": ["theta_dot"]}, 200),
        ("pgrun.envs.goals:BimodalBandit", {"modes": [-0.5, 0.5], "width": 0.2}, None),
        (
            "pgrun.envs.worlds:SparseReach",
            {"start": [-0.8, -0.8], "spread": 0.1, "goal": [0.8, 0.8], "radius": 0.15, "step": 0.05},
            60,
        ),
        ("mpe2.simple_spread_v3", {}, None),
        ("mpe2.simple_tag_v3", {}, 20),
    ],
)
def test_no_false_alarm_of_batches(id: str, kwargs: dict[str, Any], limit: int | None) -> None:
    if id.startswith("mpe2"):
        pytest.importorskip("mpe2")
    report = examined(id, kwargs, max_episode_steps=limit, steps=150)
    assert report.findings == []
    assert report.actions


@pytest.mark.parametrize(
    ("kind", "breaks", "words"),
    [
        (faulty.DriftWrites, BREAKS, ("writes into the state", "return a new tensor")),
        (faulty.DriftWide, BREAKS, ("reward of step()", "(3, 1)", "return (3,)")),
        (
            faulty.DriftTuple,
            BREAKS,
            ("step(): it returned a tuple of 3; return Outcome(state, reward=…",),
        ),
        (faulty.DriftEnds, BREAKS, ("terminated of step()", "torch.float32", "return torch.bool")),
        (faulty.DriftUnseen, BREAKS, ("observe(): it raises NotImplementedError",)),
        (faulty.DriftBare, BREAKS, ("has no observe() of its own",)),
        (faulty.DriftRow, BREAKS, ("state of initial()", "(1,) for 3 copies")),
        (faulty.DriftFlat, BREAKS, ("observation of observe()", "(3,)", "return (3, 1)")),
        (faulty.DriftGlobal, WARNS, ("random generators", "the generator that is given")),
        (faulty.DriftNaN, BREAKS, ("reward", "not finite")),
    ],
)
def test_a_fault_of_a_world(kind: type, breaks: bool, words: tuple[str, ...]) -> None:
    (finding,) = examined(f"faulty:{kind.__name__}").findings
    assert finding.breaks == breaks
    line = f"{finding.where}: {finding.what}; {finding.right}"
    for word in words:
        assert word in line, line


@pytest.mark.slow
def test_several_faults_are_all_told() -> None:
    report = examined(faulty.name(faulty.Many))
    assert len(report.findings) == 3
    assert not report.breaks


@pytest.mark.slow
def test_a_limit_that_is_set_is_no_fault() -> None:
    assert examined(faulty.name(faulty.Endless), max_episode_steps=20).findings == []


def test_what_is_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_on_import.py").write_text("1 / 0\n")
    (tmp_path / "ends_on_import.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "lacks_on_import.py").write_text("import surely_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    for id, words in (
        ("CartPole-v9", "CartPole-v1"),
        ("Cartpole", "CartPole-v1"),
        ("nowhere_at_all:X-v0", "no module nowhere_at_all"),
        ("faulty:Nothing-v0", "not a registered"),
        ("faulty:Nothing", "not a registered"),
        ("broken_on_import:X-v0", "ZeroDivisionError: division by zero"),
        ("ends_on_import:X-v0", "ends the process"),
        ("lacks_on_import:X-v0", "surely_not_there"),
        (faulty.name(faulty.Fails), "RuntimeError: no licence"),
        ("", "not a registered"),
    ):
        with pytest.raises(UserError) as refused:
            examined(id)
        assert words in str(refused.value), refused.value
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="takes no argument 'size'"):
        examined("CartPole-v1", {"size": 3})
