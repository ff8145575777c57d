"""The curriculum over an environment's arguments."""

from __future__ import annotations

import pytest
from hooked import CORRIDOR, SMALL, curve
from resumable import finish
from running import compose, new_run, same

from pgrun.errors import UserError
from pgrun.hooks.curriculum import Curriculum
from pgrun.run import checkpoint
from pgrun.run.build import build

STAGES = "hooks.curriculum.stages=[{steps: 192, kwargs: {length: 6}}, {return: 6, kwargs: {length: 10}}]"
OF_FIVE = ("+hook=curriculum", STAGES, "hooks.curriculum.episodes=5")


@pytest.mark.slow
def test_episodes_are_longer_from_stage_to_stage(tmp_path):
    result = new_run(tmp_path, *CORRIDOR, *OF_FIVE).execute()
    lengths = dict(curve(tmp_path, "train/episode_length"))
    assert {lengths[64], lengths[128]} == {4.0}
    assert 4.0 < lengths[256] <= 6.0  # each copy changed where its own episode ended
    assert lengths[640] == 10.0
    stages = curve(tmp_path, "curriculum/stage")
    assert stages[0] == (192, 1.0)
    assert stages[1][1] == 2.0
    assert 192 < stages[1][0] < 640
    assert result["eval_return_mean"] == 4.0  # evaluation's are as the config says


BACKENDS = {
    "sync": (),
    "next step": ("env.autoreset=next_step",),
    "async": ("env.backend=async", "num_envs=2"),
    "episodes": ("algo=reinforce", "algo/baseline=none"),
    "shaped": ("env/shaping=coordinate",),
}


@pytest.mark.parametrize("name", ["sync", *(pytest.param(x, marks=pytest.mark.slow) for x in [*BACKENDS][1:])])
def test_a_resumed_run_goes_on_in_its_stage(name, tmp_path):
    overrides = (*CORRIDOR, *OF_FIVE, *BACKENDS[name])
    overrides = tuple(x for x in overrides if name != "episodes" or not x.startswith(("algo.rollout", "algo=a2c")))
    whole = new_run(tmp_path / "whole", *overrides)
    want = finish(whole)
    steps = sorted(whole.checkpoints.glob("step_*.pt"), key=lambda path: int(path.stem[5:]))
    assert len(steps) >= 4
    for path in steps[1:2] if name == "sync" else steps[:-1]:
        got = finish(new_run(tmp_path / path.stem, *overrides, resume=checkpoint.load(path)))
        assert not [key for key in want if not same(want[key], got[key])], path.name


@pytest.mark.slow
def test_without_the_environments_state_it_begins_in_its_stage(tmp_path):
    run = new_run(tmp_path / "a", *CORRIDOR, *OF_FIVE)
    run.execute()
    state = checkpoint.load(run.checkpoints / "step_256.pt")
    state["collector"]["env"] = None
    new_run(tmp_path / "b", *CORRIDOR, *OF_FIVE, resume=state).execute()
    assert min(length for _, length in curve(tmp_path / "b", "train/episode_length")) >= 6.0


WRONG = {
    "[{steps: 1, kwargs: {lenth: 3}}]": "stages[0]: env.kwargs: corridor:HookCorridor-v0 takes no argument 'lenth' (",
    "[{steps: 1, kwargs: {wide: true}}]": "stages[0] gives the environments other spaces",
    "[{steps: 1, kwargs: {length: 3}, when: 4}]": "stages[0] has a key 'when': write {steps: 20000, kwargs: ",
    "[{kwargs: {length: 3}}]": "stages[0] needs kwargs, and either steps or return",
    "[{steps: soon, kwargs: {length: 3}}]": "stages[0] begins at 'soon', which is no number",
    "[]": "it needs stages, as ",
}


@pytest.mark.parametrize(
    "stages", [*list(WRONG)[:2], *(pytest.param(x, marks=pytest.mark.slow) for x in list(WRONG)[2:])]
)
def test_wrong_stages_are_refused(stages):
    with pytest.raises(UserError) as caught:
        build(compose(*CORRIDOR, "+hook=curriculum", f"hooks.curriculum.stages={stages}"))
    assert str(caught.value).startswith(f"hooks.curriculum: {WRONG[stages]}")


@pytest.mark.parametrize(
    ("env", "why"),
    [
        ("env=cartpole", "can't change their arguments (its copies are one object, and can't be made anew one by one"),
        pytest.param("env=lqr", "its copies can't be made anew one by one", marks=pytest.mark.slow),
    ],
)
def test_environments_that_can_not_change_are_refused(env, why):
    with pytest.raises(UserError) as caught:
        build(compose(*SMALL, env, *OF_FIVE))
    assert why in str(caught.value)


def test_a_stage_by_return_waits_for_enough_episodes():
    hook = Curriculum(stages=[{"return": 2.0, "kwargs": {}}], episodes=3)
    hook.returns.extend([5.0, 5.0])
    assert not hook.due(hook.stages[0], None)  # type: ignore[arg-type]
    hook.returns.extend([0.0])
    assert hook.due(hook.stages[0], None)  # type: ignore[arg-type]
