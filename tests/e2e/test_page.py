"""The status page as people see it: a real headless Chromium, a real policyd.

The pictures are in BINDIR/e2e-logs (page-*.png): to be looked at after each
change of policyd/page.html.
"""

import contextlib
import os
import signal
import tempfile
import time

from browser import Browser, Page
from harness import expect, expect_true, wait_until
from policyd_case import BINDIR
from test_http import fill, http_case, status_of, wait_up

PICTURES = os.path.join(BINDIR, "e2e-logs")
VERDICT = "document.getElementById('verdict').textContent"
LOUD = 'const loud = [...document.querySelectorAll("*")].filter(node => {' \
    ' const box = node.getBoundingClientRect();' \
    ' return box.width && box.right > innerWidth + 1' \
    ' && !node.closest("svg, table.stack thead");' \
    ' }); loud.map(node => node.outerHTML.slice(0, 80))'
# Lightness of each text against what is behind it (WCAG 2.1, 1.4.3), of texts
# on a plain ground.
FAINT = """(() => {
  const number = text => text.match(/[\\d.]+/g).map(Number);
  const light = colour => { const [r, g, b] = number(colour).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = node => { for (; node; node = node.parentElement) {
    const colour = getComputedStyle(node).backgroundColor;
    if ((number(colour)[3] ?? 1) > 0) return colour; } return "rgb(255,255,255)"; };
  const faint = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const node = walk.currentNode, parent = node.parentElement;
    if (!node.data.trim() || ["SCRIPT", "STYLE", "NOSCRIPT"].includes(parent.tagName)
        || !parent.getClientRects().length) continue;
    const [a, b] = [getComputedStyle(parent).color, ground(parent)].map(light);
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(node.data.trim().slice(0, 40) + " " + contrast.toFixed(2));
  }
  return faint;
})()"""


@contextlib.contextmanager
def browser_of_ours():
    with tempfile.TemporaryDirectory(prefix="sluice-page.",
                                     ignore_cleanup_errors=True) as directory:
        browser = Browser(directory)
        try:
            yield browser
        finally:
            browser.close()


def address(case):
    return f"http://127.0.0.1:{case.http}/"


def ready(case):
    fill(case)
    wait_until(lambda: status_of(case)["pings"], 10, "the document is made")
    os.makedirs(PICTURES, exist_ok=True)


def check_text(page):
    text = page.text()
    for words in ("sluice on mx1.example.com, old side", "alarm",
                  "example.com", "Mailboxes moved", "On hold",
                  "Floaters, last 24 h", "Playbook mine", "Hold, sync, flip",
                  "three: running", "goes on", "Change window",
                  "Who still sends to the old server", "192.0.2.1",
                  "all others", "mx9.example.com", "Probes", "new-mx",
                  "not found within 60 s", "Quiet for"):
        expect_true(f"{words!r} in:\n{text}", words in text)
    # What strangers wrote is text.
    expect_true(f"their text:\n{text}", "</script><b>" in text)
    expect("no markup of theirs", page.value(
        "[...document.querySelectorAll('table b, p b')].length"), 0)


def test_page_in_light_and_dark_wide_and_narrow():
    with http_case() as case, browser_of_ours() as browser:
        ready(case)
        for name, width, height, dark, phone in (
                ("wide-light", 1280, 900, False, False),
                ("wide-dark", 1280, 900, True, False),
                ("narrow-light", 360, 740, False, True),
                ("narrow-dark", 360, 740, True, True)):
            page = Page(browser, width, height, dark, phone)
            page.go(address(case))
            page.wait(f"{VERDICT}.includes('alarm')", f"{name}: the verdict")
            check_text(page)
            page.picture(os.path.join(PICTURES, f"page-{name}.png"))
            expect(f"{name}: wider than the screen", page.value(LOUD), [])
            expect(f"{name}: too faint to read", page.value(FAINT), [])
            expect(f"{name}: complaints of the browser", page.complaints(), [])
            asked = {url for url in page.requests()
                     if not url.endswith("/favicon.ico")}
            expect(f"{name}: asks for", asked,
                   {address(case), address(case) + "status.json"})


