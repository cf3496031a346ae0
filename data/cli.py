"""What every command of the project does around its own work: one line for an error, exit code 1, no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from data.errors import HdacError


def run(main: Callable[[], int | None]) -> int:
    """Runs `main` and returns the exit status: 0, 1 for an error of ours or of the file system, 130 for Ctrl-C.

    Set HDAC_DEBUG=1 to see the traceback of such an error.
    """
    try:
        return main() or 0
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `rd-bd .. | head`: nothing went wrong
        return 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (HdacError, OSError) as error:
        if os.environ.get("HDAC_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
