"""Run the command line: `oanix`, or `python -m oanix`."""

import signal


def run() -> None:
    """Load the command line and run it; Ctrl-C before that just ends, as nothing is open yet."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        # Python's own would show where in its imports it was.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from oanix.cli import main

    signal.signal(signal.SIGINT, before)
    main(prog_name="oanix")


if __name__ == "__main__":
    run()
