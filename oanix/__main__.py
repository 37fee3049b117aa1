"""Run the command line with `python -m oanix`."""

from oanix.cli import main

if __name__ == "__main__":
    main(prog_name="oanix")
