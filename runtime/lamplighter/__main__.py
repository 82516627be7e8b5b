"""``python -m lamplighter``: the same as the ``lamplighter`` command."""

from lamplighter.cli import main

if __name__ == "__main__":
    main(prog_name="lamplighter")
