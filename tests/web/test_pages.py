"""What the pages show, and what can be done there, without any script."""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable

import pytest
from waiting import wait_until
from web_page import CONFIGURATION, Page

from alarm_mw.web.charts import ticks
from alarm_mw.web.incidents import open_incidents

PAGES = (
    "/",
    "/history",
    "/rules",
    "/rules/payments",
    "/delivery",
    "/silences",
    "/silences/new",
    "/ledger",
    "/configuration",
    "/api",
)

#: Lines that would do harm if they were more than text.
HOSTILE = (
    "payment <script>alert(1)</script> failed",
    'payment "><img/src=x/onerror=alert(1)> failed',
    "payment javascript:alert(1) failed",
    "payment {{7*7}}{%raw%} failed",
    "payment \u202eevil\u202c failed",
    "payment \x1b[31m\x00\x07 failed",
    "payment ' failed: " + "x" * 1_000_000,
    "payment 9 failed \udcff",
)


def incidents(page: Page) -> list[str]:
    return re.findall(r'data-id="(\w+)"', page.logged_in().get("/").text)


def delivered(page: Page, alarm: str) -> int:
    row = page.runtime.outbox.ledger.books()["alarms"].get(alarm)
    return 0 if row is None else row["delivered"]


def text_of(answer: str) -> str:
    """Return what a reader of a page sees, about."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", answer)).split())


@pytest.mark.parametrize("role", ["read", "act"])
@pytest.mark.parametrize("path", PAGES)
def test_each_page_is_there(page: Page, path: str, role: str) -> None:
    """For those who may look alone, and for those who may act; with incidents and without."""
    assert page.logged_in(role).get(path).status_code == 200
    page.line("payment 42 failed", "disk full", "TERRIBLE")
    answer = page.logged_in(role).get(path)
    assert answer.status_code == 200
    assert "None" not in text_of(answer.text)


def test_a_hostile_line_is_text_on_every_page(page: Page) -> None:
    """Markup, scripts, templates, marks of direction, control characters and a megabyte are shown, and do nothing."""
    page.line(*HOSTILE)
    browser = page.logged_in()
    found = incidents(page)
    assert len(found) == len(HOSTILE)
    for path in (*PAGES, *(f"/i/{name}" for name in found), *(f"/silences/new?incident={name}" for name in found)):
        answer = browser.get(path)
        assert answer.status_code == 200
        assert len(answer.text) < 400_000
        # What a form gives back must be what it was given.
        shown = re.sub(r"<textarea.*?</textarea>", "", answer.text, flags=re.DOTALL)
        for markup in ("<script>alert", "<img/src", 'href="javascript', "\u202e", "\x1b", "\x00"):
            assert markup not in shown
        assert " style=" not in answer.text
        assert "onerror=alert" not in re.sub(r'"[^"]*"|&[^;]+;', "", re.sub(r">[^<]*<", "><", answer.text))
    assert "{{7*7}}" in text_of(browser.get("/").text)
    assert browser.get(f"/i/{found[0]}.md").headers["content-type"] == "text/markdown; charset=utf-8"


def test_now_shows_the_worst_first(page: Page) -> None:
    """The critical incident stands above the warning that is older, with whom it reached."""
    page.line("disk full")
    page.line("payment 42 failed: card declined")
    wait_until(lambda: page.runtime.outbox.count_letters() == 1)  # the command of sms fails
    shown = text_of(page.logged_in().get("/").text)
    assert shown.index("card declined") < shown.index("disk full")
    assert "(2) Now" in shown
    assert re.search(r"mail\s+✓\s+sms\s+✗", shown)


#: An alarm whose receiver is never there, beside one that works.
HOOK = """
[alarms.hook]
action = "curl"
url = "http://127.0.0.1:9/"
[[rules]]
name = "db"
pattern = 'lost (?P<db>\\S+)'
key = ["db"]
resolve = 'found (?P<db>\\S+)'
alarms = ["hook"]
"""


def test_now_says_first_that_an_alarm_fails(make_page: Callable[..., Page]) -> None:
    """Since when, how many incidents have reached nobody, and where to look; so do the badge and each incident."""
    page = make_page(CONFIGURATION + HOOK)
    page.line("lost eu", "lost us", "disk full")
    wait_until(lambda: bool(page.master.failing()))
    answer = page.logged_in().get("/").text
    shown = text_of(answer)
    assert re.search(r"hook has failed since \d\d:\d\d:\d\d, 2 incidents have reached nobody Delivery", shown)
    assert shown.index("hook has failed") < shown.index("lost eu")
    assert '<a href="/delivery">' in answer
    assert 'class="badge bad" data-badge="delivery">!<' in answer
    assert shown.count("nobody reached yet") == 2
    name = next(row.id for row in open_incidents(page.master).rows if row.key == {"db": "eu"})
    story = text_of(page.logged_in().get(f"/i/{name}").text)
    assert "nobody reached yet" in story
    assert re.search(r"message for hook not delivered yet, \d+ failed attempt", story)
    assert "told" not in story


def test_what_is_not_well_is_named(page: Page) -> None:
    """Without incidents, but with a dead letter, the page says whose it is and leads to it; its icon is not green."""
    page.line("payment 42 failed")
    wait_until(lambda: page.runtime.outbox.count_letters() == 1)
    page.line("payment 42 accepted")
    wait_until(lambda: not incidents(page))
    answer = page.logged_in().get("/").text
    assert "not all is well" in text_of(answer)
    assert re.search(r"\d dead letters? of sms Dead letters", text_of(answer))
    assert 'href="/delivery?alarm=sms#letters"' in answer
    assert "/favicon.svg?n=0&amp;well=0" in answer
    warned = page.client().get("/favicon.svg?n=0&well=0").text
    assert warned != page.client().get("/favicon.svg?n=0").text
    assert "#1f7a4d" not in warned


def test_within_a_severity_the_unacknowledged_come_first(page: Page) -> None:
    """What nobody has acknowledged stands above what somebody has, though that is older; the worst stay first."""
    page.line("disk full", "payment 42 failed")
    (name,) = (row.id for row in open_incidents(page.master).rows if row.rule == "payments")
    page.master.order("ack", (name,), "kim", None, "")
    page.line("payment 43 failed")
    wait_until(lambda: len(incidents(page)) == 3)
    rows = open_incidents(page.master).rows
    assert [row.message for row in rows] == ["payment 43 failed", "payment 42 failed", "disk full"]


def test_calm_is_proved(page: Page) -> None:
    """Without incidents the page says that all is well, and by what that is known."""
    page.line("hello", "payment 42 failed", "payment 42 accepted")
    wait_until(lambda: not incidents(page))
    shown = text_of(page.logged_in().get("/").text)
    assert "No incident is open" in shown
    assert re.search(r"Lines seen\s*3", shown)
    assert "Last delivery: mail" in shown


def test_alarms_that_nobody_has_seen_to_work_are_named(make_page: Callable[..., Page]) -> None:
    """With what to do; a drill ends that, and its time is shown."""
    page = make_page(CONFIGURATION + '\n[drill]\nwarn_after = "2s"\n')
    with page.runtime.outbox.transaction():
        page.runtime.outbox.change("UPDATE deliveries SET known = known - 60")
    shown = text_of(page.logged_in().get("/delivery").text)
    assert "It has delivered nothing for long, not even a drill" in shown
    with page.runtime.outbox.transaction():
        page.runtime.outbox.change("UPDATE deliveries SET drilled = known + 100000")
    shown = text_of(page.logged_in().get("/delivery").text)
    assert "not even a drill" not in shown
    assert "Last drill" in shown


@pytest.mark.parametrize(("query", "expected"), [("disk", 1), ("rule order=42", 0), ("order=42", 1), ("payment", 2)])
def test_the_filter(page: Page, query: str, expected: int) -> None:
    """All words must be found: anywhere, or as a label with its value."""
    page.line("payment 42 failed", "payment 43 failed", "disk full")
    answer = page.logged_in().get("/", params={"q": query}).text
    assert len(re.findall(r"<li id=", answer)) == expected
    assert f'value="{query}"' in answer


def test_a_part_alone_for_a_script(page: Page) -> None:
    """A script is given what has changed, without the page around it."""
    page.line("disk full")
    answer = page.logged_in().get("/", headers={"HX-Request": "true"}).text
    assert "<html" not in answer
    assert "disk full" in answer


def test_the_life_of_an_incident(page: Page) -> None:
    """Acknowledged with a comment and for a time, given back, resolved: each is shown with who did it."""
    page.line("payment 42 failed: card declined")
    (name,) = incidents(page)
    browser = page.logged_in()
    csrf = page.csrf(browser)

    def act(verb: str, **data: str) -> int:
        return browser.post(f"/i/{name}/{verb}", data={"csrf": csrf, **data}).status_code

    assert act("ack", comment="on it", seconds="3600") == 303
    shown = text_of(browser.get(f"/i/{name}").text)
    assert re.search(r"Acknowledged by kay , (59 min 5\d s|1 h) left: “ on it ”", shown)
    assert "acknowledged by kay: on it" in " ".join(shown.split())
    assert act("unack") == 303
    assert "given back by kay" in text_of(browser.get(f"/i/{name}").text)
    assert act("resolve") == 303
    shown = text_of(browser.get(f"/i/{name}").text)
    assert "ended by hand" in shown
    assert incidents(page) == []
    assert act("ack") == 409
    assert browser.get("/i/nothing").status_code == 404
    assert "payments" in browser.get("/history").text


def test_an_incident_tells_what_became_of_each_message(page: Page) -> None:
    """The time line has each attempt's outcome with its error, and the Markdown has it too."""
    page.line("payment 42 failed: card declined")
    wait_until(lambda: page.runtime.outbox.count_letters() == 1)
    (name,) = incidents(page)
    browser = page.logged_in()
    shown = text_of(browser.get(f"/i/{name}").text)
    assert re.search(r"told mail delivered in [\d.]+ m?s", shown)
    assert "message for sms dead letter (refused) the command exited with status 1" in shown
    markdown = browser.get(f"/i/{name}.md").text
    assert "## CRITICAL: payment 42 failed: card declined" in markdown
    assert f"http://alarms.example.org/i/{name}" in markdown
    assert browser.get("/i/nothing.md").status_code == 404


