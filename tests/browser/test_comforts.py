"""What makes a night easier, in a real browser: sound, notifications, keys, paper, the clipboard."""

from __future__ import annotations

from chromium import Chromium
from playwright.sync_api import expect
from web_server import Server

#: Notes what the page asks of the browser, which has no ears and no screen, and lets the page be in the background.
_NOTED = """
window.notes = [];
window.Notification = class {
  static permission = "default";
  static async requestPermission() { notes.push("asked"); return this.permission = "granted"; }
  constructor(title, options) { notes.push(`${title}: ${options.body}`); }
  close() {}
};
const start = OscillatorNode.prototype.start;
OscillatorNode.prototype.start = function (...times) {
  notes.push(`tone of ${this.frequency.value} Hz`);
  return start.apply(this, times);
};
window.isAway = false;
Object.defineProperty(document, "hidden", { get: () => window.isAway });
"""

TONES = ["tone of 660 Hz", "tone of 880 Hz"]


def test_a_new_incident_is_heard_and_announced(chromium: Chromium, server: Server) -> None:
    """With sound and notifications turned on, each new incident plays tones, and shows one while the page is hidden."""
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        page.add_init_script(_NOTED)
        page.reload()
        visitor.wait_for_rows(0)
        server.line("payment 1 failed")
        visitor.wait_for_rows(1)
        assert page.evaluate("notes") == []
        page.locator(".menu summary").click()
        page.get_by_label("Sound for new incidents").check()
        page.get_by_label("Notifications of the browser").check()
        page.locator(".menu summary").click()
        assert page.evaluate("notes") == [*TONES, "asked"]

        page.mouse.move(0, 0)
        page.evaluate("notes.length = 0")
        server.line("payment 2 failed")
        visitor.wait_for_rows(2)
        assert page.evaluate("notes") == TONES
        page.evaluate("notes.length = 0; isAway = true")
        server.line("payment 3 failed: card declined")
        visitor.wait_for_rows(3)
        assert page.evaluate("notes") == [*TONES, "New incident: payment 3 failed: card declined"]

        page.reload()
        expect(page.get_by_label("Sound for new incidents")).to_be_checked()
        server.line("payment 3 accepted")
        visitor.wait_for_rows(2)
        assert page.evaluate("notes") == []


def test_the_help_names_keys_that_work(chromium: Chromium, server: Server) -> None:
    """Each key of the list does what it says: on the list of incidents, and on the page of one."""
    server.line("payment 42 failed", "disk /var full")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        visitor.wait_for_rows(2)
        page.keyboard.press("?")
        keys = page.locator("#help kbd").all_inner_texts()
        assert keys == ["j", "k", "Enter", "a", "s", "r", "/", "?"]
        page.get_by_role("button", name="Close").click()
        selected = page.locator("li[data-selected] .what a")
        for key, line in (("j", "payment 42 failed"), ("j", "disk /var full"), ("j", "disk /var full")):
            page.keyboard.press(key)
            expect(selected).to_have_text(line)
        page.keyboard.press("k")
        expect(selected).to_have_text("payment 42 failed")
        page.keyboard.press("s")
        page.wait_for_url("**/silences/new?incident=*", wait_until="load")
        page.go_back(wait_until="load")
        page.keyboard.press("j")
        page.keyboard.press("r")
        page.get_by_role("button", name="No", exact=True).click()
        page.keyboard.press("r")
        page.get_by_role("button", name="Yes").click()
        visitor.wait_for_rows(1)
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/i/*", wait_until="load")
        page.keyboard.press("a")
        expect(page.locator(".title .note")).to_contain_text("Acknowledged by")


def test_a_silence_says_what_it_covers(chromium: Chromium, server: Server) -> None:
    """Before the button is pressed: one like an incident covers that one, a wider one all of the rule, by name."""
    server.line("payment 1 failed", "payment 2 failed", "disk /var full")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        visitor.wait_for_rows(3)
        page.get_by_role("link", name="payment 1 failed").click()
        page.get_by_role("link", name="Silence like this…").click()
        covered = page.locator("#covered")
        expect(covered.get_by_role("heading")).to_have_text("Covers 1 of 3 open incidents")
        expect(page.get_by_label("Matchers, one a line")).to_have_value('rule="payments"\norder="1"')
        page.get_by_label("Matchers, one a line").fill('rule="payments"')
        expect(covered.get_by_role("heading")).to_have_text("Covers 2 of 3 open incidents")
        expect(covered.get_by_role("link", name="payment 2 failed")).to_be_visible()
        page.get_by_label("Matchers, one a line").fill("rule=")
        expect(covered.get_by_role("heading")).to_have_text("These matchers cannot be used")
    assert server.ask("silence", "--list").stdout == "no silences\n"


def test_an_incident_is_copied_as_markdown(chromium: Chromium, server: Server) -> None:
    """The button puts what the page says of the incident into the clipboard, for a ticket."""
    server.line("payment 42 failed: card declined")
    with chromium.visit(server.login_url()) as visitor:
        page = visitor.page
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        visitor.wait_for_rows(1)
        page.get_by_role("link", name="payment 42 failed").click()
        page.get_by_role("link", name="Copy as Markdown").click()
        expect(page.get_by_text("Copied.")).to_be_visible()
        copied = page.evaluate("navigator.clipboard.readText()")
        assert "payment 42 failed: card declined" in copied
        assert "### First match" in copied
        page.wait_for_url("**/i/*")


def test_pages_are_printed_without_their_controls(chromium: Chromium, server: Server) -> None:
    """On paper are all rows, whole and dark on white, without navigation, search or buttons."""
    server.line(*(f"payment {n} failed" for n in range(40)))
    with chromium.visit(server.login_url(), color_scheme="dark") as visitor:
        page = visitor.page
        visitor.wait_for_rows(40)
        page.emulate_media(media="print")
        for hidden in (".bar", ".search", "footer", "ol.incidents .do"):
            expect(page.locator(hidden).first).to_be_hidden()
        rows = page.locator("ol.incidents > li")
        assert all(row.is_visible() for row in rows.all())
        expect(page.get_by_role("heading", name="40 open incidents")).to_be_visible()
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        ink = page.evaluate("getComputedStyle(document.querySelector('ol.incidents .what a')).color")
        assert ink == "rgb(27, 30, 35)"
        page.get_by_role("link", name="payment 0 failed", exact=True).evaluate("link => link.click()")
        page.wait_for_url("**/i/*", wait_until="load")
        expect(page.locator(".do-panel")).to_be_hidden()
        for shown in ("First match", "What happened", "Facts"):
            expect(page.get_by_role("heading", name=shown)).to_be_visible()
