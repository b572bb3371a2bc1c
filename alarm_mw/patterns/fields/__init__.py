"""The fields of records: lines in JSON and logfmt, the facts that they state, and conditions of rules on them.

The modules are imported with the first line or rule that needs them.
"""

from __future__ import annotations

import re

#: How a JSON object begins, which is the group, or a line in logfmt.
FORM = re.compile(rb'\s*(?:(\{)|[A-Za-z_@][^\s"=]*=)')


def may_state_fields(message: bytes) -> bool:
    """Return whether a message may be a JSON object or a line in logfmt."""
    return FORM.match(message) is not None
