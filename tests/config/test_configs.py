"""Combinations compose; tuned values reach what they were tuned for alone; comments don't repeat."""

import re
from functools import cache
from typing import Any

import pytest
from docs_pages import ROOT
from gymnasium.spaces import Box, Dict, Discrete, Space
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from recipes import sampled
from running import compose

from pgrun.config.index import index
from pgrun.config.paths import config_dir
from pgrun.config.resolve import resolved
from pgrun.config.values import validate
from pgrun.config.walk import keys
from pgrun.errors import UserError
from pgrun.run.build import build
from pgrun.run.environments import make_env

CONFIGS = config_dir()


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@cache
def alone(name: str) -> DictConfig:
    """A config file by itself."""
    return DictConfig(OmegaConf.load(CONFIGS / f"{name}.yaml"))


@cache
def parents(name: str) -> list[str]:
    """The files of its folder that a config file builds on."""
    beside = name.rpartition("/")[0]
    named = [each for each in alone(name).get("defaults", []) if isinstance(each, str) and each != "_self_"]
    return [f"{beside}/{each.partition('@')[0]}" for each in named]


def raw(name: str) -> DictConfig:
    """A config file with those that it builds on, without what else it chooses."""
    own = OmegaConf.masked_copy(alone(name), [str(key) for key in alone(name) if key != "defaults"])
    return DictConfig(OmegaConf.merge(*(raw(parent) for parent in parents(name)), own))


@cache
def chosen(name: str) -> dict[str, str]:
    """The group members that a config file chooses, itself or by those that it builds on."""
    found = {key: value for parent in parents(name) for key, value in chosen(parent).items()}
    for part in alone(name).get("defaults", []):
        if not isinstance(part, str):
            found |= {str(key).removeprefix("override "): value for key, value in part.items()}
    return found


ALGOS, OPTIMIZERS = names("algo"), names("optimizer")
ADVANTAGES, BASELINES = names("algo/advantage"), names("algo/baseline")
ENVS = [name for name in names("env") if name not in ("gym", "pettingzoo")]  # which have no id of their own
SEVERAL = [name for name in ENVS if "env/pettingzoo" in parents(f"env/{name}")]  # agents at once
# what only a made environment could tell, and a test below compares with those
CONTINUOUS = {
    *("pendulum", "mountain_car_continuous", "lunar_lander_continuous"),
    *("halfcheetah", "hopper", "walker2d", "ant", "swimmer", "humanoid", "sparse_reach", "lqr"),
    *("multi_goal", "bimodal_bandit", "pendulum_pomdp"),
}
ALIKE = {"simple", "simple_spread"}  # of several agents, those whose spaces are the same
CHEAP = ("cartpole", "acrobot", "pendulum", "simple_speaker_listener", "simple_spread")  # environments to build


@cache
def made_by(name: str) -> Any:
    """The class that a config file names."""
    node = raw(name)
    return get_class(node.get(name.partition("/")[0], node)._target_)


def spaces(algo: str) -> tuple[type[Space], ...]:
    """The kinds of actions that an algorithm declares to take."""
    return made_by(f"algo/{algo}").action_spaces


OF_AGENTS = [algo for algo in ALGOS if Dict in spaces(algo)]  # algorithms that learn several agents
OF_MANY = [algo for algo in ALGOS if chosen(f"algo/{algo}").get("/parallel", "none") != "none"]  # of several processes
CRITIC_FIT = "critic_fit@algo.critic_fit"  # a trust region moves parameters by more than gradients that are shared
FITTED = [algo for algo in ALGOS if CRITIC_FIT in chosen(f"algo/{algo}") and algo not in OF_MANY]
OF_DATA = [algo for algo in ALGOS if chosen(f"algo/{algo}").get("/collector") == "demonstrations"]
REPLAYS = [name for name in names("memory") if made_by(f"memory/{name}").offers == "steps"]


def goes_with(algo: str, env: str) -> bool:
    """Whether an algorithm takes an environment's actions; ppo stands for all that take each agent by itself."""
    if algo in OF_AGENTS:
        return env in SEVERAL
    if env in SEVERAL:
        return algo == "ppo" and env in ALIKE
    return (Box if env in CONTINUOUS else Discrete) in spaces(algo)


