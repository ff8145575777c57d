"""Every algorithm with every Ψ_t: it trains, or one line says what would be right."""

import pytest
import torch
from combinations import ADVANTAGES, BASELINES, Combination, algorithms, cell, sample
from running import compose

from pgrun.loop.train import Clock, train
from pgrun.run.build import build

SMALL = ("num_envs=2", "network.hidden=[8]")


def try_out(combination):
    """Train for two updates, or see it refused; whether it was trained."""
    extra = combination.needs()
    if extra is None:
        words = combination.refusal("collector=episodes") or combination.refusal()
        assert "\n" not in words
        assert "use " in words
        return False
    rollout = () if "collector=episodes" in extra or combination.algo == "reinforce" else ("algo.rollout=8",)
    parts = build(compose(*combination.overrides(), *extra, *rollout, *SMALL))
    before = [p.detach().clone() for p in parts.algorithm.model.actor.parameters()]
    clock = Clock(1_000_000)

    def stop(clock, metrics):
        clock.stop = "enough" if clock.updates >= 2 else ""

    train(parts.algorithm, parts.collector, parts.memory, clock, [stop])
    parts.collector.env.close()
    after = list(parts.algorithm.model.actor.parameters())
    assert all(bool(p.isfinite().all()) for p in parts.algorithm.parameters())
    assert any(not torch.equal(p, q) for p, q in zip(before, after, strict=True))
    return True


@pytest.mark.slow
def test_a_sample_of_all():
    whole = sample()
    some = [*whole[1::2], *whole[::4]]  # each algorithm once, and half of them a second time
    assert {each.algo for each in some} == set(algorithms())
    assert {each.advantage for each in some} == set(ADVANTAGES)
    assert {each.baseline for each in some} == set(BASELINES)
    trained = [try_out(each) for each in some]
    assert 10 <= sum(trained) <= len(trained) - 3


@pytest.mark.slow
@pytest.mark.parametrize("algo", algorithms())
def test_all(algo):
    trained = [try_out(Combination(algo, advantage, baseline)) for advantage in ADVANTAGES for baseline in BASELINES]
    assert 16 <= sum(trained) <= 21


@pytest.mark.parametrize(
    ("algo", "advantage", "baseline", "needs"),
    [
        ("reinforce", "reward_to_go", "optimal, per parameter", ()),
        ("trpo", "nstep", "value", ()),
        ("ppo", "td", "value", ()),
        ("a2c", "total_return", "average", ("collector=episodes",)),
        ("actor_critic", "ones", "none", ()),
        ("reinforce", "ones", "none", ("algo.normalize=none",)),
        ("ppo", "reward_to_go", "optimal, per parameter", None),
        ("reinforce", "td", "none", None),
        ("reinforce", "q", "average", None),
    ],
)
def test_what_has_to_be_added(algo, advantage, baseline, needs):
    assert Combination(algo, advantage, baseline).needs() == needs


def test_a_learned_q_is_of_discrete_actions_and_of_continuous_ones():
    assert Combination("actor_critic", "q", "value").needs() == ()
    assert Combination("actor_critic", "q", "value", "pendulum").needs() == ()


def test_a_cell_of_the_table():
    episodes = ("collector=episodes",)
    assert cell({"a": (), "b": ()}) == "all"
    assert cell({"a": (), "b": None, "c": episodes}) == "all but b"
    assert cell({"a": episodes, "b": None, "c": None}) == "a¹"
    assert cell({"a": None}) == "–"
