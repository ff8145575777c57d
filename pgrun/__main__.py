"""`python -m pgrun`."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path[0] == os.getcwd() and Path(__file__).parents[1] != Path.cwd():
        sys.path.pop(0)  # the working directory, which the console script does not search either

    from pgrun.shell.cli import entry

    entry()
