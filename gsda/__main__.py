"""Entry of `python -m gsda`."""

import sys

from gsda.cli import main

sys.exit(main())
