"""Run the command line: `python -m atarilens evaluate pong-strong`."""

from compendium.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
