import gymnasium as gym
import numpy as np
import pytest
import torch
from encoded import VECTOR, cnn, image, mlp
from models_seen import seen
from torch.testing import assert_close

from pgrun.errors import UserError
from pgrun.nn import Actor, ActorCritic, Twin, q_functions
from pgrun.nn.distributions import Bernoulli, Categorical, Gaussian, MultiCategorical, TanhGaussian
from pgrun.nn.models import SquashedActor

spaces = gym.spaces
BOX = spaces.Box(-1, 1, (2,), np.float32)


@pytest.mark.parametrize(
    ("space", "kind", "shape"),
    [
        (spaces.Discrete(4), Categorical, ()),
        (spaces.MultiDiscrete([2, 3]), MultiCategorical, (2,)),
        (spaces.MultiBinary(5), Bernoulli, (5,)),
        (BOX, Gaussian, (2,)),
    ],
)
def test_each_action_space_has_its_distribution(space, kind, shape):
    pi = Actor(mlp(), VECTOR, space)(torch.randn(7, 3))
    assert isinstance(pi, kind)
    action = pi.sample()
    assert action.shape == (7, *shape)
    assert pi.log_prob(action).shape == (7,)
    assert all(space.contains(a.numpy().astype(space.dtype)) for a in pi.mode().detach())


def test_no_policy_for_other_spaces():
    with pytest.raises(UserError, match=r"no policy for the action space Text"):
        Actor(mlp(), VECTOR, spaces.Text(5))


def test_gaussian_policies_share_one_log_std():
    actor = Actor(mlp(log_std_init=-0.5), VECTOR, BOX)
    assert actor.head.log_std.tolist() == [-0.5, -0.5]
    assert_close(actor(torch.randn(3, 3)).entropy(), torch.full((3,), 2 * (-0.5 + 0.5 * np.log(2 * np.pi * np.e))))


def test_a_small_head_gain_starts_near_uniform():
    pi = Actor(mlp(head_gain=0.01), VECTOR, spaces.Discrete(4))(torch.randn(100, 3))
    assert_close(pi.logits.softmax(-1), torch.full((100, 4), 0.25), rtol=0.0, atol=0.02)


def test_masked_actions_are_never_taken():
    space = spaces.Dict({"x": VECTOR, "action_mask": spaces.MultiBinary(4)})
    obs = {"x": torch.randn(2000, 3), "action_mask": torch.tensor([1, 0, 1, 0]).expand(2000, 4)}
    actor = Actor(mlp(head_gain=2.0), space, spaces.Discrete(4))
    pi = actor(obs)
    free = actor.head.layer(actor.encoder(obs))
    assert set(pi.sample().tolist()) == {0, 2}
    assert set(pi.mode().tolist()) <= {0, 2}
    legal = torch.zeros(2000, dtype=torch.int64)
    # the others' odds stay what they were
    assert_close(pi.log_prob(legal) - pi.log_prob(legal + 2), free[:, 0] - free[:, 2], rtol=1e-4, atol=1e-5)
    assert (pi.log_prob(legal + 1) < -1e8).all()
    p = free[:, [0, 2]].softmax(-1)
    assert_close(pi.entropy(), -(p * p.log()).sum(-1))


def test_separate_trunks_share_nothing():
    model = ActorCritic(mlp(), VECTOR, spaces.Discrete(2))
    assert model.critic.encoder is not model.actor.encoder
    batch = seen(torch.randn(5, 3), next_obs=torch.randn(5, 3))
    model.value(batch).sum().backward()
    assert all(p.grad is None for p in model.actor.parameters())
    pi, value = model(batch)
    assert_close(value, model.value(batch))
    assert_close(value, model.critic.head(model.critic.encoder(batch.obs)).squeeze(-1))
    assert_close(model.next_value(batch), model.critic(batch.next_obs))
    assert_close(pi.logits, model.actor(batch.obs).logits)
    assert_close(pi.logits, model.policy(batch).logits)


def test_a_shared_trunk_is_one_encoder():
    separate = ActorCritic(mlp(), VECTOR, spaces.Discrete(2))
    shared = ActorCritic(mlp(shared=True), VECTOR, spaces.Discrete(2))
    assert shared.critic.encoder is shared.actor.encoder
    trunk = sum(p.numel() for p in shared.actor.encoder.parameters())
    count = sum(p.numel() for p in shared.parameters())
    assert count == sum(p.numel() for p in separate.parameters()) - trunk
    batch = seen(torch.randn(4, 5, 3))
    pi, value = shared(batch)
    assert value.shape == (4, 5)
    assert_close(value, shared.value(batch))
    assert_close(pi.logits, shared.actor(batch.obs).logits)
    value.sum().backward()
    assert next(shared.actor.encoder.parameters()).grad.abs().sum() > 0