PAIRS = [(algo, env) for algo in ALGOS for env in ENVS if goes_with(algo, env)]


def psi(algo: str) -> tuple[str, str] | None:
    """The advantage and the baseline that a recipe chooses; None where Ψ_t is no part of it."""
    groups = chosen(f"algo/{algo}")
    found = groups.get("advantage@algo.advantage"), groups.get("baseline@algo.baseline")
    return found if None not in found else None  # type: ignore[return-value]


def optimizers(algo: str) -> list[str]:
    """K-FAC may step only where a model's likelihood is known, and by the process that has the samples."""
    return [name for name in OPTIMIZERS if name != "kfac" or (psi(algo) and algo not in OF_MANY)]


def networks(env: str) -> list[str]:
    return ["cnn"] if env == "atari" else ["mlp", "mlp_large", *(["mlp_agents"] if env in SEVERAL else [])]


# keys of groups whose members have few keys in common
OF_MEMBERS = ("optimizer.", "network.", "algo.advantage.", "algo.baseline.", "algo.critic_fit.", "algo.exploration.")
# what a tuned file's name may be, and what it stands for
TUNED_PAIRS = {f"{algo}_{env}": (algo, env) for algo, env in PAIRS}
TUNED = [TUNED_PAIRS[name] for name in names("tuned") if name in TUNED_PAIRS]


def tuned(algo: str, env: str) -> tuple[DictConfig, dict[str, DictConfig]]:
    """A pair's tuned values, and its sections of those that hold with one member of a group."""
    values = raw(f"tuned/{algo}_{env}") if (algo, env) in TUNED else DictConfig({})
    return values, dict(values.pop("where", {}))


def checked(*groups: str) -> DictConfig:
    """The config of these groups; its own values must pass the checks."""
    config = compose(*groups)
    validate(config)
    return config


@pytest.mark.parametrize("name", sampled(ENVS, CHEAP))
def test_the_action_spaces_are_as_this_file_has_them(name):
    form = ["agents=joint"] if name in SEVERAL and name not in ALIKE else []
    env = make_env(resolved(compose(f"env={name}", "num_envs=1", *form)))
    assert isinstance(env.action_space, Box) == (name in CONTINUOUS)
    env.close()


def turns(algo: str, env: str) -> list[tuple[str, str]]:
    """Each network with an optimizer, another one at each pair's turn."""
    first, choice = PAIRS.index((algo, env)), optimizers(algo)
    return [(network, choice[(first + i) % len(choice)]) for i, network in enumerate(networks(env))]


def check_pair(algo, env):
    """It composes, of the parts that were named."""
    for network, optimizer in turns(algo, env):
        config = checked(f"algo={algo}", f"env={env}", f"network={network}", f"optimizer={optimizer}")
        assert config.algo._target_ == raw(f"algo/{algo}").algo._target_
        assert config.env.get("id") == raw(f"env/{env}").get("id")
        assert config.env.get("world", {}).get("_target_") == raw(f"env/{env}").get("world", {}).get("_target_")
        assert config.network._target_ == raw(f"network/{network}")._target_
        assert config.optimizer._target_ == raw(f"optimizer/{optimizer}")._target_


SAMPLE = [(algo, env) for algo, env in PAIRS if env == "cartpole" or algo in ("ppo", "sac")]


@pytest.mark.parametrize(("algo", "env"), sampled(SAMPLE, 3))
def test_what_goes_together_composes(algo, env):
    check_pair(algo, env)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "env"), [pair for pair in PAIRS if pair not in SAMPLE])
def test_everything_that_goes_together_composes(algo, env):
    check_pair(algo, env)


BUILT = [(*pair, *turn) for pair in PAIRS if pair[1] in CHEAP and pair[0] not in OF_DATA for turn in turns(*pair)]
# each algorithm once, with another one of its choices at each algorithm's turn
ONCE = [choice[i % len(choice)] for i, choice in enumerate([b for b in BUILT if b[0] == a] for a in ALGOS) if choice]


