"""Load a running engine and measure what its readers see: python -m load_tests --help"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The packages beside this file are found by their own names, and the checkout's root, which `-m` has put on
# the path, leaves it: its folder `triton` would shadow the package of that name.
sys.path[:] = [str(HERE), *(one for one in sys.path if Path(one or ".").resolve() != HERE.parent)]

from traffic.cli import main  # noqa: E402

if __name__ == "__main__":
    main()
