"""The program ``dicomnet``: one short file per command; the library does the work.

Importing this package imports nothing else, and a command's ``--help`` imports click alone.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec


def main() -> None:
    """The entry point; ends the process with the exit code of ``docs/reference/command-line.md``."""
    if not (find_spec("click") and find_spec("rich")):
        print("The command line of dicomnet needs click and rich: pip install 'dicomnet[cli]'", file=sys.stderr)
        sys.exit(2)
    from dicomnet.cli.program import run

    sys.exit(run(sys.argv[1:]))