@pytest.mark.parametrize(("algo", "env", "network", "optimizer"), sampled(BUILT, ONCE))
def test_what_goes_together_is_built(algo, env, network, optimizer):
    config = checked(f"algo={algo}", f"env={env}", f"network={network}", f"optimizer={optimizer}")
    parts = built(config)
    several = algo in OF_AGENTS
    shapes = parts.algorithm.actor.side.shapes if several else [p.shape for p in parts.algorithm.parameters()]
    hidden = max(max(shape) for shape in shapes if len(shape) > 1)
    assert hidden == max(config.network.hidden)
    for step in parts.algorithm.steps().values():
        assert type(step.optimizer).__name__ == raw(f"optimizer/{optimizer}")._target_.rpartition(".")[2]


def built(config: DictConfig):
    """The parts of a config, small."""
    config.env.num_envs = config.algo.get("group", 2)
    if "capacity" in config.memory:
        config.memory.capacity = 1000
    parts = build(config)
    parts.collector.env.close()
    return parts


def swaps() -> list[tuple[str, str, str, str]]:
    """(algo, env, group, member) for all that can be swapped under a tuned file."""
    found = []
    for algo, env in TUNED:
        found += [(algo, env, "optimizer", member) for member in optimizers(algo)]
        found += [(algo, env, "network", member) for member in networks(env)]
        if algo in FITTED:
            found += [(algo, env, "algo/critic_fit", member) for member in names("algo/critic_fit")]
        if chosen(f"algo/{algo}").get("/memory") == "replay":
            found += [(algo, env, "memory", member) for member in REPLAYS]
        if psi(algo):
            found += [(algo, env, "algo/advantage", member) for member in ADVANTAGES]
            found += [(algo, env, "algo/baseline", member) for member in BASELINES]
    return found


TABLE = re.compile(r"^\| `(\w+)`(\S*) \| (.*) \|$", re.MULTILINE)  # a row of the table of combinations
LISTED = re.compile(r"^all: (.*)$", re.MULTILINE)  # whom it is about


@cache
def documented() -> tuple[list[str], dict[tuple[str, str], tuple[list[str], str]]]:
    """The page of combinations: its algorithms, and those that go with an (advantage, baseline), with the marks."""
    page = (ROOT / "docs" / "estimators.md").read_text()
    (line,) = LISTED.findall(page)
    algorithms, found = re.findall(r"`(\w+)`", line), {}
    for advantage, marks, cells in TABLE.findall(page):
        for baseline, cell in zip(("none", "value", "average", "optimal"), cells.split(" | "), strict=False):
            words = set(re.findall(r"\w+", cell.rstrip("¹")))
            able = [algo for algo in algorithms if algo in words or "all" in words]
            able = [algo for algo in algorithms if algo not in words] if cell.startswith("all but ") else able
            found[advantage, baseline] = able, marks + cell[len(cell.rstrip("¹")) :]
    return algorithms, found


def has_meaning(config: DictConfig, algo: str, advantage: str, baseline: str) -> bool:
    """Whether the page of combinations says that these go together, of a recipe or of the one that it builds on."""
    algorithms, found = documented()
    while algo not in algorithms:
        (algo,) = (parent.removeprefix("algo/") for parent in parents(f"algo/{algo}"))
    able, marks = found[advantage, baseline]
    normalized = config.algo.get("normalize", "none") != "none" or config.algo.get("normalize_advantage", False)
    return algo in able and not ("¹" in marks and not config.algo.whole_episodes) and not ("²" in marks and normalized)


SWAPS = swaps()[::17]
MEETS_EVERY_GROUP = [swap for i, swap in enumerate(SWAPS) if i % 4 == 0 or swap[2] == "memory"]


@pytest.mark.parametrize(("algo", "env", "group", "member"), sampled(SWAPS, MEETS_EVERY_GROUP))
def test_a_swap_under_a_tuned_file(algo, env, group, member):
    check_swap(algo, env, group, member)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "env"), TUNED)
def test_every_swap_under_a_tuned_file(algo, env):
    for swap in swaps():
        if swap[:2] == (algo, env):
            check_swap(*swap)


