"""Read what a run left in its directory, in order to resume or evaluate it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pgrun.config.renamed import renew
from pgrun.config.resolve import resolved
from pgrun.errors import UserError
from pgrun.run.checkpoint_files import current
from pgrun.run.console import remark, shown
from pgrun.run.manifest import write_known
from pgrun.run.no_run import why_no_run
from pgrun.trust.files import links_away, parse_yaml, read_text, read_yaml
from pgrun.trust.references import Unresolved, escaped, resolved_value
from pgrun.trust.saved import admit

UNREAD = "(not looked up)"  # in place of a value that asks for the environment, a file or a folder
TOLD = "resumed.yaml"  # the file beside the config with the changes that `pgrun resume` was told, in order
KILLED_AT_ITS_START = "the run was killed while it wrote it; delete the folder and start it again"


def load_run(
    folder: Path, state: dict[str, Any] | None = None, *, trust: bool = False
) -> tuple[DictConfig, dict[str, str]]:
    """Load a run directory's config and the names of its algorithm and environment.

    If the run is trusted, Python finds the user's code that it was trained with, wherever that lies.

    Args:
        folder: the run directory.
        state: a checkpoint of this run. Its own config then counts, with the changes that `pgrun resume` was told
            since. If .hydra/config.yaml differs from that, a remark says so.
        trust: use it although it was not made here.

    Raises:
        UserError: it is no run directory, or needs to be trusted.
    """
    path = folder / ".hydra" / "config.yaml"
    away = links_away(folder)
    if state is None:
        check_run(folder)
        if not path.exists():
            raise UserError(f"{folder} has no .hydra/config.yaml")
        if not (read_text(path) or "").strip():
            raise UserError(f"{folder} holds no config: {KILLED_AT_ITS_START}")
        return usable(folder, mapping(read_yaml(path), str(path)), away, trust=trust)
    kept = renew(mapping(state.get("config"), "the config in the checkpoint"))
    try:
        changed = OmegaConf.merge(OmegaConf.create(kept), OmegaConf.from_dotlist(told(folder)))
    except (OmegaConfBaseException, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / '.hydra' / TOLD}: {str(error).splitlines()[0]}") from error
    plain = mapping(OmegaConf.to_container(changed, resolve=False), "the config in the checkpoint")
    config, names = usable(folder, plain, away, trust=trust)
    if isinstance(given := state.get("names"), dict) and given:
        names = {str(key): str(name) for key, name in given.items()}
    written = written_config(path)
    if not written and not path.parent.exists():  # hydra.output_subdir=null, or another name
        return config, names
    if not written:
        remark(f"pgrun: {shown(path.absolute())} is missing or can't be read: the checkpoint's own config counts")
    elif said := differences(written, flat(config), "there", "in the checkpoint, which counts"):
        remark(f"pgrun: {shown(path.absolute())} is not what the checkpoint was trained with: {said}")
    return config, names


def usable(folder: Path, plain: dict[str, Any], away: list[str], *, trust: bool) -> tuple[DictConfig, dict[str, str]]:
    """Return a saved config with its references resolved, and the run's names, if it may be used; see `admit`."""
    hydra = hydra_of(folder)
    node: Any = None if hydra is None else OmegaConf.to_container(hydra, resolve=True)
    admitted = admit(folder, plain, node, trust=trust, away=away)
    config = OmegaConf.create(renew(admitted.config))
    if not isinstance(config, DictConfig) or not all(
        isinstance(config.get(k), DictConfig) for k in ("algo", "env", "eval")
    ):
        raise UserError(f"{folder} holds no config of a run: it has no algo, env and eval, each with keys of its own")
    config = resolved(config) if admitted.trusted else config
    return config, names_of(folder, config)


def mapping(value: Any, name: str) -> dict[str, Any]:
    """Return a value that should be a mapping; UserError if it is anything else."""
    if not isinstance(value, dict):
        raise UserError(f"{name} is no mapping, as key: value")
    return value


# The parts of a run's `hydra` node that are read, with defaults for a file that lacks some of them.
READ_OF_HYDRA = OmegaConf.create(
    {
        "runtime": {"cwd": None, "config_sources": [], "choices": {}},
        "overrides": {"task": [], "hydra": []},
        "mode": None,
        "job": {"config_name": None},
    }
)


def check_begun(folder: Path) -> None:
    """Raise UserError where a run was killed before Hydra had written all that it was started with."""
    if hydra_of(folder) is None:
        what = f"{folder}/.hydra/hydra.yaml, which says what was chosen, is missing or torn"
        raise UserError(f"{what}: {KILLED_AT_ITS_START}")


def check_run(folder: Path) -> None:
    """Raise UserError if a folder is no run directory, or something lies in it that can't be read."""
    if not folder.exists():
        raise UserError(f"{folder} is no run directory: there is no such folder; pgrun runs lists those here")
    if not folder.is_dir():
        raise UserError(why_no_run(folder))
    links_away(folder)
    if not (folder / ".hydra" / "config.yaml").exists() and not current(folder / "checkpoints", "latest.pt").exists():
        raise UserError(why_no_run(folder))


