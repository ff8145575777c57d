import torch
from torch.testing import assert_close

from pgrun.data.types import Transition, flatten_time, loss_rows, map_obs, map_transition, mask_mean, mean_over, rows


def transition(t=3, b=2):
    """Every entry of every field says which (t, b) it is of."""
    index = torch.arange(t * b).reshape(t, b)
    return Transition(
        obs={"x": index.float().unsqueeze(-1).expand(t, b, 4), "n": index},
        action=index,
        reward=index.float(),
        discount=torch.ones(t, b),
        next_obs={"x": index.float().unsqueeze(-1).expand(t, b, 4) + 100, "n": index + 100},
        last=torch.zeros(t, b, dtype=torch.bool),
        valid=torch.ones(t, b, dtype=torch.bool),
        extras={"log_prob": -index.float()},
    )


def test_map_obs_takes_tensors_and_dicts():
    assert map_obs(lambda x, y: x + y, torch.ones(2), torch.ones(2)).tolist() == [2.0, 2.0]
    got = map_obs(
        lambda x, y: x - y, {"a": torch.ones(1), "b": torch.zeros(1)}, {"b": torch.ones(1), "a": torch.ones(1)}
    )
    assert {k: v.item() for k, v in got.items()} == {"a": 0.0, "b": -1.0}


def test_flatten_time_goes_row_by_row_and_rows_picks():
    flat = flatten_time(transition())
    assert flat.action.tolist() == [0, 1, 2, 3, 4, 5]
    assert flat.obs["x"].shape == (6, 4)
    picked = rows(flat, torch.tensor([4, 0, 4]))
    assert picked.action.tolist() == picked.obs["n"].tolist() == [4, 0, 4]
    assert picked.next_obs["x"][:, 3].tolist() == [104.0, 100.0, 104.0]
    assert picked.extras["log_prob"].tolist() == [-4.0, 0.0, -4.0]


def test_map_transition_reaches_every_tensor():
    count = []
    map_transition(lambda x: count.append(x.shape[:2]) or x, transition())
    assert count == [(3, 2)] * 10


def test_mask_mean():
    x, valid = torch.tensor([[1.0, 2.0], [30.0, 5.0]]), torch.tensor([[True, True], [False, True]])
    assert_close(mask_mean(x, valid), torch.tensor(8.0 / 3.0))
    assert mask_mean(x, torch.zeros(2, 2, dtype=torch.bool)) == 0.0


def test_a_loss_is_a_mean_of_its_batch_s_valid_rows_or_of_a_mask_s():
    batch = transition()
    batch.valid[2, 1] = False
    mask, like = torch.tensor([[True, False], [True, True]]), torch.zeros(3)
    assert loss_rows((batch,), like) == 5
    assert loss_rows((like, batch, mask), like) == 5  # wherever the batch stands
    assert loss_rows((like, mask), like) == 3
    assert loss_rows((mask, like), like) == 1  # a mask counts where it comes last
    assert loss_rows((), like) == 1


def test_several_means_over_the_same_rows_are_each_the_mean_over_those():
    valid, x = torch.tensor([True, False, True]), torch.tensor([1.0, 100.0, 2.0])
    mean = mean_over(valid)
    assert [float(mean(y)) for y in (x, x + 1.0)] == [1.5, 2.5]
    assert float(mask_mean(x.double(), valid)) == 1.5
    assert float(mean_over(torch.zeros(3, dtype=torch.bool))(x)) == 0.0
