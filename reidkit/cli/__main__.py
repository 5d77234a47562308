"""`python -m reidkit.cli`: the command line without an installed script."""

from reidkit.cli import main

if __name__ == "__main__":
    main()
