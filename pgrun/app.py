"""The Hydra app behind `pgrun [overrides]`: compose, check, run; alone or as the jobs of a sweep."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from hydra.plugins.config_source import ConfigLoadError
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.errors import Diverged, UserError, WrongSpace
from pgrun.paths import config_dir
from pgrun.suggest import nearest
from pgrun.validate import keys, validate

BEGIN = time.perf_counter()
WORST = -1e9  # the objective of a run that diverged or failed: finite, so that every optimiser can rank it
log = logging.getLogger("pgrun")
GROUP_KEYS = ("algo", "env", "network", "optimizer", "memory", "collector", "algo/advantage", "algo/baseline")
_claimed: dict[str, str] = {}
_sweep_codes: list[int] = []
_built: list[Any] = []  # the parts of the run that was checked before Hydra made its directory


def main(argv: Sequence[str]) -> int:
    """Run the Hydra app on these arguments; -> the exit code."""
    register_resolvers()
    register_sweeps()
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # let errors through, so that they can be told in one line
    argv = [whole_numbers(arg) for arg in argv]
    sys.argv = ["pgrun", *argv]
    outcome: list[int] = []

    def task(config: DictConfig) -> float | None:
        objective, code = job(config)
        outcome.append(code)
        return objective

    app: Callable[[], Any] = hydra.main(version_base="1.3", config_path=str(config_dir()), config_name="config")(task)
    try:
        app()
    except UserError as error:
        return fail(str(error))
    except (HydraException, OmegaConfBaseException) as error:
        return fail(translate(error, argv))
    except KeyboardInterrupt:
        return 130
    return max(_sweep_codes or outcome, default=0)


def register_sweeps() -> None:
    """Put pgrun's choices under the names that the plugins for sweeps have taken, where those are installed.

    `hydra/launcher=joblib` becomes a launcher that survives a killed worker; `hydra/sweeper=optuna` maximises.
    """
    Plugins.instance()  # imports the plugins, which store their configs
    store = ConfigStore.instance()
    with contextlib.suppress(ConfigLoadError):
        store.load("hydra/launcher/joblib.yaml")
        target = "hydra_plugins.pgrun_launcher.launcher.SurvivingJoblibLauncher"
        store.store(group="hydra/launcher", name="joblib", node={"_target_": target, "n_jobs": -1, "verbose": 0})
    with contextlib.suppress(ConfigLoadError):
        optuna = store.load("hydra/sweeper/optuna.yaml").node
        OmegaConf.set_struct(optuna, False)
        optuna.direction, optuna.n_jobs = "maximize", 1  # more trials at a time need hydra/launcher=joblib
        store.store(group="hydra/sweeper", name="optuna", node=optuna, provider="optuna_sweeper")


def whole_numbers(argument: str) -> str:
    """`total_steps=1e6` as `total_steps=1000000`: a number that is whole is written as one, which fits floats too."""

    def rewrite(match: re.Match[str]) -> str:
        value = float(match[0])
        return str(int(value)) if value.is_integer() and value < 1e18 else match[0]

    return re.sub(r"(?<=[=,])\d+(?:\.\d*)?[eE]\+?\d+(?=,|$)", rewrite, argument)


def fail(line: str, code: int = 2) -> int:
    """Print an error's one line; -> its exit code."""
    print(f"pgrun: {line}", file=sys.stderr, flush=True)
    return code


def register_resolvers() -> None:
    """What configs may call: `${free_dir:…}` and `${no_slash:…}`."""
    # cached with the config: a sweep's jobs, wherever they run, share the sweep's directory
    OmegaConf.register_new_resolver("free_dir", free_dir, replace=True, use_cache=True)
    OmegaConf.register_new_resolver("no_slash", no_slash, replace=True)


