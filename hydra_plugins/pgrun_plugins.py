"""pgrun's plugins, where Hydra looks for them: it takes any from this namespace alone.

Hydra executes this module anew whenever it looks for plugins, so it holds names and nothing else.
"""

from pgrun.config.config_source import TunedSections as Sections
from pgrun.sweep.grid import GridSweeper as Grid
from pgrun.sweep.launchers.basic import BasicLauncher as Basic
from pgrun.sweep.launchers.joblib import JoblibLauncher as Joblib
from pgrun.sweep.launchers.ray import RayLauncher as Ray
from pgrun.sweep.launchers.slurm import SlurmLauncher as Slurm
from pgrun.sweep.optuna.sweeper import OptunaSweeper as Optuna


class BasicLauncher(Basic):
    """Run one job after the other, in this process."""


class JoblibLauncher(Joblib):
    """Run jobs in parallel processes on this machine."""


class RayLauncher(Ray):
    """Run jobs on Ray, on this machine or a cluster."""


class SlurmLauncher(Slurm):
    """Run jobs on a Slurm cluster, by submitit."""


class GridSweeper(Grid):
    """Try every combination of the values that are given."""


class OptunaSweeper(Optuna):
    """Search the best values, by Optuna."""


class TunedSections(Sections):
    """Read config files, and the sections of a pair's tuned file as files of their own."""
