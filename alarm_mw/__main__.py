"""``python -m alarm_mw``: the same as the command ``alarm-mw``."""

from alarm_mw.cli.main import main

if __name__ == "__main__":
    main(prog_name="alarm-mw")
