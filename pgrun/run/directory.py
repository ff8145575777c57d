"""Read what a run left in its directory, in order to resume or evaluate it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from pgrun.config.paths import config_dir, importable
from pgrun.config.renamed import renew
from pgrun.config.resolve import resolved
from pgrun.errors import UserError
from pgrun.run import checkpoint
from pgrun.run.console import remark, shown
from pgrun.run.manifest import write_known

TOLD = "resumed.yaml"  # the file beside the config with the changes that `pgrun resume` was told, in order
KILLED_AT_ITS_START = "the run was killed while it wrote it; delete the folder and start it again"


def load_run(folder: Path, state: dict[str, Any] | None = None) -> tuple[DictConfig, dict[str, str]]:
    """Load a run directory's config and the names of its algorithm and environment.

    Args:
        folder: the run directory.
        state: a checkpoint of this run. Its own config then counts, with the changes that `pgrun resume` was told
            since. If .hydra/config.yaml differs from that, a remark says so.

    Raises:
        UserError: it is no run directory.
    """
    path = folder / ".hydra" / "config.yaml"
    if state is None:
        check_run(folder)
        if not path.exists():
            raise UserError(f"{folder} has no .hydra/config.yaml")
        if not path.read_text(encoding="utf-8").strip():
            raise UserError(f"{folder} holds no config: {KILLED_AT_ITS_START}")
        config = resolved(DictConfig(OmegaConf.load(path)))
        return config, names_of(folder, config)
    config = DictConfig(OmegaConf.merge(OmegaConf.create(renew(state["config"])), OmegaConf.from_dotlist(told(folder))))
    written = written_config(path)
    if not written and not path.parent.exists():  # hydra.output_subdir=null, or another name
        return config, dict(state.get("names") or names_of(folder, config))
    if not written:
        remark(f"pgrun: {shown(path.absolute())} is missing or can't be read: the checkpoint's own config counts")
    elif said := differences(written, flat(config), "there", "in the checkpoint, which counts"):
        remark(f"pgrun: {shown(path.absolute())} is not what the checkpoint was trained with: {said}")
    return config, dict(state.get("names") or names_of(folder, config))


# The parts of a run's `hydra` node that are read, with defaults for a file that lacks some of them.
READ_OF_HYDRA = OmegaConf.create(
    {
        "runtime": {"cwd": None, "config_sources": [], "choices": {}},
        "overrides": {"task": [], "hydra": []},
        "mode": None,
        "job": {"config_name": None},
    }
)


def use_search_path(folder: Path) -> None:
    """Let Python find the user's code that a run was trained with, wherever that lies.

    Hydra records in .hydra/hydra.yaml where the run was started and which folders its configs came from.
    """
    hydra = hydra_of(folder)
    if hydra is None:  # the run was killed while it wrote the file
        return
    kept = hydra.runtime
    started = [str(kept.cwd)] if kept.cwd else []
    places = [*started, *(str(Path(s.path).parent) for s in kept.config_sources if s.schema == "file")]
    importable([place for place in places if Path(place) != config_dir().parent])


def check_begun(folder: Path) -> None:
    """Raise UserError where a run was killed before Hydra had written all that it was started with."""
    if hydra_of(folder) is None:
        what = f"{folder}/.hydra/hydra.yaml, which says what was chosen, is missing or torn"
        raise UserError(f"{what}: {KILLED_AT_ITS_START}")


def check_run(folder: Path) -> None:
    """Raise UserError if a folder is no run directory."""
    if not (folder / ".hydra" / "config.yaml").exists() and not checkpoint.latest(folder / "checkpoints").exists():
        raise UserError(f"{folder} is no run directory: it has no .hydra/config.yaml")


def names_of(folder: Path, config: DictConfig) -> dict[str, str]:
    """Return the names of a run's algorithm and environment, as they were chosen."""
    hydra = hydra_of(folder)
    choices: Any = None if hydra is None else hydra.runtime.choices
    if choices is None:  # lost since
        choices = {"algo": config.algo.get("_target_", "").rpartition(".")[2].lower(), "env": config.env.get("id")}
    return {"algo": str(choices.get("algo")), "env": str(choices.get("env"))}


def hydra_of(folder: Path) -> DictConfig | None:
    """Read the `hydra` node that a run was composed with; None if it is lost, or of another program."""
    path = folder / ".hydra" / "hydra.yaml"
    try:
        content = OmegaConf.create(path.read_text()) if path.exists() else OmegaConf.create()
        node = OmegaConf.select(content, "hydra") if OmegaConf.is_dict(content) else None
        node = OmegaConf.merge(READ_OF_HYDRA, node) if node is not None else None
    except (OmegaConfBaseException, YAMLError, OSError, ValueError, TypeError):
        return None
    if not isinstance(node, DictConfig) or not {"algo", "env"} <= set(node.runtime.choices or ()):
        return None
    return node


def told(folder: Path) -> list[str]:
    """Read the changes that `pgrun resume` was told to make, in order."""
    path = folder / ".hydra" / TOLD
    return (
        [str(text) for text in OmegaConf.load(path)]
        if path.exists() and path.read_text(encoding="utf-8").strip()
        else []
    )


def remember(folder: Path, config: DictConfig, overrides: list[str]) -> None:
    """Write the changes that `pgrun resume` was told, and the config that the run goes on with."""
    path = folder / ".hydra" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    if overrides:
        values = dict(text.split("=", 1) for text in [*told(folder), *overrides])
        lines = OmegaConf.to_yaml(OmegaConf.create([f"{key}={value}" for key, value in values.items()]))
        write_known(folder, f".hydra/{TOLD}", lines.encode())
    if overrides or differences(written_config(path), flat(config), "", ""):
        write_known(folder, ".hydra/config.yaml", OmegaConf.to_yaml(config).encode())


def written_config(path: Path) -> dict[str, Any]:
    """Read a config file into values by dotted key; empty if it is missing, torn, or can't be resolved."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        return flat(DictConfig(OmegaConf.create(text))) if text.strip() else {}
    except (OmegaConfBaseException, YAMLError, OSError, ValueError):
        return {}


def flat(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return a config as values by dotted key, without its `hydra` node."""
    from pgrun.run.result_file import flatten

    config = OmegaConf.create(config) if isinstance(config, dict) else config
    return flatten(OmegaConf.to_container(resolved(config)))


def differences(one: dict[str, Any], other: dict[str, Any], of_one: str, of_other: str) -> str:
    """Describe in words how two configs differ; empty if they are the same.

    Args:
        one: values by dotted key.
        other: the same of the other config.
        of_one: words that say where the first one's values are.
        of_other: the same for the other.
    """
    changed = [key for key in sorted({*one, *other}) if one.get(key) != other.get(key)]
    said = [f"{key}={one.get(key, '(none)')} {of_one}, {other.get(key, '(none)')} {of_other}" for key in changed[:3]]
    return "; ".join(said) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def find_checkpoint(folder: Path, which: str) -> Path:
    """Return the checkpoint file that `latest`, `best` or a path names."""
    if which == "latest":
        return checkpoint.latest(folder / "checkpoints")
    if which == "best":
        return checkpoint.best(folder / "checkpoints")
    path = Path(which)
    return path if path.exists() or path.is_absolute() else folder / path


def own_checkpoint(folder: Path, path: Path) -> bool:
    """Return whether a checkpoint file belongs to the run in this directory."""
    return path.resolve().parent == (folder / "checkpoints").resolve()