def free_dir(path: str) -> str:
    """This path, or with _2, _3, … behind it where another run took it; made at once, so that no other run can."""
    if "--cfg" in sys.argv or "-c" in sys.argv:
        return path
    if path not in _claimed:
        candidate, number = Path(path), 1
        while True:
            try:
                candidate.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
                candidate = Path(f"{path}_{number}")
        _claimed[path] = str(candidate)
    return _claimed[path]


def no_slash(text: str) -> str:
    """A job's overrides as a folder's name: no slash, and not too long for a file system."""
    return text.replace("/", ".").replace(" ", "")[:180]


class CheckFirst(Callback):
    """Composes, checks and builds before Hydra makes the run's directory, so that a refused run leaves nothing."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra swallows a callback's exceptions, but not SystemExit."""
        try:
            _built.append(prepare(config))
        except UserError as error:
            raise SystemExit(fail(str(error))) from error
        except Exception:
            traceback.print_exc()
            raise SystemExit(1) from None

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check every value that is swept, the others at their first, before the sweep's directory is made."""
        try:
            check_sweep(config)
        except UserError as error:
            raise SystemExit(fail(str(error))) from error
        except (HydraException, OmegaConfBaseException) as error:
            raise SystemExit(fail(translate(error, config.hydra.overrides.task))) from error

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """A table of the jobs, and whether one failed."""
        _sweep_codes.append(sweep_table(Path(config.hydra.sweep.dir)))


ConfigStore.instance().store(
    group="hydra/callbacks", name="pgrun", node={"check_first": {"_target_": "pgrun.app.CheckFirst"}}
)


def prepare(config: DictConfig) -> Any:
    """Check a composed config (with its `hydra` node) and build its parts."""
    check(config)
    from pgrun.build import build

    try:
        return build(config)
    except WrongSpace as error:
        able = [name for name, algorithm in algorithms().items() if isinstance(error.space, algorithm.action_spaces)]
        raise UserError(f"{error}; algo={', '.join(able)} can act there") from error
    except HydraException as error:
        raise UserError(instantiation(error)) from error


def algorithms() -> dict[str, Any]:
    """The shipped algorithms' classes by their name on the command line."""
    from hydra.utils import get_class

    found = {}
    for path in sorted((config_dir() / "algo").glob("*.yaml")):
        found[path.stem] = get_class(OmegaConf.load(path).algo._target_)
    return found


def check(config: DictConfig) -> None:
    """Types and ranges, against the same groups without the user's values."""
    validate(_task(config), _task(without_values(config, list(config.hydra.overrides.task))))


