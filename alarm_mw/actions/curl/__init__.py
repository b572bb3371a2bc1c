"""The action `curl`: sends over HTTP, mail, and libcurl's other protocols."""

from alarm_mw.actions.curl.action import CurlAction
from alarm_mw.actions.curl.options import CurlOptions

__all__ = ["CurlAction", "CurlOptions"]
