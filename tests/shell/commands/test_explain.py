"""`pgrun explain` says what each key means, may be, and is used by."""

import pytest
from running import compose
from shell import pgrun_inside

from pgrun.config.index import index
from pgrun.config.paths import config_dir
from pgrun.config.templates import write
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


def test_of_a_chosen_algorithm_alone(capsys):
    assert explain(["algo.value_coef", "algo=ppo"]) == 0
    out = capsys.readouterr().out
    assert out.count("declared in") == 1
    assert "declared in pgrun.algos.ppo.PPO" in out
    assert explain(["algo.value_coef"]) == 0
    assert capsys.readouterr().out.count("declared in") > 1


def test_parts_of_ones_own(tmp_path):
    write("algo", "my_explained", tmp_path)
    write("network", "my_explained_net", tmp_path)
    out = pgrun_inside("explain", "algo.value_coef", "--config-dir", "conf", "algo=my_explained", cwd=tmp_path).out
    assert out == (
        "algo.value_coef\n"
        "  c, the weight of the critic's loss; its value stands in algo/my_explained.yaml\n"
        "    anything\n"
        "    used by algo=my_explained\n"
        "    declared in my_explained.MyExplained\n"
        "  with algo=my_explained: 0.5\n"
    )
    found = pgrun_inside("explain", "-cd", "conf", "blocks", cwd=tmp_path)
    assert found.out.startswith("network.blocks\n  how many\n")
    assert pgrun_inside("explain", "blocks", cwd=tmp_path).code == 2
    wrong = pgrun_inside("explain", "algo.gamma", "--config-dir", "conf", "algo=my_explaine", cwd=tmp_path)
    assert wrong.line.startswith("pgrun: algo=my_explaine is not known; did you mean my_explained?")
    assert pgrun_inside("explain", "--config-dir", "none", cwd=tmp_path).line == "pgrun: --config-dir none is no folder"