def names_of(folder: Path, config: DictConfig) -> dict[str, str]:
    """Return the names of a run's algorithm and environment, as they were chosen."""
    hydra = hydra_of(folder)
    choices: Any = None if hydra is None else hydra.runtime.choices
    if choices is None:  # lost since
        choices = {"algo": str(config.algo.get("_target_", "")).rpartition(".")[2].lower(), "env": config.env.get("id")}
    return {"algo": str(choices.get("algo")), "env": str(choices.get("env"))}


def hydra_of(folder: Path) -> DictConfig | None:
    """Read the `hydra` node that a run was composed with; None if it is lost, or of another program."""
    path = folder / ".hydra" / "hydra.yaml"
    try:
        content = read_yaml(path)
        found = content.get("hydra") if isinstance(content, dict) else None
        if not isinstance(found, dict):
            return None
        read = {str(key): escaped(found[key]) for key in READ_OF_HYDRA if key in found}  # its text is shown as it is
        node = OmegaConf.merge(READ_OF_HYDRA, read)
        known = isinstance(node, DictConfig) and {"algo", "env"} <= set(node.runtime.choices or ())
    except (OmegaConfBaseException, UserError, ValueError, TypeError, AttributeError):
        return None
    return node if known and isinstance(node, DictConfig) else None


def told(folder: Path) -> list[str]:
    """Read the changes that `pgrun resume` was told to make, in order."""
    path = folder / ".hydra" / TOLD
    content = read_yaml(path) or []
    if not isinstance(content, list):
        raise UserError(f"{path} holds no list of changes, as key=value")
    return [str(text) for text in content]


def changes(folder: Path, overrides: list[str]) -> list[str]:
    """List the changes that `pgrun resume` was told so far, and those that it is told now; the last of a key counts."""
    return [f"{key}={value}" for key, value in dict(text.split("=", 1) for text in [*told(folder), *overrides]).items()]


def remember(folder: Path, config: DictConfig, overrides: list[str]) -> None:
    """Write the changes that `pgrun resume` was told, and the config that the run goes on with."""
    path = folder / ".hydra" / "config.yaml"
    path.parent.mkdir(exist_ok=True)
    if overrides:
        lines = OmegaConf.to_yaml(OmegaConf.create(changes(folder, overrides)))
        write_known(folder, f".hydra/{TOLD}", lines.encode())
    if overrides or differences(written_config(path), flat(config), "", ""):
        write_known(folder, ".hydra/config.yaml", OmegaConf.to_yaml(config).encode())


def written_config(path: Path) -> dict[str, Any]:
    """Read a config file into values by dotted key; empty if it is missing, torn, or can't be resolved.

    References that call functions are left out: nothing is read from the environment for a file that lies about.
    """
    try:
        text = read_text(path) or ""
        content = parse_yaml(text, str(path)) if text.strip() else None
    except UserError:
        return {}
    return flat(settled(content)) if isinstance(content, dict) else {}


def settled(config: dict[str, Any]) -> dict[str, Any]:
    """Copy a config's plain values, with `UNREAD` for what refers to anything but another of its values."""

    def kept(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: kept(item) for key, item in value.items()}
        try:
            return resolved_value(value, config)
        except Unresolved:
            return UNREAD

    return {key: kept(value) for key, value in config.items() if key != "hydra"}


def flat(config: DictConfig | dict[str, Any]) -> dict[str, Any]:
    """Return a config as values by dotted key, without its `hydra` node."""
    from pgrun.run.result_file import flatten

    config = OmegaConf.create(config) if isinstance(config, dict) else config
    return flatten(OmegaConf.to_container(resolved(config)))


def flat_of(state: dict[str, Any]) -> dict[str, Any]:
    """Return the config in a checkpoint's content as values by dotted key; what it refers to is not looked up."""
    return flat(settled(mapping(state.get("config"), "the config in the checkpoint")))


def differences(one: dict[str, Any], other: dict[str, Any], of_one: str, of_other: str) -> str:
    """Describe in words how two configs differ; empty if they are the same.

    Args:
        one: values by dotted key.
        other: the same of the other config.
        of_one: words that say where the first one's values are.
        of_other: the same for the other.
    """
    changed = [
        key
        for key in sorted({*one, *other})
        if one.get(key) != other.get(key) and UNREAD not in (one.get(key), other.get(key))
    ]
    said = [f"{key}={one.get(key, '(none)')} {of_one}, {other.get(key, '(none)')} {of_other}" for key in changed[:3]]
    return "; ".join(said) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


def find_checkpoint(folder: Path, which: str) -> Path:
    """Return the checkpoint file that `latest`, `best` or a path names."""
    if which == "latest":
        return current(folder / "checkpoints", "latest.pt")
    if which == "best":
        return current(folder / "checkpoints", "best.pt")
    path = Path(which)
    if path.exists() or path.is_absolute():
        return path
    inside = folder / "checkpoints" / path
    if not (folder / path).exists() and inside.exists():  # by its name alone
        return inside
    if not path.suffix and not (folder / path).exists():
        known = ", ".join(sorted(file.name for file in (folder / "checkpoints").glob("*.pt")))
        raise UserError(f"there is no checkpoint {which} of {folder}: give latest, best, or a file, as one of {known}")
    return folder / path


def own_checkpoint(folder: Path, path: Path) -> bool:
    """Return whether a checkpoint file belongs to the run in this directory."""
    return path.resolve().parent == (folder / "checkpoints").resolve()
