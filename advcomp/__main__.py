"""`python -m advcomp`: the command `advcomp`."""

from advcomp.cli import main

if __name__ == "__main__":
    main(prog_name="python -m advcomp")
