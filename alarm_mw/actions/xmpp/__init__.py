"""The action `xmpp`: sends chat messages over an account that stays online."""

from alarm_mw.actions.xmpp.action import XmppAction
from alarm_mw.actions.xmpp.options import XmppOptions

__all__ = ["XmppAction", "XmppOptions"]
