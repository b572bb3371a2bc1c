"""The action `cmd`: runs a command."""

from alarm_mw.actions.cmd.action import CmdAction, CmdOptions

__all__ = ["CmdAction", "CmdOptions"]
