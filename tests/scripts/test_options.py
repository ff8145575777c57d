"""Each option with each algorithm: a few updates, or a refusal in one line."""

import options
import pytest
import torch
from recipes import ALGORITHMS, sampled

from pgrun.loop.train import Clock, train


def few_updates(parts):
    clock = Clock(120)
    train(parts.algorithm, parts.collector, parts.memory, clock, [], update=parts.update)
    assert clock.updates > 0
    assert all(p.isfinite().all() for p in parts.algorithm.parameters())
    assert all(torch.isfinite(torch.tensor(value)) for value in parts.algorithm.schedules().values())


@pytest.mark.parametrize("algo", sampled(ALGORITHMS, ()))
def test_an_option_trains_or_is_refused_in_one_line(algo):
    uses = {"compiled steps": lambda parts: None}  # tests/optim/test_compiled.py trains them
    if algo not in options.algorithms():  # it needs demonstrations
        assert "demonstrations" in options.try_out(algo, options.PLAIN).refusal
        return
    trials = {option: options.try_out(algo, option, uses.get(option, few_updates)) for option in options.OPTIONS}
    assert any(trial.env for trial in trials.values())
    for trial in trials.values():
        assert "\n" not in trial.refusal


def test_an_option_is_built_refused_or_unknown():
    assert options.try_out("a2c", "entropy bonus by a schedule").env == "env=cartpole"
    assert "sequences" in options.try_out("td3", "a network with a memory").refusal
    assert options.try_out("td3", "entropy bonus by a schedule") == options.Trial(None)
