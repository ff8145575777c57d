"""The ladder of probes: good recipes climb it, broken ones fail where they should."""

from __future__ import annotations

import gymnasium as gym
import pytest
from running import compose

from pgrun.after.doctor.probe import advise, climb, probed_on
from pgrun.envs.probes import LADDER

GOOD = ("algo=ppo", "env=cartpole", "network.hidden=[32,32]", "optimizer.lr=1e-3", "tuned=none")


@pytest.mark.parametrize("rung", LADDER, ids=lambda rung: rung.name)
def test_what_a_rung_takes_for_learnt_is_what_its_best_policy_earns(rung: object) -> None:
    """Every policy that acts by the step alone, and by the sign: the best by algebra is inside, others are not."""
    returns = {}
    for plan in range(2**4):
        total, env = 0.0, gym.make(rung.id)  # type: ignore[attr-defined]
        for seed in range(8):
            obs, _ = env.reset(seed=seed)
            over, t = False, 0
            while not over:
                bit = int(obs[0] > 0) if rung.name == "match" else t  # type: ignore[attr-defined]
                obs, reward, terminated, truncated, _ = env.step(plan >> bit & 1)
                over, t = terminated or truncated, t + 1
                total += float(reward) / 8
        returns[plan] = total
    learnt = {plan for plan, x in returns.items() if rung.least <= x <= rung.most}  # type: ignore[attr-defined]
    best = max(returns.values()) if rung.name != "limit" else 4.0  # type: ignore[attr-defined]
    assert {plan for plan, x in returns.items() if x == best} <= learnt
    assert len(learnt) <= 8  # no more than every second plan


@pytest.mark.slow
def test_a_good_recipe_climbs_to_the_top() -> None:
    probed = list(climb(compose(*GOOD), reward_scale=1.0, obs_scale=1.0, seconds=300.0))
    assert [p.passed for p in probed] == [True] * len(LADDER), [p.line() for p in probed]


def test_a_recipe_that_does_not_move_fails_on_the_first_rung() -> None:
    config = compose(*GOOD, "optimizer.lr=1e-12", "algo.rollout=1024")
    probed = list(climb(config, reward_scale=1.0, obs_scale=1.0, seconds=10.0))
    assert len(probed) == 1
    assert (probed[0].rung, bool(probed[0].passed)) == ("choice", False)


@pytest.mark.slow
def test_a_short_sight_fails_where_rewards_come_later() -> None:
    config = compose(*GOOD, "algo.gamma=0.0", "algo.advantage.lambda_=0.0")
    probed = list(climb(config, reward_scale=1.0, obs_scale=1.0, seconds=120.0))
    assert [p.passed for p in probed][:2] == [True, True]
    assert (probed[-1].rung, probed[-1].passed) == ("later", False)


def test_a_recipe_that_sees_images_is_said_to_be_untried() -> None:
    config = compose("algo=ppo", "env=cartpole", "network=cnn")
    probed = list(climb(config, reward_scale=1.0, obs_scale=1.0, seconds=5.0))
    assert probed[0].passed is None
    assert "can't be tried" in probed[0].note


def test_a_rung_that_is_not_learnt_says_what_was_asked_and_found() -> None:
    limit, later = LADDER[3], LADDER[2]
    probed = probed_on(limit, False, 6.0, 40_000, limit.above)
    assert "return 6.00 after 40,000 steps, the best is 4, needed 3.5 to 4.4: it stops at once" in probed.line()
    assert (probed.record()["best"], probed.record()["least"], probed.record()["most"]) == (4.0, 3.5, 4.4)
    assert "needed" not in probed_on(limit, True, 4.0, 40_000).line()
    passed = [probed_on(rung, True, rung.best, 100) for rung in LADDER]
    ppo = compose("algo=ppo", "env=cartpole")
    assert advise(ppo, tuple(passed), 1.0, after_findings=True) == ""
    said = advise(ppo, (*passed[:3], probed), 1000.0, after_findings=True)
    assert "None" not in said
    assert said.startswith("the findings above come first; then, as limit is not learnt, look at the learning rate (")
    assert "the size of the rewards (the probes' are those of the run: 1e+03 for 1; algo.normalize_reward=" in said
    failed = (*passed[:2], probed_on(later, False, 0.2, 40_000))
    assert "algo.advantage.lambda_=" in advise(ppo, failed, 1.0, after_findings=False)
    assert "n_step" not in advise(ppo, failed, 1.0, after_findings=False)  # which it doesn't have
    assert "memory.n_step=" in advise(compose("algo=d4pg", "env=pendulum"), failed, 1.0, after_findings=False)
