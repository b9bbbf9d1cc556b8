"""`python -m qlm` is the command `qlm`."""

import sys

if __name__ == "__main__":
    try:
        from qlm.cli import main

        status = main()
    except KeyboardInterrupt:  # while that was imported
        status = 130
    sys.exit(status)
