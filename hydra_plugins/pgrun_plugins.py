"""pgrun's plugins, where Hydra looks for them: it takes any from this namespace alone.

Hydra executes this module anew whenever it looks for plugins, so it holds names and nothing else.
"""

from pgrun.config import config_source
from pgrun.sweep import grid
from pgrun.sweep.launchers import basic, joblib, ray, slurm
from pgrun.sweep.optuna import sweeper


class BasicLauncher(basic.BasicLauncher):
    __doc__ = basic.BasicLauncher.__doc__


class JoblibLauncher(joblib.JoblibLauncher):
    __doc__ = joblib.JoblibLauncher.__doc__


class RayLauncher(ray.RayLauncher):
    __doc__ = ray.RayLauncher.__doc__


class SlurmLauncher(slurm.SlurmLauncher):
    __doc__ = slurm.SlurmLauncher.__doc__


class GridSweeper(grid.GridSweeper):
    __doc__ = grid.GridSweeper.__doc__


class OptunaSweeper(sweeper.OptunaSweeper):
    __doc__ = sweeper.OptunaSweeper.__doc__


class TunedSections(config_source.TunedSections):
    __doc__ = config_source.TunedSections.__doc__
