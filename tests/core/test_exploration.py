import pytest
import torch

from pgrun.core.exploration import ILLEGAL, Boltzmann, EpsilonGreedy


@pytest.mark.parametrize("cls", [EpsilonGreedy, Boltzmann])
def test_the_schedule_falls_linearly_and_stays(cls):
    name = "epsilon" if cls is EpsilonGreedy else "temperature"
    e = cls(**{name: 1.0}, final=0.2, fraction=0.4)
    assert [e.now(p) for p in (0.0, 0.1, 0.2, 0.4, 0.7, 1.0)] == pytest.approx([1.0, 0.8, 0.6, 0.2, 0.2, 0.2])


def counts(explore, q, progress=0.0):
    torch.manual_seed(0)
    explore.follow(progress)
    return torch.bincount(explore(q.expand(20_000, -1)), minlength=q.shape[-1]).tolist()


def chi_square(found, probabilities):
    expect = [20_000 * p for p in probabilities]
    return sum((f - e) ** 2 / e for f, e in zip(found, expect, strict=True) if e)


def test_epsilon_greedy_draws_uniformly_with_probability_epsilon():
    """χ² of four actions: 16.3 once in a thousand."""
    e = EpsilonGreedy(epsilon=0.4, final=0.0, fraction=1.0)
    q = torch.tensor([0.3, 0.9, -2.0, 0.1])
    found = counts(e, q)
    assert chi_square(found, [0.1, 0.7, 0.1, 0.1]) < 16.3
    assert chi_square(found, [0.12, 0.64, 0.12, 0.12]) > 16.3
    assert counts(e, q, 1.0) == [0, 20_000, 0, 0]


def test_what_is_illegal_is_never_drawn():
    e = EpsilonGreedy(epsilon=1.0, final=0.0, fraction=1.0)
    q = torch.tensor([ILLEGAL, 0.9, ILLEGAL, 0.1, -3.0, ILLEGAL])
    found = counts(e, q)
    assert chi_square(found, [0.0, 1 / 3, 0.0, 1 / 3, 1 / 3, 0.0]) < 13.8
    assert [found[i] for i in (0, 2, 5)] == [0, 0, 0]
    found = counts(Boltzmann(temperature=10.0, final=1.0, fraction=1.0), q)
    assert [found[i] for i in (0, 2, 5)] == [0, 0, 0]


def test_each_environment_draws_for_itself():
    e = EpsilonGreedy(epsilon=0.5, final=0.5, fraction=1.0)
    q = torch.tensor([[1.0, 0.0], [ILLEGAL, 0.0]]).repeat(2000, 1)
    torch.manual_seed(0)
    action = e(q).view(-1, 2)
    assert bool((action[:, 1] == 1).all())
    assert 420 < int(action[:, 0].sum()) < 580  # a quarter of 2000, within 4 standard errors


@pytest.mark.parametrize(("progress", "tau"), [(0.0, 2.0), (0.5, 1.25), (1.0, 0.5)])
def test_boltzmann_draws_in_proportion_to_the_exponential(progress, tau):
    """χ² of four actions: 16.3 once in a thousand."""
    q = torch.tensor([0.3, 0.9, -1.0, 0.1])
    found = counts(Boltzmann(temperature=2.0, final=0.5, fraction=1.0), q, progress)
    assert chi_square(found, (q / tau).softmax(-1).tolist()) < 16.3
    assert chi_square(found, (q / (tau * 1.3)).softmax(-1).tolist()) > 16.3


@pytest.mark.parametrize("cls", [EpsilonGreedy, Boltzmann])
@pytest.mark.parametrize("progress", [0.0, 0.3, 1.0])
def test_a_number_that_is_kept_as_a_tensor_explores_alike(cls, progress):
    name = "epsilon" if cls is EpsilonGreedy else "temperature"
    plain, kept = (cls(**{name: 0.8}, final=0.0 if cls is EpsilonGreedy else 0.1, fraction=1.0) for _ in range(2))
    kept.keep(torch.device("cpu"))
    number, q = kept.number, torch.randn(20_000, 4)
    found = []
    for explore in (plain, kept):
        explore.follow(progress)
        torch.manual_seed(0)
        found.append(explore(q))
    assert kept.number is number  # which code that was compiled or captured before reads on
    assert float(number) == pytest.approx(plain.number)
    assert torch.equal(*found)
