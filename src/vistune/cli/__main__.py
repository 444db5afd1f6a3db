"""`python -m vistune.cli`, as torchrun and accelerate start it."""

from __future__ import annotations

import sys

from vistune.cli import main

if __name__ == "__main__":
    sys.exit(main())