def test_dead_letters_are_retried_and_dropped_after_a_question(page: Page) -> None:
    """The number is asked for once; without an answer nothing happens."""
    page.line("payment 42 failed", "payment 43 failed")
    wait_until(lambda: page.runtime.outbox.count_letters() == 2)
    browser = page.logged_in()
    ids = re.findall(r'name="id" value="(\d+)"', browser.get("/delivery").text)
    form = {"csrf": page.csrf(browser), "verb": "drop", "id": ids[:1]}
    assert "Drop 1 dead letter?" in browser.post("/delivery/letters", data=form).text
    assert page.runtime.outbox.count_letters() == 2
    assert browser.post("/delivery/letters", data={**form, "yes": "1"}).status_code == 303
    assert page.runtime.outbox.count_letters() == 1
    form = {"csrf": page.csrf(browser), "verb": "retry", "all": "1", "alarm": "sms", "yes": "1"}
    assert browser.post("/delivery/letters", data=form).headers["location"] == "/delivery?said=put_back"
    wait_until(lambda: page.runtime.outbox.ledger.books()["alarms"]["sms"]["retried"] == 1)
    nothing = {"csrf": page.csrf(browser), "verb": "drop"}
    assert browser.post("/delivery/letters", data=nothing).status_code == 400


def test_a_test_alarm(page: Page) -> None:
    """It is fired past the rules; an alarm that is none is refused."""
    browser = page.logged_in()
    form = {"csrf": page.csrf(browser)}
    assert browser.post("/delivery/mail/test", data=form).status_code == 303
    wait_until(lambda: delivered(page, "mail") == 1)
    assert browser.post("/delivery/nothing/test", data=form).status_code == 404
    assert browser.post("/delivery/mail/nothing", data=form).status_code == 404
    assert browser.post("/delivery/mail/retry", data=form).status_code == 303


