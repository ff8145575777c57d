"""Surroundings of a function: the numbers that it reads, and where its tensors are kept."""

from types import SimpleNamespace

import torch

from pgrun.optim.surroundings import Surroundings, values


class Own:
    def __init__(self):
        self.scale, self.other = 2.0, 3


class Owner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.register_buffer("mean", torch.zeros(1))
        self.gamma, self.unread, self.progress = 0.9, 1.0, 0.0
        self.own = Own()

    @property
    def half(self):
        return self.gamma / 2

    def value(self):
        return self.half * self.own.scale


def test_the_numbers_that_are_read_are_found():
    owner = Owner()
    around = Surroundings([owner])
    with around.watching() as read:
        assert owner.value() == 0.9
    assert {key for _, key in read} == {"gamma", "scale"}
    before = values(read)
    owner.progress = 0.5
    assert values(read) == before
    owner.own.scale = 3.0
    assert values(read) != before
    owner.own.scale = torch.ones(2)
    assert values(read) != before
    assert type(owner) is Owner


def test_classes_are_as_before_whatever_is_raised():
    owner = Owner()
    try:
        with Surroundings([owner]).watching():
            raise KeyError
    except KeyError:
        pass
    assert (type(owner), type(owner.own)) == (Owner, Own)


def test_objects_of_built_in_classes_have_all_their_numbers_read():
    owner = Owner()
    owner.own = SimpleNamespace(scale=2.0, other=3)
    with Surroundings([owner]).watching() as read:
        owner.value()
    assert {key for _, key in read} == {"gamma", "scale", "other"}


def test_tensors_are_found_where_they_are_kept():
    owner = Owner()
    around = Surroundings([owner.value])
    ((held, key, x),) = around.places([owner.mean])
    assert (held, key) == (owner._buffers, "mean")
    assert held.get(key) is x
    owner.mean = torch.ones(1)
    assert held.get(key) is not x
    assert around.places([torch.zeros(1)]) == []
