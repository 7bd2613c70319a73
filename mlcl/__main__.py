"""The command line. What takes long goes to the run's warm worker, where there is one, before anything is loaded."""

import sys

from mlcl import handover

if (code := handover.hand_over(sys.argv[1:])) is not None:
    sys.exit(code)

from mlcl.cli import main

main()
