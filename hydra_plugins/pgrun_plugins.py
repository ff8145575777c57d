"""pgrun's launchers and sweepers, where Hydra looks for them: it takes plugins from this namespace alone.

Hydra executes this module anew whenever it looks for plugins, so it holds names and nothing else.
"""

from pgrun.sweep.grid import GridSweeper as Grid
from pgrun.sweep.launchers.basic import BasicLauncher as Basic
from pgrun.sweep.launchers.joblib import JoblibLauncher as Joblib
from pgrun.sweep.launchers.ray import RayLauncher as Ray
from pgrun.sweep.launchers.slurm import SlurmLauncher as Slurm
from pgrun.sweep.optuna.sweeper import OptunaSweeper as Optuna


class BasicLauncher(Basic):
    __doc__ = Basic.__doc__


class JoblibLauncher(Joblib):
    __doc__ = Joblib.__doc__


class RayLauncher(Ray):
    __doc__ = Ray.__doc__


class SlurmLauncher(Slurm):
    __doc__ = Slurm.__doc__


class GridSweeper(Grid):
    __doc__ = Grid.__doc__


class OptunaSweeper(Optuna):
    __doc__ = Optuna.__doc__
