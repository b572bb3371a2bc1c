"""The action `curl`: sends over HTTP, mail, and what libcurl knows."""

from alarm_mw.actions.curl.action import CurlAction, CurlOptions

__all__ = ["CurlAction", "CurlOptions"]
