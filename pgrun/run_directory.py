"""What a run left in its directory, for what comes after it: resuming, evaluating, drawing."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from pgrun import checkpoint
from pgrun.build import resolved
from pgrun.errors import UserError


def load_run(folder: Path) -> tuple[DictConfig, dict[str, str]]:
    """A run directory's config and the names of its algorithm and environment.

    Raises:
        UserError: it is no run directory.
    """
    path = folder / ".hydra" / "config.yaml"
    if not path.exists():
        raise UserError(f"{folder} is no run directory: it has no .hydra/config.yaml")
    if not path.read_text().strip():
        raise UserError(f"{folder} holds no config: the run was killed while it wrote it; start it again")
    config = resolved(DictConfig(OmegaConf.load(path)))
    hydra = folder / ".hydra" / "hydra.yaml"
    text = hydra.read_text() if hydra.exists() else ""
    choices = OmegaConf.select(OmegaConf.create(text), "hydra.runtime.choices") if text.strip() else None
    if choices is None:  # killed between the two files
        choices = {"algo": config.algo.get("_target_", "").rpartition(".")[2].lower(), "env": config.env.get("id")}
    return config, {"algo": str(choices.get("algo")), "env": str(choices.get("env"))}


def find_checkpoint(folder: Path, which: str) -> Path:
    """The checkpoint file that `latest`, `best` or a path names."""
    if which == "latest":
        return checkpoint.latest(folder / "checkpoints")
    if which == "best":
        return checkpoint.best(folder / "checkpoints")
    path = Path(which)
    return path if path.exists() or path.is_absolute() else folder / path
