"""Random actions: uniform over every space, and among what a mask allows."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.collect.random_actions import legal, random_actions

spaces = gym.spaces


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3),
        spaces.MultiDiscrete([2, 4]),
        spaces.MultiBinary(3),
        spaces.Box(-1.0, 1.0, (2,), np.float32),
    ],
)
def test_random_actions_are_uniform(space):
    n = 4000
    action = random_actions(space)(n)
    assert action.shape == (n, *space.shape)
    assert all(space.contains(a.numpy().astype(space.dtype)) for a in action[:50])
    if isinstance(space, spaces.Discrete):
        p = torch.bincount(action) / n
        assert (p - 1 / 3).abs().max() < 4.0 * (2 / 9 / n) ** 0.5
    elif isinstance(space, spaces.MultiDiscrete):
        p = torch.bincount(action[:, 0] * 4 + action[:, 1], minlength=8) / n
        assert (p - 1 / 8).abs().max() < 4.0 * (7 / 64 / n) ** 0.5
    else:
        x = action if isinstance(space, spaces.Box) else 2.0 * action - 1.0
        variance = 1 / 3 if isinstance(space, spaces.Box) else 1.0
        assert x.mean(0).abs().max() < 4.0 * (variance / n) ** 0.5
        assert (x.var(0) / variance - 1.0).abs().max() < 0.1


def test_random_actions_are_uniform_among_the_legal():
    torch.manual_seed(0)
    mask = torch.tensor([[1, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]]).repeat(4000, 1)
    action = torch.randint(4, (12000,))
    drawn = legal(action, {"action_mask": mask})
    kept = mask.gather(1, action.unsqueeze(1)).squeeze(1) != 0
    assert torch.equal(drawn[kept], action[kept])
    for row, shares in enumerate(([1 / 3, 0, 1 / 3, 1 / 3], [0, 1, 0, 0], [0.25] * 4)):
        counts = torch.bincount(drawn[row::3], minlength=4) / 4000
        assert_close(counts, torch.tensor(shares, dtype=torch.float32), atol=0.03, rtol=0.0)
    assert legal(action, torch.zeros(3)) is action
