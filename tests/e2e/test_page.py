"""The status page as people see it: a real headless Chromium, a real policyd.

The pictures are in BINDIR/e2e-logs (page-*.png): to be looked at after each
change of policyd/page.html.
"""

import contextlib
import datetime
import os
import signal
import subprocess
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
    ' return box.width && box.right > document.documentElement.clientWidth + 1' \
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
                  "not found within 60 s", "Quiet for", "Logs (sluice monitor)",
                  "! still forwarding <b>", "! old, not believed: quiet",
                  "Counted by the milters; 1 log says no less"):
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
                ("narrow-light", 320, 640, False, True),
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
        case.redis.command("HSET", "sluice:monitors", "mx1.example.com",
                           f"{now} 0 {now - 900000} 0 0 0 259200 quiet")
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


def log_line(at, program, text):
    stamp = datetime.datetime.fromtimestamp(at, datetime.timezone.utc)
    return f"{stamp.isoformat()} mx1 postfix/{program}[77]: {text}\n"


def write_log(case, times, now):
    """Mail that local(8) sent on, which no milter saw, in a log of four days."""
    # Other mail, so that the log is known to go on.
    parts = [(at, log_line(at, "qmgr", "4jXDfR05J2z1bZZ: from=<s@senders.test>, "
                           "size=999, nrcpt=1 (queue active)") +
              log_line(at, "qmgr", "4jXDfR05J2z1bZZ: removed"))
             for at in range(now - 100 * 3600, now, 6 * 3600)]
    for number, at in enumerate(times):
        name = f"4jXDfR05J2z1bY{number:02d}"
        parts.append((at, "".join(log_line(at, *line) for line in (
            ("local", f"{name}: message-id=<{number}@senders.test>"),
            ("qmgr", f"{name}: from=<s@senders.test>, size=999, nrcpt=1 (queue active)"),
            ("sluice-forward/smtp", f"{name}: to=<a@example.com>, "
             "relay=127.0.0.1[127.0.0.1]:10026, delay=0.1, delays=0/0/0/0.1, dsn=2.0.0, "
             "status=sent (250 2.0.0 Ok)"),
            ("qmgr", f"{name}: removed")))))
    with open(case.path("mail.log"), "w", encoding="ascii") as log:
        log.write("".join(text for _, text in sorted(parts)))


