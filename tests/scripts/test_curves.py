"""The script that draws the learning curves of a sweep."""

import curves as script
import numpy as np


def test_seeds_are_compared_at_the_same_steps():
    points = {"0": ((10, 1.0), (30, 3.0), (50, 5.0)), "1": ((20, 4.0), (40, 2.0))}
    lines = [
        {"algo": "ppo", "env": "cartpole", "seed": seed, "step": str(step), "return": str(value)}
        for seed, of_seed in points.items()
        for step, value in of_seed
    ]
    steps, returns = script.curves(lines)["ppo"]
    assert (steps[0], steps[-1]) == (20.0, 40.0)  # where both have evaluations
    np.testing.assert_allclose(returns, [steps / 10, 4.0 - (steps - 20.0) / 10])
