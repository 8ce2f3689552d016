"""Run the command line: `python -m compendium evaluate AGENT=pong-strong`."""

from compendium.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