def monitor(case, *words):
    done = subprocess.run(
        [os.path.join(BINDIR, "sluice"), "monitor", "-c", case.config_path, *words,
         case.path("mail.log")], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_page_counts_what_the_logs_say():
    """The countdown is the lower of the milters' and the log's; an old verdict is
    shown as old."""
    with http_case() as case, browser_of_ours() as browser:
        wait_up(case)
        os.makedirs(PICTURES, exist_ok=True)
        redis, now = case.redis, int(time.time())
        redis.command("HSET", "sluice:totals:example.com", "n", "5", "flipped",
                      str(now - 80 * 3600))
        redis.command("HSET", "sluice:home:example.com", "", f"n3.{now - 80 * 3600:x}")
        page = Page(browser, 360, 740, dark=True, phone=True)
        page.go(address(case))
        page.wait("document.body.innerText.includes('Nothing was forwarded for 80 h')",
                  "quiet, as the milters say")
        for words in ("Look at the logs before the old servers go",
                      "Counted by the milters alone", "in the log only"):
            expect_true(f"{words!r} in:\n{page.text()}", words in page.text())
        write_log(case, [now - 30 * 3600, now - 5 * 3600], now)
        expect("the log says so", monitor(case)[0::2], (1, ""))
        page.wait("document.body.innerText.includes('Quiet for 5 h 00 min of 72 h')",
                  "the log's countdown")
        for words in ("As the log says", "! the old server still forwards",
                      "5 h 00 min ago"):
            expect_true(f"{words!r} in:\n{page.text()}", words in page.text())
        page.picture(os.path.join(PICTURES, "page-log.png"))
        check_old(case, page, now)
        check_without_redis(case, now)
        expect("complaints of the browser", page.complaints(), [])


def check_old(case, page, now):
    redis = case.redis
    # Quiet for long enough by both: then the old servers may go.
    write_log(case, [now - 78 * 3600], now)
    code, out, _ = monitor(case, "--checkpoint", case.path("another"))
    expect(f"quiet: {out}", code, 0)
    page.wait("document.body.innerText.includes('old servers are no longer needed')",
              "quiet, as both say")
    # The word of one old server is not that of another, nor says it that none waits.
    redis.command("HSET", "sluice:hosts", "mx7.example.com", "side=old\tseen=1")
    page.wait("document.body.innerText.includes(\"1 old server's log is not known here\")",
              "another old server, of which no log is known")
    expect_true("not yet", "no longer needed" not in page.text())
    redis.command("HDEL", "sluice:hosts", "mx7.example.com")
    page.wait("document.body.innerText.includes('old servers are no longer needed')",
              "it is gone")
    value = redis.command("HGET", "sluice:monitors", "mx1.example.com")
    redis.command("HSET", "sluice:monitors", "mx1.example.com",
                  f"{now - 8000} " + value.split(" ", 1)[1])
    page.wait("document.body.innerText.includes('! old, not believed')", "it is old")
    text = page.text()
    for words in ("Look at the logs before the old servers go",
                  "nobody has looked at for hours"):
        expect_true(f"{words!r} in:\n{text}", words in text)
    expect_true("not believed", "no longer needed" not in text)
    redis.command("HSET", "sluice:monitors", "mx1.example.com",
                  f"{now - 40 * 86400} " + value.split(" ", 1)[1])
    wait_until(lambda: not redis.command("HLEN", "sluice:monitors"), 30,
               "what is a month old is forgotten")


def check_without_redis(case, now):
    """It works, with one line of warning, and the same exit code."""
    write_log(case, [now - 7200], now)
    with_redis = monitor(case, "--checkpoint", case.path("third"))
    case.redis.stop()
    try:
        without = monitor(case, "--checkpoint", case.path("fourth"))
        silent = monitor(case, "--checkpoint", case.path("fifth"), "--no-publish")
    finally:
        case.redis.start()
    expect("code", without[0], with_redis[0])
    expect("text", without[1].split(",")[0], with_redis[1].split(",")[0])
    expect_true(f"one line: {without[2]!r}", without[2].count("\n") == 1
                and "the status page does not show this" in without[2])
    expect("without that", (silent[0], silent[2]), (with_redis[0], ""))


def test_page_of_garbage_in_redis():
    """Values that nobody can have written stop neither the page nor its parts."""
    with http_case() as case, browser_of_ours() as browser:
        ready(case)
        redis = case.redis
        far = "99999999999999999"
        redis.command("HSET", "sluice:hours:example.com", "last", far, "total", far, "x", "y")
        redis.command("HSET", "sluice:totals:example.com", "flipped", far, "o", "-3")
        redis.command("HSET", "sluice:senders:example.com", "a\nb", f"{far} {far} {far} z")
        redis.command("HSET", "sluice:pings", "ops2 y", f"{far} 3 {far} {far} {far} z",
                      "ops3", "1", "ops4 " + "z" * 500, "1 0 1 1 1 z")
        redis.command("HSET", "sluice:monitors", "h" * 300, "x", "mx3.example.com",
                      f"{far} 2 {far} {far} {far} {far} 9 {'t' * 400}")
        redis.command("HSET", "sluice:hosts", "mx8.example.com",
                      f"side=new\tseen={far}\theld={far}\toldest={far}")
        page = Page(browser, 320, 640, phone=True)
        page.go(address(case))
        page.wait("document.body.innerText.includes('mx3.example.com')", "the logs")
        text = page.text()
        expect_true(f"an answer:\n{text}", "No answer" not in text
                    and "cannot be drawn" not in text)
        page.picture(os.path.join(PICTURES, "page-garbage.png"))
        expect("wider than the screen", page.value(LOUD), [])
        expect("complaints of the browser", page.complaints(), [])


def test_page_of_many_domains():
    """Five hundred domains on the move, many probes, many alarms."""
    with http_case(top="lock-deadline = 1h\n") as case, browser_of_ours() as browser:
        wait_up(case)
        os.makedirs(PICTURES, exist_ok=True)
        redis, now = case.redis, int(time.time())
        for number in range(500):
            name = f"d{number:03d}.example"
            redis.command("SADD", "sluice:domains", name)
            redis.command("HSET", f"sluice:home:{name}", "", f"n3.{now - 9000:x}")
            redis.command("HSET", f"sluice:totals:{name}", "n", "2000", "flipped",
                          str(now - 9000))
            redis.command("HSET", f"sluice:hours:{name}", str(now // 3600), "3",
                          "total", "3", "last", str(now - 60))
            if number < 30:
                redis.command("HSET", f"sluice:locks:{name}", f"l3.{now - 7200:x}", "4")
                redis.command("HSET", f"sluice:totals:{name}", "l", "4")
        for number in range(130):
            redis.command("HSET", "sluice:pings", f"ops1 path{number}",
                          f"{now} {2 if number == 77 else 0} 1 2 3 fine")
        page = Page(browser, 320, 640, phone=True)
        page.go(address(case))
        page.wait(f"{VERDICT}.includes('21 alarms')", "the verdict")
        page.wait("document.body.innerText.includes('30 more probes are not shown')",
                  "probes")
        text = page.text()
        for words in ("and 13 more alarms", "more domains", "path77"):
            expect_true(f"{words!r} in:\n{text}", words in text)
        page.value("[...document.querySelectorAll('#domains > .card > details')].at(-1).open = true")
        page.wait("document.body.innerText.includes('d199.example')", "a further domain")
        expect("cards", page.value("document.querySelectorAll('svg.chart').length"), 12)
        expect("wider than the screen", page.value(LOUD), [])
        took = page.value("(() => { drawn = {}; const t = performance.now(); show();"
                          " return performance.now() - t; })()")
        print(f"drawn in {took:.0f} ms")
        expect_true(f"drawn in {took:.0f} ms", took < 4000)
        page.picture(os.path.join(PICTURES, "page-many.png"))
        expect("complaints of the browser", page.complaints(), [])


def test_page_says_what_waits():
    """At three in the morning: what is it that I have to do?"""
    with http_case() as case, browser_of_ours() as browser:
        ready(case)
        redis, now = case.redis, int(time.time())
        redis.command("HDEL", "sluice:hosts", "mx9.example.com")
        redis.command("HSET", "sluice:playbook:example.com", "three",
                      f"8\tw\t{now - 7200}\t0\t0\tnadia\tis the backup good?")
        page = Page(browser, 360, 740, phone=True)
        page.go(address(case))
        page.wait(f"{VERDICT}.includes('A probe does not arrive')", "the probe")
        redis.command("HSET", "sluice:pings", "ops1 a;reboot", f"{now} 2 1 1 1 no")
        page.wait("document.body.innerText.includes('The probe a;reboot')", "another")
        expect_true("no command that a shell would split",
                    "sluice ping a;reboot" not in page.text())
        redis.command("HDEL", "sluice:pings", "ops1 a;reboot")
        for words in ("The probe new-mx from ops1 did not arrive", "sluice ping new-mx"):
            expect_true(f"{words!r} in:\n{page.text()}", words in page.text())
        redis.command("HDEL", "sluice:pings", "ops1 new-mx")
        page.wait(f"{VERDICT}.includes('1 step waits for you')", "what waits")
        expect_true(page.text(), "sluice playbook ack example.com three --by NAME"
                    in page.text())
        page.picture(os.path.join(PICTURES, "page-waits.png"))
        redis.command("HSET", "sluice:playbook:example.com", "three",
                      f"9\tf\t{now}\t{now}\t0\tnadia\tno route to host")
        page.wait(f"{VERDICT}.includes('A step of a playbook failed')", "what failed")
        redis.command("HDEL", "sluice:playbook:example.com", "")
        redis.command("HSET", "sluice:totals:example.com", "l", "4")
        page.wait(f"{VERDICT}.includes('4 mailboxes are locked, 3 h 4')",
                  "how long they may be")


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
