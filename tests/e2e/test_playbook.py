"""`sluice playbook` with a Redis of its own: runs, stops, resumes, goes back.

The playbooks here are made of programs that note what they did; the shipped ones
are only read (tests/unit/test_playbook.c ties their rows to their steps).
"""

import contextlib
import os
import signal
import subprocess
import time

from cli_case import cli_case, wait_for
from harness import SOURCE, expect, expect_true

DOMAIN = "example.com"
SHIPPED = os.path.join(SOURCE, "conf", "playbooks")

PLAYBOOK = """\
title = "A small move"
window = 2h
setting "note" {{ about = "a file for the traces" }}
setting "greeting" {{ default = "hello" }}
phase "Before" {{
  step "one" {{
    title = "First" owner = "sluice"  usually = 1m
    action = {{"command", "{note}", "do-one", "%{{greeting}}"}}
    undo = {{"command", "{note}", "undo-one"}}
  }}
  step "person" {{
    title = "Somebody agrees" owner = "customer"  action = {{"acknowledge"}}
  }}
}}
phase "Move" {{
  step "two" {{
    title = "Second" owner = "sluice"  opens-window = true  usually = 1h
    pre = {{"check-command", "{note}", "before-two"}}
    action = {{"command", "{note}", "do-two", "%{{who}}"}}
    undo = {{"command", "{note}", "undo-two"}}
    post = {{"check-command", "{note}", "after-two"}}
  }}
  step "pause" {{
    title = "Two seconds" owner = "sluice"  action = {{"timer", "2s"}}  usually = 2s
  }}
  step "three" {{
    title = "Third" owner = "sluice"  closes-window = true
    action = {{"command", "{note}", "do-three"}}  undo = {{"nothing"}}
  }}
}}
"""

# Notes its first argument; fails, or hangs, when a file of that name says so.
NOTE = """\
#!/bin/sh
echo "$@" >> {directory}/trace
[ -e {directory}/hang-$1 ] && exec sleep 100
[ -e {directory}/fail-$1 ] && echo "sluice: $1 is broken" >&2 && exit 3
echo "$1 went well"
exit 0
"""


class Book:
    def __init__(self, case):
        self.case = case
        self.program = case.file("note", NOTE.format(directory=case.directory))
        os.chmod(self.program, 0o755)
        self.path = case.file("small.conf",
                              PLAYBOOK.format(note=self.program))

    def __call__(self, *words, **options):
        return self.case.sluice("playbook", *words, **options)

    def start(self, *more):
        result = self("start", self.path, DOMAIN, "--set",
                      f"note={self.program}", *more)
        expect(f"start: {result.err}", result.code, 0)

    def flag(self, name):
        return self.case.file(name, "")

    def unflag(self, name):
        os.unlink(os.path.join(self.case.directory, name))

    def trace(self):
        with contextlib.suppress(FileNotFoundError):
            with open(os.path.join(self.case.directory, "trace"),
                      encoding="utf-8") as file:
                return file.read().split("\n")[:-1]
        return []

    def states(self):
        document = self("status", DOMAIN, "--json").json
        return {step["id"]: step["state"] for step in document["steps"]}

    def ack(self, step="person"):
        return self("ack", DOMAIN, step, "--by", "Ann <script>", "--note",
                    "fine | with *me*")


@contextlib.contextmanager
def book_case():
    with cli_case(names=(DOMAIN,)) as case:
        yield Book(case)


def test_from_beginning_to_end():
    with book_case() as book:
        book.start()
        first = book("run", DOMAIN)
        expect(f"it waits for a person ({first.err})", first.code, 75)
        expect_true(first.out, "waits for customer" in first.out)
        expect("ack", book.ack().code, 0)
        last = book("run", DOMAIN, "--wait")
        expect(f"it ends ({last.err})", last.code, 0)
        expect("all steps, in order", book.trace(), [
            "do-one hello", "before-two", "do-two example.com", "after-two",
            "do-three"])
        expect("states", set(book.states().values()), {"done"})
        again = book("run", DOMAIN)
        expect("a run that is over", again.code, 0)
        expect("does nothing again", len(book.trace()), 5)
        html = book("report", DOMAIN, "--format", "html").out
        expect_true("the report is escaped", "Ann &lt;script&gt;" in html
                    and "<script" not in html and "http" not in html)
        markdown = book("report", DOMAIN).out
        expect_true("so is the Markdown", "fine \\| with \\*me\\*" in markdown)


def test_timer_is_not_gone_past():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        book.ack()
        result = book("run", DOMAIN)
        expect("time is waited for", result.code, 75)
        expect("the timer", book.states()["pause"], "waiting for time")
        expect_true("nothing after it", "do-three" not in book.trace())


def test_failures_stop_and_resume():
    with book_case() as book:
        book.start()
        for flag, step in (("do-one", "one"), ("before-two", "two"),
                           ("do-two", "two"), ("after-two", "two"),
                           ("do-three", "three")):
            book.flag(f"fail-{flag}")
            book("run", DOMAIN, "--wait")
            if book.states()["person"] == "waiting for a person":
                book.ack()
            result = book("run", DOMAIN, "--wait")
            expect(f"{flag} stops it", result.code, 1)
            expect_true(result.err, f"{flag} is broken" in result.err)
            expect(flag, book.states()[step], "failed")
            book.unflag(f"fail-{flag}")
        expect("mended", book("run", DOMAIN, "--wait").code, 0)


