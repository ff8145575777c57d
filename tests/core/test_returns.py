import naive
import pytest
import torch
from torch.testing import assert_close

from pgrun.core import returns

GAMMA, LAMBDA = 0.9, 0.7
LENGTHS = [1, 2, 3, 8, 17]
TIGHT = {"rtol": 0.0, "atol": 1e-10}


@pytest.fixture(params=LENGTHS)
def r(request):
    return naive.rollout(request.param)


def test_the_rollout_has_every_way_to_end():
    r = naive.rollout(17)
    terminated = r.discount == 0
    assert (r.last & terminated).any()
    assert (r.last & ~terminated).any()
    assert (~r.last[-1]).any()
    assert not (terminated & ~r.last).any()


@pytest.mark.parametrize("length", LENGTHS)
def test_linear_scan(length):
    x, a = torch.randn(2, length, 3, 2, dtype=torch.float64)
    y, expected = torch.zeros(3, 2, dtype=torch.float64), []
    for t in reversed(range(length)):
        y = x[t] + a[t] * y
        expected.insert(0, y)
    given = x.clone(), a.clone()
    assert_close(returns.linear_scan(x, a), torch.stack(expected), **TIGHT)
    assert torch.equal(x, given[0])  # the arguments stay as they were
    assert torch.equal(a, given[1])


