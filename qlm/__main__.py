"""`python -m qlm` is the command `qlm`."""

import sys

from qlm.cli import main

if __name__ == "__main__":
    sys.exit(main())
