"""``python -m lamplighter.bootstrap app.handler``."""

import sys

from lamplighter.bootstrap.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