def check_swap(algo, env, group, member):
    """A part that the user swaps in arrives as it is, with nothing that was tuned for the part that it replaces."""
    config = checked(f"algo={algo}", f"env={env}", f"{group}={member}")
    node = OmegaConf.select(config, group.replace("/", "."))
    # the member as it is by itself, and what is tuned for it
    values, sections = tuned(algo, env)
    expect = OmegaConf.merge(raw(f"{group}/{member}"), sections.get(f"{group}={member}", {}))
    if group == "memory":  # one member's scalars fit the other
        recipe = raw(f"algo/{algo}")
        expect = OmegaConf.merge(raw("memory/replay"), expect, *(part.get("memory", {}) for part in (recipe, values)))
    assert OmegaConf.to_container(node) == OmegaConf.to_container(expect)

    if algo in OF_DATA:
        return
    default = psi(algo)
    if default is None:
        built(config)
        return
    advantage = member if group == "algo/advantage" else default[0]
    baseline = member if group == "algo/baseline" else default[1]
    if has_meaning(config, algo, advantage, baseline):
        built(config)
    else:
        with pytest.raises(UserError, match=r"^algo[/.](advantage|baseline|normalize\w*)=.* use algo[/.]"):
            built(config)


def test_there_are_tuned_files_to_test():
    assert {("ppo", "cartpole"), ("sac", "pendulum")} <= set(TUNED)


@pytest.mark.parametrize("name", names("tuned"))
def test_a_tuned_file_is_of_a_pair_and_its_sections_of_members(name):
    assert name in TUNED_PAIRS, "its name is <algo>_<env>"
    for section, values in tuned(*TUNED_PAIRS[name])[1].items():
        group, _, member = section.partition("=")
        assert member in names(group), section
        assert set(values) <= set(raw(f"{group}/{member}")) - {"_target_"}, section


@pytest.mark.parametrize("name", sampled(names("tuned"), 5))
def test_a_tuned_file_s_values_arrive(name):
    algo, env = TUNED_PAIRS[name]
    values, sections = tuned(algo, env)
    known = set(keys(untuned(algo)))
    config = compose(f"algo={algo}", f"env={env}")
    for key in keys(values):
        assert key in known, f"{key} is no key of algo={algo}"
        assert not key.startswith(
            ("optimizer.", "network.", "algo.advantage.", "algo.baseline.", "algo.exploration.")
        ), f"{key} holds with one member alone: it belongs below where"
        assert OmegaConf.select(config, key) == OmegaConf.select(values, key)
    for section, inside in sections.items():
        group, _, member = section.partition("=")
        node = OmegaConf.select(compose(f"algo={algo}", f"env={env}", f"{group}={member}"), group.replace("/", "."))
        assert {key: node[key] for key in inside} == dict(inside)


def test_names_of_tuned_files_have_one_reading():
    assert len(TUNED_PAIRS) == len(PAIRS)


def test_a_derived_file_names_what_it_makes():
    """The index of keys and these tests find a part by the `_target_` in the file that a user chooses."""
    for group in ("algo", "network", "optimizer", "memory", "collector"):
        for name in names(group):
            own = alone(f"{group}/{name}")
            assert "_target_" in own.get(group, own), f"{group}={name}"


@cache
def untuned(algo: str) -> DictConfig:
    """An algorithm's config on an environment for which nothing is tuned."""
    return compose(f"algo={algo}", "env=gym", "env.id=MountainCar-v0")


def test_a_comment_says_no_more_what_the_code_says():
    """A key's meaning stands beside the constructor's argument; a comment says why a recipe has this value."""
    entries = index()
    for path in sorted(CONFIGS.rglob("*.yaml")):
        for key, comment in re.findall(r"^ *(\w+): .*?\S +# (.*)$", path.read_text(), re.MULTILINE):
            for entry in entries.values():
                if entry.key.rpartition(".")[2] == key:
                    for setting in entry.settings:
                        assert comment.lower().strip(",.") != setting.meaning.lower().strip(",."), (path.name, key)
