"""ACKTR learns what is known by algebra; K-FAC itself is tested in tests/test_kfac.py."""

import pytest
from probes import Trained, run

GAMMA = 0.8
LEARN = (
    *("algo=acktr", "network.hidden=[32,32]", "env=gym", f"algo.gamma={GAMMA}", "num_envs=8", "algo.rollout=5"),
    *("optimizer.schedule=linear", "optimizer.max_kl=0.003", "total_steps=6000"),
)


def trained(probe, *overrides):
    return Trained(run(*LEARN, f"env.id=Probe{probe}-v0", *overrides)[0].algorithm)


def test_it_learns_the_values():
    assert trained("Two").value([0.0], [1.0]) == pytest.approx([GAMMA, 1.0], abs=0.06)


@pytest.mark.slow
def test_a_time_limit_is_bootstrapped_from_the_true_successor():
    value = trained("Phases").value([1.0, 0.0], [0.0, 1.0])
    assert value == pytest.approx([1.0 / (1.0 - GAMMA**2), GAMMA / (1.0 - GAMMA**2)], abs=0.15)


@pytest.mark.slow
def test_it_takes_the_action_that_pays():
    assert trained("Match").action([1.0], [-1.0]) == [1, 0]


@pytest.mark.slow
def test_it_finds_the_number_that_pays():
    calm = ("+env.kwargs.continuous=true", "network.log_std_init=-1", "algo.normalize=batch", "optimizer.lr=0.1")
    agent = trained("Match", *calm, "total_steps=8000")
    assert agent.action([1.0], [-1.0]) == pytest.approx([0.5, -0.5], abs=0.1)