def test_page_follows():
    with http_case() as case, browser_of_ours() as browser:
        ready(case)
        page = Page(browser)
        page.go(address(case))
        page.wait(f"{VERDICT}.includes('alarm')", "the verdict")
        first = page.text()
        now = int(time.time())
        case.redis.command("HSET", "sluice:hours:example.com", "total", "4711",
                           str(now // 3600), "4003")
        case.redis.command("HSET", "sluice:playbook:example.com", "three",
                           f"8\tf\t{now}\t{now}\t0\tnadia\tno route to host")
        page.wait("document.body.innerText.includes('no route to host')",
                  "the failed step")
        page.wait("document.body.innerText.includes('Busiest hour: 4,003')",
                  "the new floaters")
        # Long quiet, and yet somebody has not moved.
        long_ago = str(now - 400000)
        case.redis.command("HSET", "sluice:hours:example.com", "last", long_ago)
        case.redis.command("HSET", "sluice:totals:example.com", "flipped", long_ago)
        page.wait("document.body.innerText.includes('3 mailboxes have not moved yet')",
                  "who is left")
        case.redis.command("HSET", "sluice:totals:example.com", "o", "0")
        page.wait("document.body.innerText.includes("
                  "'addresses that are not listed have not moved yet')",
                  "what is left")
        expect_true("not the end",
                    "old servers are no longer needed" not in page.text())
        # The chart by keyboard.
        page.value("document.querySelector('svg.chart').focus()")
        page.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight",
                  code="ArrowRight")
        page.wait("document.body.innerText.includes(': 4,003 floaters')",
                  "the chart says the present hour")
        expect_true("countdowns go on", page.text() != first)

        case.redis.stop()
        page.wait(f"{VERDICT}.includes('Redis cannot be asked')",
                  "Redis is down")
        expect_true("what was known last stays",
                    "What follows is as of" in page.text()
                    and "192.0.2.1" in page.text())
        page.picture(os.path.join(PICTURES, "page-redis-down.png"))
        case.redis.start()
        page.wait(f"!{VERDICT}.includes('Redis')", "Redis is back")

        case.child.send(signal.SIGSTOP)
        page.wait(f"{VERDICT}.includes('No answer')", "policyd hangs")
        expect_true("says since when", "What follows is as of" in page.text())
        case.child.send(signal.SIGCONT)
        page.wait(f"!{VERDICT}.includes('No answer')", "policyd goes on", 60)
        case.child.end()
        page.wait(f"{VERDICT}.includes('No answer')", "policyd has ended")
        page.picture(os.path.join(PICTURES, "page-no-answer.png"))
        case.start()
        wait_up(case)
        page.wait(f"!{VERDICT}.includes('No answer')", "policyd is back", 60)


def test_page_with_a_password():
    with http_case('  http-password-file = "DIRECTORY/secret"\n') as case, \
            browser_of_ours() as browser:
        page = Page(browser)
        # As a person who typed it in: the browser sends it with each request.
        page.go(address(case), "anybody", "open sesame")
        page.wait(f"{VERDICT} !== '' && !{VERDICT}.includes('Asking')",
                  "the verdict")
        expect_true(f"an answer:\n{page.text()}",
                    "sluice on mx1.example.com" in page.text())


def test_page_of_a_host_where_nothing_has_begun():
    with http_case() as case, browser_of_ours() as browser:
        wait_up(case)
        os.makedirs(PICTURES, exist_ok=True)
        page = Page(browser, 390, 844, phone=True)
        page.go(address(case))
        page.wait("document.body.innerText.includes('not begun')",
                  "the domain that has not begun")
        page.value("document.querySelector('summary').click()")
        page.wait("document.body.innerText.includes('example.com')",
                  "its name")
        time_shown = page.value("document.getElementById('asof').textContent")
        page.wait("document.getElementById('foot').textContent !== ''", "foot")
        page.wait("document.querySelector('details').open",
                  f"stays open (as of {time_shown})")
        page.picture(os.path.join(PICTURES, "page-not-begun.png"))
        expect("complaints of the browser", page.complaints(), [])