def test_silence_like_this(page: Page) -> None:
    """The form has the matchers of the incident, says how many it covers, and the silence is changed and ended."""
    page.line("payment 42 failed", "payment 43 failed", "disk full")
    (name, *_) = [each for each in incidents(page) if "payment 42" in page.logged_in().get(f"/i/{each}").text]
    browser = page.logged_in()
    shown = browser.get(f"/silences/new?incident={name}").text
    assert "Covers 1 of 3 open incidents" in shown
    matchers = html.unescape(re.findall(r"<textarea[^>]*>([^<]*)<", shown)[0])
    assert sorted(matchers.split()) == ['order="42"', 'rule="payments"']
    preview = browser.get("/silences/preview", params={"matchers": 'rule="payments"'}).text
    assert "Covers 2 of 3 open incidents" in preview
    assert "cannot be used" in browser.get("/silences/preview", params={"matchers": "rule"}).text
    form = {"csrf": page.csrf(browser), "matchers": 'rule="payments"', "length": "2h", "comment": "known", "id": ""}
    assert browser.post("/silences", data=form).status_code == 303
    listed = browser.get("/silences").text
    assert "known" in listed
    (silence,) = re.findall(r"/silences/([\w-]+)/expire", listed)
    assert "Change the silence" in browser.get(f"/silences/new?id={silence}").text
    for wrong in ({"length": "soon"}, {"length": "90d"}, {"matchers": "rule"}, {"matchers": ""}):
        answer = browser.post("/silences", data={**form, **wrong})
        assert answer.status_code == 200
        assert 'role="alert"' in answer.text
    assert browser.post(f"/silences/{silence}/expire", data={"csrf": form["csrf"]}).status_code == 303
    assert browser.post(f"/silences/{silence}/expire", data={"csrf": form["csrf"]}).status_code == 409
    assert "Nothing is silenced" in browser.get("/silences").text


