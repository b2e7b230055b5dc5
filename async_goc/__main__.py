"""Run a command of the package: ``python -m async_goc check``."""

import sys

from ._command import main

sys.exit(main())
