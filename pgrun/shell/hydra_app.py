"""`pgrun [overrides]`: train or sweep, and say how it ended."""

from __future__ import annotations

import time
import traceback
from collections.abc import Sequence

from pgrun.api.app import App, Ended
from pgrun.errors import Diverged, UserError
from pgrun.run.console import fail, pasted, remark, summary

BEGIN = time.perf_counter()


def main(argv: Sequence[str]) -> int:
    """Run the Hydra app on these arguments, and return the exit code."""
    app = App(argv, begin=BEGIN)
    try:
        ended = app.run()
    except UserError as error:
        return fail(str(error))
    except KeyboardInterrupt:
        if app.session is not None:
            remark("interrupted; the same line goes on with it")
        return 130
    except OSError:
        raise
    except Exception:
        traceback.print_exc()
        return 1
    return app.code if ended is None else said(ended)


def said(ended: Ended) -> int:
    """Print how a run ended, and return the exit code."""
    if isinstance(ended.error, Diverged):
        return fail(f"the run diverged: {ended.error}", ended.error.exit_code)
    if ended.error is not None:
        return fail(str(ended.error), ended.error.exit_code)
    assert ended.result is not None
    if ended.result["status"] == "interrupted":
        remark(f"interrupted; go on with: pgrun resume {pasted(ended.folder)}")
        return 130
    summary(ended.folder, ended.result)
    return 0
