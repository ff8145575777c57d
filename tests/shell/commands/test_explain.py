"""`pgrun explain` says what each key means, may be, and is used by."""

import pytest
from running import compose

from pgrun.config.index import index
from pgrun.config.paths import config_dir
from pgrun.config.walk import every_key
from pgrun.errors import UserError
from pgrun.shell.commands.explain import explain

ENTRIES = index()


@pytest.mark.parametrize("algo", sorted(path.stem for path in (config_dir() / "algo").glob("*.yaml")))
def test_every_key_of_a_recipe_is_in_the_list(algo):
    env = "simple_spread" if algo in ("maddpg", "iddpg") else "cartpole"
    for key, setting, _ in every_key(compose(f"algo={algo}", f"env={env}")):
        entry = ENTRIES[key]
        assert (setting.owner, setting.meaning) in [(s.owner, s.meaning) for s in entry.settings], key


def test_a_page(capsys):
    assert explain(["algo.clip_range", "algo=ppo", "env=pendulum"]) == 0
    out = capsys.readouterr().out
    assert "algo.clip_range\n" in out
    assert "a number above 0, or a schedule as linear:FIRST:LAST, or null" in out
    assert "used by algo=grpo, mdpo, ppo" in out
    assert "with algo=ppo env=pendulum: 0.2" in out
    assert "None" not in out


def test_the_last_name_is_enough_where_it_is_one_keys(capsys):
    assert explain(["max_grad_norm"]) == 0
    assert capsys.readouterr().out.startswith("algo.max_grad_norm\n")


def test_a_word_finds_keys_by_name_and_meaning(capsys):
    assert explain(["discount"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("algo.gamma ") for line in lines)
    assert any(line.startswith("algo.discount_states ") for line in lines)
    assert all(len(line) <= 100 for line in lines)


def test_without_a_key_all_are_listed(capsys):
    assert explain([]) == 0
    out = capsys.readouterr().out
    assert f"{len(ENTRIES)} keys" in out
    assert all(f"\n{key} " in f"\n{out}" for key in ENTRIES)


def test_a_word_that_is_nowhere():
    with pytest.raises(UserError, match=r"no key and no meaning has 'gammma' in it; did you mean algo.gamma"):
        explain(["gammma"])