def check_sweep(config: DictConfig) -> None:
    """Compose and check a sweep's jobs, one for each value of each swept key."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ValueType

    loader = GlobalHydra.instance().config_loader()
    listed: list[list[str]] = []
    for override in OverridesParser.create().parse_overrides(list(config.hydra.overrides.task)):
        if override.is_sweep_override():
            if override.value_type is ValueType.INTERVAL_SWEEP:  # a sweeper draws from it
                continue
            key = override.get_key_element()
            listed.append([f"{key}={value}" for value in override.sweep_string_iterator()])
        else:
            listed.append([str(override.input_line)])
    jobs = [[values[0] for values in listed]]
    for i, values in enumerate(listed):
        jobs += [[*(v[0] for v in listed[:i]), value, *(v[0] for v in listed[i + 1 :])] for value in values[1:]]
    for overrides in jobs:
        one = loader.load_configuration(config_name="config", overrides=overrides, run_mode=RunMode.RUN)
        validate(_task(one), _task(without_values(one, overrides)))


def _task(config: DictConfig) -> DictConfig:
    """A composed config without its `hydra` node."""
    task = config.copy()
    OmegaConf.set_struct(task, False)
    task.pop("hydra")
    return task


def without_values(config: DictConfig, overrides: list[str]) -> DictConfig:
    """The config that the chosen groups alone compose to."""
    from hydra.core.global_hydra import GlobalHydra

    choices = config.hydra.runtime.choices
    groups = [o for o in overrides if o.lstrip("+~").split("=")[0].split("@")[0] in choices]
    loader = GlobalHydra.instance().config_loader()
    return loader.load_configuration(config_name="config", overrides=groups, run_mode=RunMode.RUN)


def job(config: DictConfig) -> tuple[float | None, int]:
    """One run in the directory that Hydra made; -> its objective and exit code. A sweep's job never raises."""
    hydra_config = HydraConfig.get()
    sweep = hydra_config.mode == RunMode.MULTIRUN
    folder = Path(hydra_config.runtime.output_dir)
    try:
        parts = _built.pop() if _built and not sweep else prepare(with_hydra(config, hydra_config))
        from pgrun.run import Run

        names = {key: str(hydra_config.runtime.choices[key]) for key in ("algo", "env")}
        # a job's clock starts with the job, a single run's with the process
        begin = time.perf_counter() if sweep else BEGIN
        run = Run(config, parts, folder, names=names, begin=begin, quiet=sweep)
        result = run.execute()
    except UserError as error:
        return report(folder, sweep, str(error), UserError.exit_code)
    except Diverged as error:
        return report(folder, sweep, f"the run diverged: {error}", Diverged.exit_code)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if not sweep:
            raise
        traceback.print_exc()
        return report(folder, sweep, f"{type(error).__name__}: {error}", 1)
    if result["status"] == "interrupted":
        print(f"interrupted; go on with: pgrun resume {shown(folder)}", file=sys.stderr)
        if sweep:
            raise KeyboardInterrupt
        return None, 130
    summary(folder, result, sweep)
    return objective(result), 0


def with_hydra(config: DictConfig, hydra_config: Any) -> DictConfig:
    """A job's config with its `hydra` node back."""
    whole = config.copy()
    OmegaConf.set_struct(whole, False)
    whole.hydra = OmegaConf.masked_copy(DictConfig({"hydra": hydra_config}), ["hydra"]).hydra
    return whole


def objective(result: dict[str, Any]) -> float:
    """What a sweeper maximises: the final evaluation's mean return."""
    value = result["eval_return_mean"]
    return WORST if value is None else float(value)


def report(folder: Path, sweep: bool, line: str, code: int) -> tuple[float, int]:
    """Tell of a job that failed, at once; its result.json says so too."""
    name = f"{folder.name}: " if sweep else ""
    fail(name + line, code)
    if sweep and not (folder / "result.json").exists():
        from pgrun.run import write_json

        write_json(folder / "result.json", {"status": "failed", "error": line})
    return WORST, code


def summary(folder: Path, result: dict[str, Any], sweep: bool) -> None:
    """A few lines at the end: the figures, where they are, what to do next."""
    evaluated = result["eval_return_mean"]
    rate = result["steps_per_second"]
    figures = f"{result['env_steps']:,} steps in {result['wall_seconds']:.1f} s"
    figures += f" ({rate:,.0f} steps/s)" if rate else ""
    if evaluated is not None:
        figures += (
            f", evaluation {evaluated:.1f} ± {result['eval_return_std']:.1f} over {result['eval_episodes']} episodes"
        )
    if sweep:
        print(f"{folder.name}: {figures}", flush=True)
        return
    print(f"\n{result['algo']} on {result['env']}: {figures}")
    print(f"run directory  {shown(folder)}")
    print(f"curves         tensorboard --logdir {shown(folder.parent.parent)}")
    print(f"evaluate       pgrun eval {shown(folder)}", flush=True)


