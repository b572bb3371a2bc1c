"""Configurations of servers with a page: who is let in, and the alarms and rules that most tests need."""

from __future__ import annotations

#: What programs send that may look alone, and act.
KARMA = {"Authorization": "Bearer read-read-read-read"}
ROBOT = {"Authorization": "Bearer act-act-act-act-act"}

TOKENS = """
[[web.tokens]]
name = "karma"
token = "read-read-read-read"
[[web.tokens]]
name = "robot"
token = "act-act-act-act-act"
role = "act"
"""

#: One alarm that always works, and one that never does.
ALARMS = """
[alarms.mail]
action = "log"
[alarms.sms]
action = "cmd"
command = "echo no credit >&2; exit 1"
"""

PAYMENTS = """
[[rules]]
name = "payments"
pattern = 'payment (?P<order>\\S+) failed'
key = ["order"]
resolve = 'payment (?P<order>\\S+) accepted'
labels = { severity = "critical" }
alarms = ["mail", "sms"]
"""

#: One incident, and one for each disk.
DISK = """
[[rules]]
name = "disk"
pattern = "disk full"
resolve_after = "1h"
labels = { severity = "warning" }
alarms = ["mail"]
"""
DISKS = """
[[rules]]
name = "disk"
pattern = 'disk (?P<disk>\\S+) full'
key = ["disk"]
resolve_after = "1h"
labels = { severity = "warning" }
alarms = ["mail"]
"""

HEARTBEATS = """
[[monitors]]
monitor = "heartbeat"
name = "jobs"
every = "1d"
names = ["backup", "job-*"]
alarms = ["mail"]
"""


def configuration(*parts: str, port: int = 8420, more: str = "", name: str = "") -> str:
    """Return a configuration with a page at a port of this machine; `more` are keys of ``[web]``."""
    top = f'name = "{name}"\n' if name else ""
    return "".join([top, f'[web]\nlisten = "127.0.0.1:{port}"\n{more}\n', *parts])
