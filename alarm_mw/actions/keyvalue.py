"""What actions take from `alarm_mw.keyvalue`, under the name that they know it by."""

from __future__ import annotations

from alarm_mw.keyvalue import build, comma_list, did_you_mean, made, split

__all__ = ["build", "comma_list", "did_you_mean", "made", "split"]