def test_a_rule_with_its_figures(page: Page) -> None:
    """Matches of the samples, the episodes and their noise, and the rule as TOML with its place."""
    page.line("payment 42 failed", "payment 42 failed", "payment 42 accepted")
    page.store.add_samples(int(time.time() // 60), {("rule", "payments"): 7})
    browser = page.logged_in()
    shown = text_of(browser.get("/rules/payments").text)
    assert "Matches, 24 hours 7" in shown
    assert "Matches since start or reload 2" in shown
    assert "Noise 100 %" in shown
    assert "pattern = 'payment (?P<order>\\S+) failed'" in shown
    assert "resolve = 'payment (?P<order>\\S+) accepted'" in shown
    assert "alarm-mw.toml:" in shown
    assert browser.get("/rules/nothing").status_code == 404


def test_what_would_help_against_noise_is_on_the_page(page: Page) -> None:
    """For each rule the setting that spares the most; on the rule's page all, each with what it spares."""
    page.line(*["payment 42 failed", "payment 42 accepted"] * 6)
    browser = page.logged_in()
    wait_until(lambda: "Soon open again 5" in text_of(browser.get("/rules/payments").text))
    assert "Would help: keep_firing_for" in text_of(browser.get("/rules").text)
    shown = text_of(browser.get("/rules/payments").text)
    assert re.search(r"What would help.*keep_firing_for = \"1m\"\s*5 of 6", shown)


#: What the page has to show as TOML.
SHOWN = """
[alarms.list]
action = "cmd"
command = ["echo", "it is 5 o'clock"]
[[rules]]
name = "slow"
where = { duration = ">2" }
alarms = ["mail"]
[[rules]]
name = "errors"
request = { status = "5xx" }
alarms = ["mail"]
[[rules]]
exclude = "harmless"
[[rules]]
name = "late"
pattern = "late"
resolve_after = "1h"
escalation = "ops"
[escalations.ops]
steps = [ { after = "0s", alarms = ["mail"] }, { after = "15m", alarms = ["sms"] } ]
[[inhibit_rules]]
source_matchers = ['rule="late"']
target_matchers = ['severity="warning"']
equal = ["host"]
"""


def test_the_configuration_is_shown_as_toml(make_page: Callable[..., Page]) -> None:
    """No Python is; escalations are there, and all pages count the same rules."""
    page = make_page(CONFIGURATION + SHOWN)
    browser = page.logged_in()
    shown = text_of(browser.get("/configuration").text)
    assert 'equal = ["host"] }' in shown
    assert 'targets = ["severity=\\"warning\\""]' in shown
    assert "late mail at once; sms after 15m" in shown
    assert not re.search(r"InhibitRule|\(\(|',\)", shown)
    assert "7 rules, exclusions among them" in shown
    rules = browser.get("/rules").text
    assert rules.count('<a href="/rules/') == 7
    assert "by 7 rules" in text_of(browser.get("/").text)
    assert "where = { duration = '>2' }" in text_of(rules) or 'where = { duration = ">2" }' in text_of(rules)
    assert 'request = { status = "5xx" }' in text_of(rules).replace("'", '"')


def test_a_reminder_is_no_match(make_page: Callable[..., Page]) -> None:
    """The evidence is what matched; the chart begins with the episode, and its axis has more than one time."""
    page = make_page(
        CONFIGURATION.replace('action = "log"', 'action = "log"\n[alarms.mail.notify]\nrepeat_interval = "1s"')
    )
    page.line("disk full")
    (name,) = incidents(page)
    wait_until(lambda: delivered(page, "mail") >= 2)
    page.store.add_samples(int(time.time() // 60), {("incident", name): 1})
    answer = page.logged_in().get(f"/i/{name}").text
    assert "First match" in answer
    assert "Last match" not in answer
    assert "reminded" in answer
    places = re.findall(r'<text x="([\d.]+)" y="198">\d\d:\d\d<', answer)
    assert places[:1] == ["46.0"]
    assert len(places) <= 2


def test_the_labels_of_an_axis_do_not_touch() -> None:
    """Few bars have a label each few bars, many have a label each few hundred; the first always has one."""
    assert ticks(1) == [0]
    assert ticks(10) == [0, 3, 6, 9]
    assert len(ticks(120)) == 8


def test_secrets_do_not_reach_the_page(page: Page) -> None:
    """The configuration shows hashes, tokens and passwords masked."""
    browser = page.logged_in()
    for path in PAGES:
        shown = browser.get(path).text
        assert "scrypt$" not in shown
        assert "act-act-act" not in shown
    assert "********" in browser.get("/configuration").text


def test_the_icon_shows_the_number(page: Page) -> None:
    """Also without a session, and whatever is asked for."""
    assert ">2</text>" in page.client().get("/favicon.svg?n=2").text
    assert ">99</text>" in page.client().get("/favicon.svg?n=1000").text
    assert "<text" not in page.client().get("/favicon.svg?n=<b>").text


def test_the_whole_history(page: Page) -> None:
    """Older and newer episodes are pages of their own, with a filter; each episode is on one of them, in order."""
    page.line(*(f"payment {n} failed" for n in range(250)))
    browser = page.logged_in()

    def walk(path: str, link: str) -> list[list[str]]:
        found = []
        while path:
            text = browser.get(path).text
            found.append(re.findall(r'class="plain-link"[^>]*><bdi>(.*?)</bdi>', text))
            next_one = re.search(rf'rel="{link}" href="([^"]*)"', text)
            path = html.unescape(next_one[1]) if next_one else ""
            last = found[-1]
        assert last
        return found

    older = walk("/history?days=0", "next")
    assert [len(each) for each in older] == [100, 100, 50]
    lines = [line for each in older for line in each]
    assert set(lines) == {f"payment {n} failed" for n in range(250)}
    end = re.search(r'rel="next" href="([^"]*)"', browser.get("/history?days=0").text)
    assert end is not None
    page.line("payment new failed")
    assert walk(html.unescape(end[1]), "next") == older[1:]
    newer = walk(html.unescape(end[1]), "prev")
    assert newer[0] == older[1]
    assert newer[1] == older[0]
    assert newer[2][0] == "payment new failed"
    assert [len(each) for each in walk("/history?days=7&q=order%3D1", "next")] == [100, 11]
    for place in ("", "x", "1~a", "nan~a~b"):
        assert browser.get("/history", params={"before": place, "after": place}).status_code == 200


def test_the_lines_of_an_incident(page: Page) -> None:
    """The first match is shown, and the worst one, where another is worse."""
    page.line("disk full")
    browser, path = page.logged_in(), f"/i/{incidents(page)[0]}"
    assert "Worst match" not in browser.get(path).text
    page.record("disk full, and no logs are written", level=50)
    page.record("disk full still", level=30)
    wait_until(lambda: "Worst match" in browser.get(path).text)  # counts are written down each second
    shown = text_of(browser.get(path).text)
    assert "First match" in shown
    assert re.search(r"Worst match \S+ \S+ \S+ disk full, and no logs are written", shown)
    assert "### Worst match" in browser.get(f"{path}.md").text
