import statistics

import pytest
import torch

from pgrun.core.groups import group_relative, per_trajectory, undecided


@pytest.mark.parametrize("group", [2, 3, 8])
@pytest.mark.parametrize("divide", [True, False])
def test_group_relative_against_a_loop(group, divide):
    r = 100.0 * torch.randn(5 * group)
    want = []
    for start in range(0, len(r), group):
        mine = r[start : start + group].tolist()
        scale = statistics.stdev(mine) if divide else 1.0
        want += [(x - statistics.mean(mine)) / scale for x in mine]
    assert group_relative(r, group, divide=divide).tolist() == pytest.approx(want, abs=1e-4)


def test_what_the_whole_group_shares_makes_no_difference():
    r = torch.tensor([0.1] * 7 + [500.0] * 7 + [1.0] * 6 + [0.0])
    a = group_relative(r, 7, divide=True)
    assert a[:14].tolist() == [0.0] * 14  # rounding errors would be scaled to ones
    assert a[14:].tolist() == pytest.approx([0.378] * 6 + [-2.268], abs=1e-3)
    assert torch.allclose(group_relative(3.0 * r + 20.0, 7, divide=True), a, atol=1e-5)
    assert float(undecided(r, 7)) == pytest.approx(2 / 3)
    assert float(undecided(torch.tensor([1.0, 1.0, 1.0, 2.0]), 2)) == 0.5
    assert float(undecided(torch.arange(4.0), 2)) == 0.0


def test_a_mean_of_trajectories_means():
    lengths = [3, 1, 7, 5]
    valid = torch.arange(7).unsqueeze(1) < torch.tensor(lengths)
    x = torch.randn(7, 4)
    weight = per_trajectory(valid)
    mean = (weight * x)[valid].mean()
    assert mean == pytest.approx(statistics.mean(float(x[:n, b].mean()) for b, n in enumerate(lengths)), abs=1e-6)
    assert weight[~valid].eq(0.0).all()
    assert torch.equal(per_trajectory(torch.ones(3, 2, dtype=torch.bool)), torch.ones(3, 2))