def test_linear_scan_has_the_right_gradient():
    x, a = (torch.randn(6, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(returns.linear_scan, (x, a))


def test_linear_scan_refuses_two_shapes():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 1\)"):
        returns.linear_scan(torch.zeros(3, 2), torch.zeros(3, 1))


def test_td_errors(r):
    def delta(t, b):
        bootstrap = GAMMA * float(r.next_value[t, b]) if r.discount[t, b] else 0.0
        return float(r.reward[t, b]) + bootstrap - float(r.value[t, b])

    assert_close(
        returns.td_errors(r.reward, r.discount, r.value, r.next_value, GAMMA), naive.table(delta, r.reward), **TIGHT
    )


@pytest.mark.parametrize("lambda_", [0.0, LAMBDA, 1.0])
def test_gae(r, lambda_):
    expected = naive.table(lambda t, b: naive.gae(r, t, b, GAMMA, lambda_), r.reward)
    assert_close(returns.gae(*r, GAMMA, lambda_), expected, **TIGHT)
    assert_close(returns.gae(*r, torch.tensor(GAMMA, dtype=torch.float64), lambda_), expected, **TIGHT)


def test_gae_at_lambda_0_is_td(r):
    td = returns.td_errors(r.reward, r.discount, r.value, r.next_value, GAMMA)
    assert_close(returns.gae(*r, GAMMA, 0.0), td, **TIGHT)


def test_gae_at_lambda_1_is_monte_carlo_minus_v():
    """When V(s_{t+1}) is the value of the same state seen one step later, the δ telescope to G_t − V(s_t)."""
    r = naive.rollout(17)
    value = r.value
    next_value = torch.cat([value[1:], r.next_value[-1:]])
    next_value = torch.where(r.last, r.next_value, next_value)
    r = r._replace(next_value=next_value)

    def monte_carlo(t, b):
        return naive.n_step(r, t, b, GAMMA, r.reward.shape[0]) - float(value[t, b])

    assert_close(returns.gae(*r, GAMMA, 1.0), naive.table(monte_carlo, value), **TIGHT)


@pytest.mark.parametrize("lambda_", [0.0, 0.3, 1.0])
def test_gae_weighs_n_step_advantages(lambda_):
    """Â = (1 − λ) Σ_{n<N} λ^{n−1} Â⁽ⁿ⁾ + λ^{N−1} Â⁽ᴺ⁾, with one V for each state."""
    r = naive.rollout(17)
    next_value = torch.where(r.last, r.next_value, torch.cat([r.value[1:], r.next_value[-1:]]))
    r = r._replace(next_value=next_value)
    weighted = naive.table(lambda t, b: naive.lambda_return(r, t, b, GAMMA, lambda_) - float(r.value[t, b]), r.reward)
    assert_close(returns.gae(*r, GAMMA, lambda_), weighted, **TIGHT)


@pytest.mark.parametrize("lambda_", [0.0, LAMBDA, 1.0])
def test_lambda_returns(r, lambda_):
    expected = naive.table(lambda t, b: naive.lambda_return(r, t, b, GAMMA, lambda_), r.reward)
    got = returns.lambda_returns(r.reward, r.discount, r.last, r.next_value, GAMMA, lambda_)
    assert_close(got, expected, **TIGHT)


@pytest.mark.parametrize("n", [1, 2, 5, 100])
def test_n_step_returns(r, n):
    expected = naive.table(lambda t, b: naive.n_step(r, t, b, GAMMA, n), r.reward)
    assert_close(returns.n_step_returns(r.reward, r.discount, r.last, r.next_value, GAMMA, n), expected, **TIGHT)


def test_reward_to_go(r):
    def to_go(t, b):
        stop = naive.end(r.last, t, b)
        total = sum(GAMMA ** (k - t) * float(r.reward[k, b]) for k in range(t, stop + 1))
        if r.discount[stop, b]:  # cut, not ended
            total += GAMMA ** (stop + 1 - t) * float(r.next_value[stop, b])
        return total

    got = returns.reward_to_go(r.reward, r.discount, r.last, r.next_value, GAMMA)
    assert_close(got, naive.table(to_go, r.reward), **TIGHT)


def test_total_return(r):
    def total(t, b):
        begin, stop = naive.start(r.last, t, b), naive.end(r.last, t, b)
        return sum(GAMMA ** (k - begin) * float(r.reward[k, b]) for k in range(begin, stop + 1))

    assert_close(returns.total_return(r.reward, r.last, GAMMA), naive.table(total, r.reward), **TIGHT)


def test_steps_since_start(r):
    expected = naive.table(lambda t, b: t - naive.start(r.last, t, b), r.reward)
    assert torch.equal(returns.steps_since_start(r.last), expected.float())


def test_discounted_sums(r):
    open_before = torch.randn(r.reward.shape[1], dtype=torch.float64)

    def so_far(t, b):
        begin = naive.start(r.last, t, b)
        total = sum(GAMMA ** (t - k) * float(r.reward[k, b]) for k in range(begin, t + 1))
        return total + (GAMMA ** (t + 1) * float(open_before[b]) if begin == 0 else 0.0)

    expected = naive.table(so_far, r.reward)
    got, carry = returns.discounted_sums(r.reward, r.last, GAMMA, open_before)
    assert_close(got, expected, **TIGHT)
    assert_close(carry, torch.where(r.last[-1], 0.0, expected[-1]), **TIGHT)


def test_discounted_sums_go_on_in_the_next_rollout():
    r = naive.rollout(16)
    zero = torch.zeros(r.reward.shape[1], dtype=torch.float64)
    whole, carry = returns.discounted_sums(r.reward, r.last, GAMMA, zero)
    first, middle = returns.discounted_sums(r.reward[:7], r.last[:7], GAMMA, zero)
    second, end = returns.discounted_sums(r.reward[7:], r.last[7:], GAMMA, middle)
    assert_close(torch.cat([first, second]), whole, **TIGHT)
    assert_close(end, carry, **TIGHT)


@pytest.mark.parametrize("name", ["gae", "lambda_returns", "n_step_returns"])
def test_an_episode_sees_nothing_of_the_next(name):
    """Changing what follows an episode's end changes nothing up to it."""
    r = naive.rollout(12)
    cut = 5
    last = r.last.clone()
    last[cut] = True
    changed = r._replace(last=last, reward=r.reward.clone(), next_value=r.next_value.clone(), value=r.value.clone())
    for x in (changed.reward, changed.next_value, changed.value):
        x[cut + 1 :] += 100.0
    r = r._replace(last=last)

    def compute(x):
        if name == "gae":
            return returns.gae(*x, GAMMA, LAMBDA)
        function = getattr(returns, name)
        return function(x.reward, x.discount, x.last, x.next_value, GAMMA, 3 if name == "n_step_returns" else LAMBDA)

    assert torch.equal(compute(r)[: cut + 1], compute(changed)[: cut + 1])


@pytest.mark.parametrize("given_as", ["gamma", "discount"])
def test_a_discount_that_differs_by_step(r, given_as):
    """γ_t is of the step from s_t to s_{t+1}, and 0 where the MDP terminated."""
    rates = torch.rand(r.reward.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    by_step = rates * r.discount

    def n_step(t, b, n):
        stop, total, product = min(t + n - 1, naive.end(r.last, t, b)), 0.0, 1.0
        for k in range(t, stop + 1):
            total += product * float(r.reward[k, b])
            product *= float(by_step[k, b])
        return total + product * float(r.next_value[stop, b])

    def mixed(t, b, lambda_):
        steps = naive.end(r.last, t, b) - t + 1
        partial = sum(lambda_ ** (n - 1) * n_step(t, b, n) for n in range(1, steps))
        return (1.0 - lambda_) * partial + lambda_ ** (steps - 1) * n_step(t, b, steps)

    gamma, discount = (rates, r.discount) if given_as == "gamma" else (1.0, by_step)
    for n in (1, 3, 100):
        got = returns.n_step_returns(r.reward, discount, r.last, r.next_value, gamma, n)
        assert_close(got, naive.table(lambda t, b, n=n: n_step(t, b, n), got), **TIGHT)
    got = returns.lambda_returns(r.reward, discount, r.last, r.next_value, gamma, LAMBDA)
    assert_close(got, naive.table(lambda t, b: mixed(t, b, LAMBDA), got), **TIGHT)
    next_value = torch.where(r.last, r.next_value, torch.cat([r.value[1:], r.next_value[-1:]]))  # one V for each state
    a = returns.gae(r.reward, discount, r.last, r.value, next_value, gamma, LAMBDA)
    assert_close(a + r.value, returns.lambda_returns(r.reward, discount, r.last, next_value, gamma, LAMBDA), **TIGHT)
