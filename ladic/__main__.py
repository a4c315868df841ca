"""``python -m ladic`` is the console script ``ladic``."""

from ladic.cli.main import main

if __name__ == "__main__":
    main()