@pytest.mark.parametrize("shared", [True, False])
def test_without_a_critic_the_value_is_zero(shared):
    model = ActorCritic(mlp(shared=shared), VECTOR, spaces.Discrete(2), critic=False)
    batch = seen(torch.randn(4, 5, 3))
    for value in (model.value(batch), model.next_value(batch), model(batch)[1]):
        assert torch.equal(value, torch.zeros(4, 5))
    assert {name.split(".")[0] for name, _ in model.named_parameters()} == {"actor"}


@pytest.mark.parametrize("shared", [True, False])
def test_observe_reaches_every_trunk_once(shared):
    model = ActorCritic(mlp(shared=shared, normalize_obs=True), VECTOR, spaces.Discrete(2))
    obs, valid = torch.randn(6, 4, 3), torch.rand(6, 4) < 0.5
    model.observe(seen(obs, valid))
    for encoder in (model.actor.encoder, model.critic.encoder):
        assert encoder.flatten.norm.count == valid.sum()
        assert_close(encoder.flatten.norm.mean.float(), obs[valid].mean(0))


def test_observe_without_a_critic():
    model = ActorCritic(mlp(normalize_obs=True), VECTOR, spaces.Discrete(2), critic=False)
    model.observe(seen(torch.ones(2, 4, 3)))
    assert model.actor.encoder.flatten.norm.count == 8


def test_the_squashed_actor_bounds_its_log_std():
    actor = SquashedActor(mlp(), VECTOR, BOX)
    with torch.no_grad():
        actor.layer.bias.copy_(torch.tensor([0.0, 0.0, 50.0, -50.0]))
        actor.layer.weight.zero_()
    pi = actor(torch.randn(4, 3))
    assert isinstance(pi, TanhGaussian)
    assert torch.equal(pi.base.log_std, torch.tensor([2.0, -20.0]).expand(4, 2))


@pytest.mark.parametrize("gain", [0.0, 1.0])
def test_twin_equals_two_mlps(gain):
    twin = Twin(mlp(activation="relu", init_gain=gain), VECTOR, BOX, k=2)
    obs, action = torch.randn(11, 3), torch.randn(11, 2)
    q = twin(obs, action)
    assert q.shape == (2, 11)
    for i in range(2):
        x = torch.cat([obs, action], -1)
        for depth, (weight, bias) in enumerate(zip(twin.weights, twin.biases, strict=True)):
            x = torch.nn.functional.linear(x, weight[i].T, bias[i, 0])
            x = x.relu() if depth < 2 else x
        assert_close(q[i], x.squeeze(-1))
    assert not torch.allclose(q[0], q[1])  # two initialisations


def test_twin_gradients_do_not_mix():
    twin = Twin(mlp(), VECTOR, BOX, k=3)
    twin(torch.randn(4, 3), torch.randn(4, 2))[1].sum().backward()
    for p in twin.parameters():
        assert not p.grad[0].any()
        assert p.grad[1].any()
        assert not p.grad[2].any()


def test_twin_takes_dict_observations():
    space = spaces.Dict({"a": VECTOR, "b": spaces.Box(-1, 1, (2,))})
    twin = Twin(mlp(), space, BOX)
    assert twin({"a": torch.randn(4, 3), "b": torch.randn(4, 2)}, torch.randn(4, 2)).shape == (2, 4)


def test_twin_refuses_images():
    with pytest.raises(UserError, match="use network=mlp"):
        q_functions(mlp(), image(3, 48, 48), BOX)
    with pytest.raises(UserError, match="use network=mlp"):
        q_functions(cnn(), image(3, 48, 48), BOX)


@pytest.mark.parametrize("kind", ["q", "a"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_critic_of_actions(kind, shared):
    """V is the mean of Q under π, at the successors too; an advantage's mean is zero, and π learns nothing from it."""
    model = ActorCritic(mlp(shared=shared), VECTOR, spaces.Discrete(3), kind=kind)
    obs, next_obs = torch.randn(2, 5, 4, *VECTOR.shape)
    batch = seen(obs, torch.ones(5, 4) > 0, next_obs=next_obs)._replace(action=torch.randint(3, (5, 4)))
    assert model.of_actions
    p, critic = model.policy(batch).logits.softmax(-1), model.critic
    out = critic.head(critic.encoder(obs))
    q = out if kind == "q" else out[..., :1] + out[..., 1:] - (p * out[..., 1:]).sum(-1, keepdim=True)
    assert_close(model.value(batch), q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1))
    assert_close(model(batch)[1], model.value(batch))
    assert_close(model.state_value(batch), (p * q).sum(-1))
    if kind == "a":
        assert_close(model.state_value(batch), out[..., 0])
    assert_close(model.next_value(batch), model.state_value(batch._replace(obs=next_obs)))
    grads = torch.autograd.grad(model.value(batch).sum(), list(model.actor.head.parameters()), allow_unused=True)
    assert grads == (None, None)