def test_killed_in_a_step_and_resumed():
    with book_case() as book:
        book.start()
        book.flag("hang-do-one")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as runner:
            wait_for(lambda: book.trace() == ["do-one hello"], "the step runs")
            expect("seen by the other", book.states()["one"], "running")
            second = book("run", DOMAIN)
            expect("two do not run at once", second.code, 75)
            expect_true(second.err, "is being run by" in second.err)
            runner.send_signal(signal.SIGKILL)
        book.unflag("hang-do-one")
        result = book("run", DOMAIN)
        expect(f"the next one goes on ({result.err})", result.code, 75)
        expect("again", book.trace(), ["do-one hello"] * 2)


def test_interrupted_by_a_signal():
    with book_case() as book:
        book.start()
        book.flag("hang-do-one")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stderr=subprocess.PIPE) as runner:
            wait_for(lambda: book.trace() == ["do-one hello"], "the step runs")
            runner.send_signal(signal.SIGTERM)
            expect("try again", runner.wait(20), 75)
            runner.stderr.close()
        expect("the step", book.states()["one"], "running")


def test_rollback():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        book.ack()
        expect("to the end", book("run", DOMAIN, "--wait").code, 0)
        dry = book("rollback", DOMAIN, "--dry-run")
        expect_true(dry.out, "two would be undone: command" in dry.out)
        expect("part of the way", book("rollback", DOMAIN, "--to", "two").code, 0)
        expect("one undo", book.trace()[-1], "undo-two")
        expect("states", book.states(), {
            "one": "done", "person": "done", "two": "undone",
            "pause": "undone", "three": "undone"})
        book.flag("fail-undo-one")
        expect("a failing undo", book("rollback", DOMAIN).code, 1)
        book.unflag("fail-undo-one")
        expect("and the rest", book("rollback", DOMAIN).code, 0)
        expect("undone", set(book.states().values()), {"undone"})
        expect("once more from the start", book("run", DOMAIN).code, 75)


def test_window():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        book.ack()
        short = book("run", DOMAIN, "--window", "10m")
        expect("it does not fit", short.code, 1)
        expect_true(short.err, "step two is not begun" in short.err)
        expect_true("and nothing was done", "do-two example.com" not in book.trace())
        expect("mended", book("run", DOMAIN, "--wait", "--window", "3h").code, 0)


def test_rehearsal():
    with book_case() as book:
        book.case.add("a@example.com", "b@example.com")
        bad = book("start", book.path, DOMAIN, "--set", "note=x", "--rehearse",
                   DOMAIN)
        expect("a whole domain is no pilot group", bad.code, 65)
        book.start("--rehearse", "a@example.com")
        book("run", DOMAIN)
        book.ack()
        expect("to the end", book("run", DOMAIN).code, 0)
        expect("only what works on the pilots", book.trace(), [
            "before-two", "do-two a@example.com", "after-two"])


def test_dry_run():
    with book_case() as book:
        book.start()
        result = book("run", DOMAIN, "--dry-run")
        expect(f"checks ({result.err})", result.code, 0)
        expect("and no action", book.trace(), ["before-two", "after-two"])
        expect("no change", set(book.states().values()), {"pending"})


def test_start_is_checked():
    with book_case() as book:
        missing = book("start", book.path, DOMAIN)
        expect("a setting is missing", missing.code, 64)
        expect_true(missing.err, "--set note=... is missing" in missing.err)
        expect("unknown setting", book("start", book.path, DOMAIN, "--set",
                                       "colour=red").code, 64)
        expect("unknown domain", book("start", book.path, "other.test").code, 65)
        expect("no run", book("run", DOMAIN).code, 1)
        book.start()
        twice = book("start", book.path, DOMAIN, "--set", "note=x")
        expect("it goes on already", twice.code, 1)
        book.start("--replace")
        broken = book.case.file("broken.conf", 'phase "p" {\n step "a" {\n'
                                ' action = {"conjure"}\n }\n}\n')
        result = book("show", broken)
        expect("unknown action", result.code, 78)
        expect_true(result.err, "broken.conf:3: " in result.err)


def test_two_operators_acknowledge():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        expect("the first", book.ack().code, 0)
        second = book.ack()
        expect("the second", second.code, 1)
        expect_true(second.err, "nothing to acknowledge" in second.err)


def test_events_are_in_the_stream():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        entries = book.case.redis.command("XRANGE", "sluice:events", "-", "+")
        ops = [dict(zip(fields[::2], fields[1::2]))["op"]
               for _, fields in entries]
        # start; one: running, done; person: running, waiting
        expect("every step is an event", ops.count("playbook"), 5)


def test_redis_away():
    with book_case() as book:
        book.start()
        book.case.redis.stop()
        result = book("run", DOMAIN)
        expect("a service is missing", result.code, 69)
        book.case.redis.start()
        expect("and back", book("run", DOMAIN).code, 75)


def test_shipped_ones_are_listed_and_shown():
    with cli_case(names=(DOMAIN,), top=f'playbooks = "{SHIPPED}"') as case:
        result = case.sluice("playbook", "list", "--json")
        expect(f"list ({result.err})", result.code, 0)
        names = [each["name"] for each in result.json["playbooks"]]
        expect("all five", names, ["bystar", "clrstream", "mailroute",
                                   "skyconnect", "smarsh"])
        for name in names:
            for form in ("markdown", "html"):
                page = case.sluice("playbook", "show", name, "--format", form)
                expect(f"{name} as {form}", page.code, 0)
                expect_true("has its last phase", len(page.out) > 2000)