def sweep_table(folder: Path) -> int:
    """Print what became of a sweep's jobs, the best last; -> 1 where one did not finish, else 0."""
    files = sorted(folder.glob("*/result.json"), key=lambda f: int(f.parent.name.split("_")[0]))
    jobs = [(file.parent.name, json.loads(file.read_text())) for file in files]
    if not jobs:
        return 0
    print(f"\n{'job':60} {'status':12} {'evaluation':>10}")
    for name, result in jobs:
        value = result.get("eval_return_mean")
        figure = "–" if value is None else f"{value:.1f}"
        print(f"{name if len(name) <= 60 else name[:59] + '…':60} {result['status']:12} {figure:>10}")
    finished = [(r["eval_return_mean"], name) for name, r in jobs if r.get("eval_return_mean") is not None]
    if finished:
        best, name = max(finished)
        print(f"best: {name} with {best:.1f}")
    print(f"sweep directory  {shown(folder.resolve())}", flush=True)
    return int(any(result["status"] != "finished" for _, result in jobs))


def shown(path: Path) -> Path:
    """A path as short as it can be said from here."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def instantiation(error: BaseException) -> str:
    """Hydra's failure to instantiate a `_target_`, in one line."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where = next((line for line in lines if line.startswith("full_key")), "")
    key = where.removeprefix("full_key:").strip()
    if isinstance(cause, UserError):
        return str(cause)
    return f"{key + ': ' if key else ''}{lines[0]} ({type(cause).__name__}: {cause})"


def translate(error: BaseException, argv: Sequence[str]) -> str:
    """A Hydra or OmegaConf error in one line, with the nearest right name."""
    text = str(error)
    if isinstance(error, OverrideParseException):
        return f"can't read {error.override!r}: write key=value, quoted where the shell would take it apart"
    if match := re.search(r"Could not find '([^']+)'\n\nAvailable options in '([^']+)':\n((?:\t.*\n?)+)", text):
        name, group = match[1].rpartition("/")[2], match[2]
        return unknown_member(group, name, [line.strip() for line in match[3].splitlines() if line.strip()])
    if match := re.search(r"In '[^']*': Could not find '([^']+)/([^'/]+)'", text):
        members = [line.strip() for line in text.splitlines() if line.startswith("\t")]
        return unknown_member(match[1], match[2], members)
    if match := re.search(r"Could not (?:override|delete|append[^']*) '?([^'\n]+)'?", text):
        return unknown_key(match[1].rstrip("."), argv)
    if isinstance(error, (MissingConfigException, ConfigCompositionException)):
        return " ".join(line.strip() for line in text.splitlines() if line.strip())
    return text.splitlines()[0] if text else type(error).__name__


def unknown_member(group: str, name: str, members: list[str]) -> str:
    """`algo=pp0`: the members there are, nearest first."""
    if f"{group}={name}" in ("hydra/launcher=joblib", "hydra/sweeper=optuna"):
        return f"{group}={name} needs a package that is not installed: pip install 'pgrun[sweep]'"
    return f"{group}={name} is not known; {group} is one of {', '.join(nearest(name, members, len(members)))}"


def unknown_key(key: str, argv: Sequence[str]) -> str:
    """`algo.gama=0.9`: the nearest key there is."""
    from hydra.core.global_hydra import GlobalHydra

    names = [arg for arg in argv if "=" in arg and not arg.startswith("-")]
    groups = [arg for arg in names if "." not in arg.split("=")[0] and arg.split("=")[0].lstrip("+~") != key]
    known: list[str] = []
    try:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(config_dir()), version_base="1.3"):
            for chosen in (groups, []):
                try:
                    config = hydra.compose("config", overrides=chosen, return_hydra_config=True)
                except Exception:
                    continue
                known = list(keys(_task(config)))
                known += [group for group in config.hydra.runtime.choices if not group.startswith("hydra")]
                break
    except Exception:
        known = []
    close = nearest(key, known, 1)
    if "." not in key and (group := nearest(key, [name for name in GROUP_KEYS if name[0] == key[0]], 1)):
        close = group  # a word alone is a group more often than a key
    hint = f"did you mean {close[0]}?" if close else "pgrun --cfg job shows the keys there are"
    return f"there is no key {key}; {hint} (a new key is added with +{key}=…)"
