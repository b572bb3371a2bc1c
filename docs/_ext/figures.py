"""The limits that the text names, taken from the code, so that none is written twice."""

from __future__ import annotations

from alarm_mw.actions.cmd import CmdAction
from alarm_mw.actions.curl.http import BODY_LIMIT
from alarm_mw.actions.signal import SignalAction
from alarm_mw.app.local_master import CAPACITY
from alarm_mw.app.middleware import request_log, request_text
from alarm_mw.config import sources
from alarm_mw.config.settings import FALLBACK_AFTER, Settings
from alarm_mw.delivery import breaker, lane, policy
from alarm_mw.delivery.calls import MAX_ABANDONED
from alarm_mw.delivery.outbox import checkpointer, memory_failover, outbox, rescue
from alarm_mw.delivery.outbox.limits import HISTORY, IN_MEMORY, MIB, ON_DISK, Bounds, State
from alarm_mw.delivery.outbox.outcome_writer import GATHER, GATHERED
from alarm_mw.engine import antiloop, echo
from alarm_mw.engine.engine import COST_WINDOW, MAX_COST
from alarm_mw.engine.flood_control import fingerprint, limiters
from alarm_mw.master.mules.queue import MAX_DEATHS
from alarm_mw.master.streams import surroundings
from alarm_mw.master.streams.intake import MOST_ECHOES, PATIENCE
from alarm_mw.master.streams.late import WAITING
from alarm_mw.master.streams.lines import MAX_LINE, MOST_LINE
from alarm_mw.master.worker.worker import ECHO_WAIT
from alarm_mw.patterns.bounded_pattern import RULE_TIMEOUT
from alarm_mw.supervisor.carriers import carrier
from alarm_mw.supervisor.carriers.master_pool import TOO_MANY
from alarm_mw.supervisor.plan import Plan
from alarm_mw.supervisor.supervisor import DRAIN
from alarm_mw.transports import own_requests
from alarm_mw.transports.own_requests import WINDOW as OWN_WINDOW
from alarm_mw.transports.shared import SPILL_SIZE
from alarm_mw.transports.wire import MAX_MESSAGE


def _amount(bounds: Bounds, state: State) -> str:
    bound = bounds[state]
    return f"{bound.count:,} or {bound.size // MIB} MiB"


_SHUTDOWN = Plan._field_defaults["shutdown_timeout"]

#: Substitutions for MyST: ``{{ max_line }}``.
FIGURES: dict[str, str] = {
    "alarm_freq": f"{Settings().alarm_freq:g}",
    "alarm_msg_size": f"{Settings().alarm_msg_size:,}",
    "body_limit": f"{BODY_LIMIT:,}",
    "mark_valid": f"{own_requests.VALID:g}",
    "max_file": f"{sources.MAX_FILE // 1024**2}",
    "max_files": f"{sources.MAX_FILES:,}",
    "max_keys": f"{sources.MAX_KEYS:,}",
    "max_text": f"{sources.MAX_TEXT // 1024**2}",
    "checkpoint_retry": f"{checkpointer.RETRY_EVERY:g}",
    "drain": f"{DRAIN:g}",
    "echo_wait": f"{ECHO_WAIT * 1000:g}",
    "echo_window": f"{echo.WINDOW:g}",
    "fallback_after": f"{FALLBACK_AFTER:g}",
    "give_up_grace": f"{policy.GRACE:g}",
    "share": f"{outbox.SHARE}",
    "known_count": f"{rescue.KNOWN.count:,}",
    "known_size": f"{rescue.KNOWN.size // 2**20} MiB",
    "flee_after": f"{memory_failover.FAIL_OVER_AFTER:g}",
    "return_every": f"{memory_failover.FAIL_BACK_EVERY:g}",
    "history": f"{HISTORY:,}",
    "gather": f"{GATHER * 1000:g}",
    "gathered": f"{GATHERED}",
    "around_longest": f"{surroundings.LONGEST:,}",
    "around_patience": f"{surroundings.PATIENCE:g}",
    "intake_patience": f"{PATIENCE * 1000:g}",
    "local_capacity": f"{CAPACITY:,}",
    "loop_depth": f"{antiloop.MAX_DEPTH}",
    "own_requests_window": f"{OWN_WINDOW:g}",
    "loose_length": f"{echo.LOOSE_LENGTH}",
    "masters": f"{TOO_MANY}",
    "max_abandoned": f"{MAX_ABANDONED}",
    "cmd_processes": f"{CmdAction.concurrency}",
    "spill_size": f"{SPILL_SIZE // 2**20}",
    "max_line": f"{MAX_LINE:,}",
    "most_echoes": f"{MOST_ECHOES}",
    "most_line": f"{MOST_LINE:,}",
    "max_message": f"{MAX_MESSAGE:,}",
    "max_record": f"{request_log.MAX_RECORD:,}",
    "max_shown": f"{request_log.MAX_SHOWN:,}",
    "max_traceback": f"{request_text.MAX_TRACEBACK:,}",
    "traceback_head": f"{request_text.HEAD:,}",
    "max_cost": f"{MAX_COST:g}",
    "cost_window": f"{COST_WINDOW:g}",
    "max_group": f"{lane.MAX_GROUP:,}",
    "mule_deaths": f"{MAX_DEATHS}",
    "repeats": f"{limiters.REPEATS:,}",
    "fingerprint_size": f"{fingerprint.MOST:,}",
    "waiting": f"{WAITING}",
    "open_after": f"{breaker.OPEN_AFTER}",
    "patience": f"{lane.OVERTAKEN_AFTER}",
    "rule_timeout": f"{RULE_TIMEOUT * 1000:g}",
    "signal_patience": f"{SignalAction.patience:g}",
    "shutdown_timeout": f"{_SHUTDOWN:g}",
    "dead_disk": _amount(ON_DISK, State.DEAD),
    "dead_memory": _amount(IN_MEMORY, State.DEAD),
    "waiting_disk": _amount(ON_DISK, State.WAITING),
    "watchdog": f"{carrier.PATIENCE:g}",
    "waiting_memory": _amount(IN_MEMORY, State.WAITING),
}
