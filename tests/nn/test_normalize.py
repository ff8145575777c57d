import numpy as np
import pytest
import torch
from torch.testing import assert_close

from pgrun.nn.normalize import RewardScale, RunningNorm


@pytest.mark.parametrize("shape", [(), (3,), (2, 4)])
def test_running_norm_equals_the_moments_of_everything_valid(shape):
    norm, seen = RunningNorm(shape), []
    for n, spread in ((50, 1.0), (3, 100.0), (200, 0.1)):
        x = torch.randn(n, *shape, dtype=torch.float64) * spread + 7.0 * spread
        valid = torch.rand(n) < 0.7
        seen.append(x[valid].numpy())
        x[~valid] = 1e9
        norm.observe(x, valid)
    every = np.concatenate(seen)
    assert norm.count == len(every)
    assert_close(norm.mean, torch.as_tensor(every.mean(0)))
    assert_close(norm.var, torch.as_tensor(every.var(0)))
    x = torch.randn(5, *shape)
    expected = ((x.double() - torch.as_tensor(every.mean(0))) / torch.as_tensor(np.sqrt(every.var(0) + 1e-8))).float()
    assert_close(norm(x), expected.clamp(-10.0, 10.0), rtol=1e-4, atol=1e-5)


def test_running_norm_starts_as_the_identity_and_stays_it_with_nothing_valid():
    norm, x = RunningNorm((2,)), torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    assert torch.equal(norm(x), x)
    norm.observe(x, torch.zeros(2, dtype=torch.bool))
    assert norm.count == 0
    assert torch.isfinite(norm.mean).all()
    norm.observe(x, torch.ones(2, dtype=torch.bool))  # the first real rows are all there is
    assert_close(norm.mean, torch.tensor([2.0, 1.0], dtype=torch.float64))
    assert_close(norm.var, torch.tensor([1.0, 9.0], dtype=torch.float64))


def test_running_norm_clips():
    norm = RunningNorm((), clip=2.0)
    norm.observe(torch.tensor([-1.0, 1.0]), torch.ones(2, dtype=torch.bool))
    assert_close(norm(torch.tensor([-9.0, -1.0, 5.0])), torch.tensor([-2.0, -1.0, 2.0]))


def test_running_norm_keeps_its_digits_far_from_zero():
    """A mean of 1e4 and a deviation of 0.01: float32 sums of squares would lose it all."""
    norm, rows = RunningNorm((1,)), 1e4 + 0.01 * torch.randn(1000, 1, dtype=torch.float64)
    for part in rows.split(100):
        norm.observe(part, torch.ones(100, dtype=torch.bool))
    assert norm.var.sqrt().item() == pytest.approx(rows.std(correction=0).item(), rel=1e-6)


def test_running_norm_changes_only_in_observe():
    norm = RunningNorm((2,))
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    norm(torch.randn(10, 2))
    assert all(torch.equal(v, before[k]) for k, v in norm.state_dict().items())


GAMMA = 0.9


def discounted(reward, last, valid):
    """The running discounted return at every valid step, one environment after the other; [T, B] arrays."""
    seen = []
    for b in range(reward.shape[1]):
        total = 0.0
        for t in range(reward.shape[0]):
            total = GAMMA * total + float(reward[t, b])
            if valid[t, b]:
                seen.append(total)
            if last[t, b]:
                total = 0.0
    return np.array(seen)


def make(length, num_envs=4):
    """Rewards, episode ends, and a filler row (no reward, not valid) after each end, as next-step autoreset has it."""
    reward, last = torch.randn(length, num_envs), torch.rand(length, num_envs) < 0.2
    valid = torch.ones_like(last)
    for t in range(1, length):
        filler = last[t - 1] & valid[t - 1]
        valid[t] = ~filler
        last[t] &= ~filler
        reward[t] = torch.where(filler, 0.0, reward[t])
    return reward, last, valid


def test_reward_scale_against_a_loop_over_several_rollouts():
    scale, every = RewardScale(GAMMA), [make(n) for n in (20, 1, 7, 33)]
    whole = make(61)
    every = [tuple(x[i:j] for x in whole) for i, j in ((0, 20), (20, 21), (21, 28), (28, 61))]
    for reward, last, valid in every:
        scale.observe(reward, last, valid)
    seen = discounted(*whole)
    assert scale.norm.count == len(seen)
    assert scale.norm.var.item() == pytest.approx(seen.var(), rel=1e-5)
    x = torch.tensor([0.5, -1.0, 1e6])
    expected = np.clip(x.numpy() / np.sqrt(seen.var() + 1e-8), -10.0, 10.0)  # divided, not shifted
    assert_close(scale(x), torch.as_tensor(expected, dtype=torch.float32), rtol=1e-4, atol=1e-5)


def test_reward_scale_starts_as_the_identity():
    assert torch.equal(RewardScale(GAMMA)(torch.tensor([2.0, -3.0])), torch.tensor([2.0, -3.0]))


def test_reward_scale_goes_on_from_its_state():
    whole, half = make(40), 17
    one, two = RewardScale(GAMMA), RewardScale(GAMMA)
    one.observe(*(x[:half] for x in whole))
    two.load_state_dict(one.state_dict())
    for scale in (one, two):
        scale.observe(*(x[half:] for x in whole))
    assert all(torch.equal(v, two.state_dict()[k]) for k, v in one.state_dict().items())


def test_reward_scale_loads_the_state_of_another_number_of_environments():
    saved, other = RewardScale(GAMMA), RewardScale(GAMMA)
    saved.observe(*make(10, num_envs=4))
    other.observe(*make(10, num_envs=2))
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.carry, saved.carry)
    assert other.norm.var == saved.norm.var
    other.observe(*make(10, num_envs=2))  # and goes on with its own number, from open episodes at zero
    assert other.carry.shape == (2,)


def test_what_is_padding_is_part_of_no_return_and_leaves_nothing_behind():
    """Episodes of 2 and of 30 steps, twice: the environment that is done first goes on, and is then begun anew."""
    scale, t = RewardScale(GAMMA), torch.arange(30)
    last, valid = torch.stack([t == 1, t == 29], 1), torch.stack([t < 2, t < 30], 1)
    reward = torch.where(valid, 1.0, torch.nan)
    for _ in range(2):
        scale.observe(reward, last, valid)
    seen = np.concatenate([np.cumsum(GAMMA ** np.arange(n)) for n in (2, 30)])
    assert not scale.carry.any()
    assert scale.norm.count == 2 * 32
    assert float(scale.norm.mean) == pytest.approx(seen.mean(), rel=1e-6)
    assert float(scale.norm.var) == pytest.approx(seen.var(), rel=1e-5)


def test_rows_that_are_not_valid_may_hold_anything():
    norm, x = RunningNorm((2,)), torch.tensor([[1.0, 2.0], [torch.nan, torch.inf], [3.0, 6.0]])
    norm.observe(x, torch.tensor([True, False, True]))
    assert norm.mean.tolist() == [2.0, 4.0]
    assert norm.var.tolist() == [1.0, 4.0]
