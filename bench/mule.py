"""A mule, of uWSGI's or ours, that writes down each message and when it came: ``NUMBER MOMENT`` in nanoseconds."""

from __future__ import annotations

import os
import time

import uwsgi  # only a mule has it

target = os.open(os.environ["BENCH_SEEN"], os.O_WRONLY)
os.write(target, b"ready\n")
while True:
    message = uwsgi.mule_get_msg()
    os.write(target, b"%s %d\n" % (message.split()[-1], time.monotonic_ns()))
