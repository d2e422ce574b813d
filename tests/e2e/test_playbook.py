"""`sluice playbook` with a Redis of its own: runs, stops, resumes, goes back.

The playbooks here are made of programs that note what they did; the shipped ones
are only read (tests/unit/test_playbook.c ties their rows to their steps).
"""

import contextlib
import os
import pwd
import signal
import subprocess
import time

from cli_case import BINDIR, Result, cli_case, wait_for
from harness import SOURCE, expect, expect_true
from parts.process import run
from policyd_case import policyd_case

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
mkdir -p {directory}/work && cd {directory}/work
echo "$@" >> {directory}/trace
[ -e {directory}/hang-$1 ] && sleep 100
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


def test_begun_is_gone_on_with():
    """The check before an action need not hold any more in the middle of it."""
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        book.ack()
        book.flag("hang-do-two")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as runner:
            wait_for(lambda: book.trace()[-1] == "do-two example.com", "at work")
            runner.kill()
        book.unflag("hang-do-two")
        book.flag("fail-before-two")
        book.flag("fail-do-two")
        expect("the action fails", book("run", DOMAIN).code, 1)
        book.unflag("fail-do-two")
        result = book("run", DOMAIN, "--wait")
        expect(f"it goes on ({result.err})", result.code, 0)
        expect("back", book("rollback", DOMAIN, "--to", "two").code, 0)
        expect("from its beginning it is asked", book("run", DOMAIN).code, 1)


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


def test_as_far_as_a_step():
    with book_case() as book:
        book.start()
        unknown = book("run", DOMAIN, "--to", "twi")
        expect_true(f"unknown: {unknown.err}", unknown.code == 64 and
                    'no step "twi"' in unknown.err)
        expect("nothing was done", book.trace(), [])
        expect("a person comes before it", book("run", DOMAIN, "--to", "two").code, 75)
        book.ack()
        dry = book("run", DOMAIN, "--to", "two", "--dry-run")
        expect_true(f"its checks are not made: {dry.out}", "two" not in dry.out)
        for _ in range(2):
            said = book("run", DOMAIN, "--to", "two")
            expect(f"as far as that ({said.err})", said.code, 0)
            expect_true(said.out, "all before step two is done" in said.out)
        expect("and no further", book.trace(), ["do-one hello"])
        expect("to the end", book("run", DOMAIN, "--wait").code, 0)
        expect("what is done is not done again",
               (book("run", DOMAIN, "--to", "two").code, len(book.trace())), (0, 5))
        expect("nor is the run open again", book("status", DOMAIN, "--json").json["state"],
               "finished")


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
        # The group is what it was at the start, whatever becomes of its file.
        pilots = book.case.file("pilots", "b@example.com\n")
        book.start("--rehearse", f"@{pilots}")
        os.unlink(pilots)
        book("run", DOMAIN)
        book.ack()
        expect("to the end", book("run", DOMAIN).code, 0)
        who = book.trace()[-2].split()[1]
        with open(who.removeprefix("@"), encoding="utf-8") as file:
            expect("the list", file.read(), "b@example.com\n")


def test_dry_run():
    with book_case() as book:
        book.start()
        result = book("run", DOMAIN, "--dry-run")
        expect(f"checks ({result.err})", result.code, 0)
        expect("and no action", book.trace(), ["before-two", "after-two"])
        # What an action has not brought about yet is no failure; what it needs is.
        book.flag("fail-after-two")
        result = book("run", DOMAIN, "--dry-run")
        expect(f"not yet ({result.out})", result.code, 0)
        expect_true(result.out, "two: after check-command: not yet: " in result.out)
        book.flag("fail-before-two")
        result = book("run", DOMAIN, "--dry-run")
        expect(f"a check that fails ({result.out})", result.code, 1)
        expect_true(result.out, "two: before check-command: FAILED: " in result.out
                    and "1 failed, 1 can only be so later" in result.out)
        expect("no change", set(book.states().values()), {"pending"})


def test_status_watch():
    """On a pipe: one picture after the other, which follow the run."""
    with book_case() as book:
        book.start()
        with subprocess.Popen(book.case.argv("playbook", "status", DOMAIN, "--watch",
                                             "1"), stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True) as watcher:
            seen = [watcher.stdout.readline()]
            book("run", DOMAIN)
            while "waits for customer" not in seen[-1] and len(seen) < 500:
                seen.append(watcher.stdout.readline())
            watcher.send_signal(signal.SIGINT)
            watcher.communicate(timeout=10)
            expect(f"exit ({seen})", watcher.returncode, 0)
        text = "".join(seen)
        for word in ("0 of 5 steps done", "1 of 5 steps done", "forecast", "window"):
            expect_true(f"{word} is in it: {text}", word in text)
        expect_true("no escape sequences", "\x1b" not in text)


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


def test_hostile_files():
    """A playbook or a program that somebody else may write to would give him this
    user's rights."""
    with book_case() as book:
        os.chmod(book.path, 0o666)
        refused = book("start", book.path, DOMAIN, "--set", f"note={book.program}")
        expect(f"a playbook that anybody may edit ({refused.err})", refused.code, 78)
        expect_true(refused.err, "chmod go-w" in refused.err)
        os.chmod(book.path, 0o644)
        book.start()
        # The run's own copy, too; and the file that the store may name instead of it.
        os.chmod(book.path, 0o664)
        expect_true("the run goes on with its copy", "chmod go-w" in book(
            "run", DOMAIN).err)
        expect("which is whole", book.states()["one"], "done")
        os.chmod(book.path, 0o644)
        book.ack()
        os.chmod(book.program, 0o777)
        refused = book("run", DOMAIN)
        expect(f"a program that anybody may edit ({refused.err})", refused.code, 1)
        expect_true(refused.err, "step two" in refused.err and "chmod go-w" in refused.err)
        expect_true("it was not run", "before-two" not in book.trace())
        os.chmod(book.program, 0o755)
        expect("mended", book("run", DOMAIN, "--wait").code, 0)


def test_two_operators_acknowledge():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        expect("the first", book.ack().code, 0)
        second = book.ack()
        expect("the second", second.code, 1)
        expect_true(second.err, "nothing to acknowledge" in second.err)


def test_what_to_do_now():
    """What a tired operator reads: what is asked, where the log is, what comes next."""
    with book_case() as book:
        text = PLAYBOOK.format(note=book.program).replace(
            'title = "Somebody agrees"', 'title = "Somebody agrees" '
            'text = "Ask %{greeting}." post = {"check-command", "/bin/true"}')
        book.path = book.case.file("small.conf", text)
        book.start()
        book("run", DOMAIN)
        status = book("status", DOMAIN).out
        expect_true(f"the question: {status}", "          Somebody agrees\n"
                    "          Ask hello.\n"
                    "          looked at then: check-command\n" in status)
        wrong = book.ack("two")
        expect_true(f"which one waits: {wrong.err}", "what waits is person" in wrong.err)
        book.ack()
        book.flag("fail-do-two")
        failed = book("run", DOMAIN)
        log = log_of(book, "two.log")
        expect_true(f"the way out: {failed.err}", f"its log: {log}; mend it and run the same "
                    f"command again, or go back: sluice playbook rollback {DOMAIN}"
                    in failed.err)
        expect_true("status says it too", f"its log: {log}" in book("status", DOMAIN).out)
        dry = book("rollback", DOMAIN, "--dry-run").out
        expect_true(f"the way back, in words: {dry}", "two would be undone: command "
                    f"{book.program} undo-two" in dry)
        one_step(book, "echo 12 of 40 mailboxes done, about 5 min left\nsleep 100\n")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as runner:
            wait_for(lambda: "it said last: 12 of 40 mailboxes done, about 5 min left"
                     in book("status", DOMAIN).out, "how far it is")
            runner.send_signal(signal.SIGTERM)


def test_acknowledged_by():
    """Who is said to have done it, and whose login said so; neither can pass for the
    other."""
    host = os.uname().nodename
    login = f"{pwd.getpwuid(os.getuid()).pw_name}@{host}"
    cases = (
        ("Ann", {}, f"Ann ({login})"),
        (login.split("@")[0], {}, login),
        (login, {}, login),
        ("Ann (boss@mx9)", {}, f"Ann [boss@mx9] ({login})"),
        ("Ann\u202e\x1b[31m\t", {}, f"Ann???[31m  ({login})"),
        ("Ann", {"SUDO_USER": "bob"}, f"Ann (bob>{login})"),
        ("Ann", {"SUDO_USER": "root"}, f"Ann ({login})"),
        ("Ann", {"SUDO_USER": "b@b) (c"}, f"Ann (b_b___c>{login})"),
    )
    with book_case() as book:
        for by, env, want in cases:
            if os.getuid() != 0 and env:
                want = f"{by} ({login})"   # nobody but root is believed
            book.start("--replace")
            book("run", DOMAIN)
            code, out, err = run(book.case.argv(
                "playbook", "ack", DOMAIN, "person", "--by", by, "--note", "n\u202eo\x9bte"),
                check=False, env={**os.environ, **env})
            expect(f"ack by {by!r} ({err})", code, 0)
            expect_true(f"it says so: {out!r}", f"says {want.replace('???', '')[:3]}" in out)
            step = book("status", DOMAIN, "--json").json["steps"][1]
            expect(f"by {by!r}, {env}", step["by"].replace("?", ""), want.replace("?", ""))
            expect_true(f"the note is harmless: {step['note']!r}",
                        "\u202e" not in step["note"] and "\x9b" not in step["note"])
            expect_true("the report has both", want.split(" ")[-1].split("@")[0].strip("(")
                        .split(">")[0] in book("report", DOMAIN, "--format", "html").out)


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


def test_read_without_configuration():
    """The table of actions, and a playbook that is named by its path."""
    def sluice(*words):
        return Result(*run([os.path.join(BINDIR, "sluice"), "-c", "/nonexistent/sluice.conf",
                            "playbook", *words], check=False))
    path = os.path.join(SHIPPED, "smarsh.conf")
    for words, part in ((("actions",), "copied=STEP"),
                        (("actions", "--json"), '"name": "counts"'),
                        (("show", path), "MX first, relay back"),
                        (("show", path, "--json"), '"name": "smarsh"'),
                        (("show", "--variant", "filter", path, "--format", "html"),
                         "The filter is pointed to the new side")):
        said = sluice(*words)
        expect(f"{words} ({said.err})", said.code, 0)
        expect_true(f"{words}: {said.out[:2000]}", part in said.out)
    for words, part in ((("show", "smarsh"), "/nonexistent/sluice.conf: cannot open"),
                        (("list",), "/nonexistent/sluice.conf: cannot open"),
                        (("show", "./none.conf"), "./none.conf: cannot open"),
                        (("show", "--variant", "a/b", "smarsh"), "smarsh: not a path")):
        said = sluice(*words)
        expect(f"{words} ({said.out})", said.code, 78)
        expect_true(f"{words}: {said.err}", part in said.err)


# ---- killed, and gone back, at every step -----------------------------------

CHAIN = """\
title = "A chain"
window = 1d
phase "All" {{
{steps}
}}
"""

CHAIN_STEP = """\
  step "s{i}" {{
    title = "Step {i}" owner = "sluice"  usually = 1s
    pre = {{"check-command", "{note}", "pre{i}"}}
    action = {{"command", "{note}", "do{i}"}}
    post = {{"check-command", "{note}", "post{i}"}}
    undo = {{"command", "{note}", "undo{i}"}}
  }}
"""
CHAIN_STEPS = 3
PARTS = [f"{part}{i}" for i in range(1, CHAIN_STEPS + 1)
         for part in ("pre", "do", "post")]


@contextlib.contextmanager
def chain_case():
    with book_case() as book:
        book.path = book.case.file("chain.conf", CHAIN.format(steps="".join(
            CHAIN_STEP.format(i=i, note=book.program)
            for i in range(1, CHAIN_STEPS + 1))))
        yield book


def processes_of(directory):
    """What a program of this case has started: it works in that directory."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd") == f"{directory}/work":
                found.append(int(pid))
    return found


def kill_all(pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def children_of(pid):
    found = []
    for child in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open(f"/proc/{child}/stat", encoding="ascii",
                      errors="replace") as file:
                if int(file.read().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(child))
    return found


def at_part(book, part, act):
    """Runs until `part` is at work, then act(runner)."""
    book.flag(f"hang-{part}")
    with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as runner:
        wait_for(lambda: book.trace()[-1:] == [part], f"{part} is at work")
        act(runner)
        runner.wait(30)
    book.unflag(f"hang-{part}")


def check_chain(done, trace, what):
    """No step before the one above it was done, and each was done."""
    order = [entry for i, entry in enumerate(trace)
             if i == 0 or trace[i - 1] != entry]
    expect(f"{what}: every part, in order", [
        part for i, part in enumerate(order)
        if part not in order[:i]], done)


def test_runner_killed_at_every_part():
    with chain_case() as book:
        book("start", book.path, DOMAIN)
        for part in PARTS:
            at_part(book, part, lambda runner: runner.kill())
            wait_for(lambda: not processes_of(book.case.directory),
                     f"{part}: what the killed one had started is gone")
        last = book("run", DOMAIN)
        expect(f"it ends ({last.err})", last.code, 0)
        expect("states", set(book.states().values()), {"done"})
        check_chain(PARTS, book.trace(), "killed runner")


def test_work_killed_at_every_part():
    """Its guard, and the work itself: a failure, and the next run resumes."""
    with chain_case() as book:
        book("start", book.path, DOMAIN)
        for part in PARTS:
            at_part(book, part,
                    lambda runner: kill_all(children_of(runner.pid)))
            wait_for(lambda: not processes_of(book.case.directory),
                     f"{part}: the work died with its guard")
        for part in PARTS:
            expect("roll back", book("rollback", DOMAIN).code, 0)
            os.unlink(os.path.join(book.case.directory, "trace"))
            at_part(book, part, lambda runner: kill_all(
                processes_of(book.case.directory)))
            expect(f"{part}: the step", "failed",
                   book.states()[f"s{part[-1]}"])
            note = book("status", DOMAIN).out
            expect_true(note, "ended by signal 9" in note)
        last = book("run", DOMAIN)
        expect(f"it ends ({last.err})", last.code, 0)
        check_chain(PARTS, book.trace(), "killed work")


def test_rollback_from_every_part():
    """Each action that was begun is undone once, the last first; no other."""
    with chain_case() as book:
        for number, part in enumerate(PARTS):
            book("start", book.path, DOMAIN, "--replace")
            at_part(book, part, lambda runner: runner.kill())
            wait_for(lambda: not processes_of(book.case.directory),
                     "the work is gone")
            os.unlink(os.path.join(book.case.directory, "trace"))
            result = book("rollback", DOMAIN)
            expect(f"rollback from {part}: {result.err}", result.code, 0)
            begun = (number + 2) // 3  # its own action, from "do" on
            expect(f"from {part}", book.trace(), [
                f"undo{i}" for i in range(begun, 0, -1)])
            expect_true(book.states(), set(book.states().values())
                        <= {"undone", "pending"})
            again = book("rollback", DOMAIN)
            expect("once more", (again.code, len(book.trace())), (0, begun))


def test_undo_killed_at_every_step():
    with chain_case() as book:
        book("start", book.path, DOMAIN)
        expect("to the end", book("run", DOMAIN).code, 0)
        for i in range(CHAIN_STEPS, 0, -1):
            book.flag(f"hang-undo{i}")
            with subprocess.Popen(book.case.argv("playbook", "rollback", DOMAIN),
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL) as runner:
                wait_for(lambda: book.trace()[-1:] == [f"undo{i}"], "it undoes")
                expect("state", book.states()[f"s{i}"], "undoing")
                runner.kill()
            stopped = book("run", DOMAIN)
            expect("no way forward in between", stopped.code, 75)
            expect_true(stopped.out, "is being undone" in stopped.out)
            book.unflag(f"hang-undo{i}")
        expect("the rest", book("rollback", DOMAIN).code, 0)
        expect("undone", set(book.states().values()), {"undone"})


def changes(book):
    return int(book.case.redis.command("HGET", "sluice:chain", "epoch"))


def killed_after(book, verb, count):
    """Kills the verb's process as soon as it has written `count` changes."""
    last = changes(book) + count
    with subprocess.Popen(book.case.argv("playbook", verb, DOMAIN),
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as runner:
        while changes(book) < last and runner.poll() is None:
            pass
        runner.kill()


def test_killed_after_every_write():
    """A step: running, running and begun, done. The run: finished."""
    with chain_case() as book:
        for count in range(1, 3 * CHAIN_STEPS + 2):
            book("start", book.path, DOMAIN, "--replace")
            killed_after(book, "run", count)
            result = book("run", DOMAIN)
            expect(f"after {count}: {result.err}", result.code, 0)
            expect(f"after {count}", set(book.states().values()), {"done"})
            trace = book.trace()
            check_chain(PARTS, trace, f"after {count}")
            expect_true(f"after {count}: one step twice at most: {trace}",
                        len(trace) <= len(PARTS) + 3)
            os.unlink(os.path.join(book.case.directory, "trace"))
            killed_after(book, "rollback", min(count, 2 * CHAIN_STEPS + 1))
            result = book("rollback", DOMAIN)
            expect(f"back, after {count}: {result.err}", result.code, 0)
            expect(f"back, after {count}", set(book.states().values()),
                   {"undone"})
            check_chain([f"undo{i}" for i in range(CHAIN_STEPS, 0, -1)],
                        book.trace(), f"back, after {count}")
            os.unlink(os.path.join(book.case.directory, "trace"))


# ---- what actions may do ------------------------------------------------------

def one_step(book, script, more="", action="command", ident="x"):
    program = book.case.file(f"{ident}.sh", "#!/bin/sh\n" + script)
    os.chmod(program, 0o755)
    path = book.case.file(f"{ident}.conf", f"""\
title = "One" phase "p" {{ step "{ident}" {{ title = "T" owner = "o" {more}
  action = {{"{action}", "{program}"}} undo = {{"nothing"}} }} }}
""")
    started = book("start", path, DOMAIN, "--replace")
    expect(f"start {ident}: {started.err}", started.code, 0)
    return path


def log_of(book, name):
    return os.path.join(book.case.state, "playbook", DOMAIN, name)


def test_time_limit_and_what_ignores_it():
    with book_case() as book:
        one_step(book, "trap '' TERM\necho here\nsleep 3; sleep 3; sleep 30; sleep 30\n",
                 "limit = 1s")
        began = time.monotonic()
        result = book("run", DOMAIN)
        expect("a failure", result.code, 1)
        expect_true(result.err, "not done within 1 s" in result.err)
        expect_true("ended by force", time.monotonic() - began < 20)


def test_children_that_stay_are_ended():
    with book_case() as book:
        one_step(book, f"(exec {book.program} left) &\n"
                       "trap '' TERM\n(sleep 100) >/dev/null 2>&1 &\necho fine\n")
        book.flag("hang-left")
        began = time.monotonic()
        result = book("run", DOMAIN)
        expect(f"done ({result.err})", result.code, 0)
        expect_true("not waited for long", time.monotonic() - began < 15)
        expect_true(result.out, "x: done: fine" in result.out)
        expect("gone", processes_of(book.case.directory), [])


def test_flood_of_output():
    with book_case() as book:
        one_step(book, "yes 'a line of a flood' | head -c 30000000\n"
                       "printf '\\033]0;title\\007 the \\033[31mend \\377\\n'\n")
        result = book("run", DOMAIN)
        expect("done", result.code, 0)
        expect_true(result.out, "the " in result.out and "\033" not in result.out)
        sizes = [os.path.getsize(log_of(book, f"x.log{end}"))
                 for end in ("", ".1")]
        expect_true(f"bounded: {sizes}", sum(sizes) < 10_000_000)
        for form in ("text", "markdown", "html"):
            page = book("report", DOMAIN, "--format", form).out
            expect_true(form, not any(ord(c) < 32 and c != "\n" for c in page))
        status = book("status", DOMAIN, "--json")
        expect("one document", status.json["state"], "finished")


def test_odd_characters_in_settings():
    odd = "a b;$(touch x) 'q\" %{who} | & \\ ü <i>"
    with book_case() as book:
        path = book.case.file("odd.conf", f"""\
title = "Odd" setting "v" {{ }} phase "p" {{ step "x" {{ title = "T %{{v}}"
  owner = "o" action = {{"check-command", "{book.program}", "%{{v}}"}} }} }}
""")
        for bad in ("v=a\nb", "v=a\x1b[31m", "v=" + "x" * 3000, "=x", "v"):
            expect(f"refused: {bad[:10]!r}",
                   book("start", path, DOMAIN, "--set", bad).code, 64)
        expect("start", book("start", path, DOMAIN, "--set", f"v={odd}").code, 0)
        expect("run", book("run", DOMAIN).code, 0)
        expect("as it is", book.trace(), [odd])
        html = book("report", DOMAIN, "--format", "html").out
        expect_true("escaped", "<i>" not in html and "&lt;i&gt;" in html)


def test_two_runs_of_a_step_at_once():
    """A guard of an earlier run that still ends its work keeps the next out."""
    with book_case() as book:
        busy = os.path.join(book.case.directory, "busy")
        one_step(book, f"trap 'sleep 2; rmdir {busy}; exit 1' TERM\n"
                       f"mkdir {busy} && n=1 || n=2\n"
                       f"echo n=$n >> {book.case.directory}/trace\n"
                       "while [ ! -e $0.go ]; do sleep 0.1; done\n"
                       f"rmdir {busy}\n")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as runner:
            wait_for(lambda: book.trace() == ["n=1"], "it is at work")
            runner.kill()
        book.case.file("x.sh.go", "")
        result = book("run", DOMAIN)
        expect(f"the second ({result.err})", result.code, 0)
        expect("never two", book.trace(), ["n=1", "n=1"])


# ---- the file, the store, the clock ---------------------------------------------

def test_file_edited_or_gone():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        book.ack()
        with open(book.path, encoding="utf-8") as file:
            text = file.read()
        book.case.file("small.conf", text.replace("do-two", "do-2"))
        result = book("run", DOMAIN)
        expect_true(result.err, "small.conf has changed" in result.err
                    and "--new-file" in result.err)
        expect_true("goes on as it was", "do-two example.com" in book.trace())
        os.unlink(book.path)
        expect("gone", book("status", DOMAIN).code, 0)
        bad = book("run", DOMAIN, "--new-file")
        expect("nothing to take", bad.code, 78)
        copy = [name for name in os.listdir(log_of(book, ""))
                if name.startswith("small.")]
        expect("one copy", len(copy), 1)
        os.unlink(log_of(book, copy[0]))
        lost = book("run", DOMAIN)
        expect("neither", lost.code, 78)
        expect_true(lost.err, "put it back" in lost.err)
        book.case.file("small.conf", text.replace("do-three", "do-3"))
        changed = book("run", DOMAIN)
        expect("changed, no copy", changed.code, 78)
        expect_true(changed.err, "--new-file" in changed.err)
        book.case.file("small.conf", text.replace('step "two"', 'step "zwei"'))
        refused = book("run", DOMAIN, "--new-file")
        expect("what could not be undone stays", refused.code, 1)
        expect_true(refused.err, "step two was begun" in refused.err)
        book.case.file("small.conf", text.replace(
            "phase ", 'setting "fresh" { about = "what is new" }\nphase ', 1))
        refused = book("run", DOMAIN, "--new-file")
        expect("nobody could give it a value any more", refused.code, 1)
        expect_true(refused.err, 'setting "fresh" of' in refused.err
                    and "what is new" in refused.err)
        book.case.file("small.conf", text.replace("do-three", "do-3"))
        new = book("run", DOMAIN, "--wait", "--new-file")
        expect(f"the new one: {new.out} {new.err}", new.code, 0)
        expect("its step", book.trace()[-1], "do-3")


def test_redis_away_in_a_step():
    """The step ends meanwhile, and is not done again."""
    with book_case() as book:
        one_step(book, f"echo once >> {book.case.directory}/trace\n"
                       "while [ ! -e $0.go ]; do sleep 0.1; done\necho good\n")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as runner:
            wait_for(lambda: book.trace() == ["once"], "it is at work")
            book.case.redis.stop()
            book.case.file("x.sh.go", "")
            time.sleep(1)
            book.case.redis.start()
            expect("to its end", runner.wait(40), 0)
        expect("once", book.trace(), ["once"])
        expect("done", book.states(), {"x": "done"})


def stored(book, field=""):
    return book.case.redis.command("HGET", f"sluice:playbook:{DOMAIN}", field)


def test_clock_of_redis_goes_back():
    with book_case() as book:
        book.start()
        book("run", DOMAIN)
        epoch, *rest = stored(book, "one").split("\t")
        rest[2] = str(int(rest[2]) + 7200)
        book.case.redis.command("HSET", f"sluice:playbook:{DOMAIN}", "one",
                                "\t".join([epoch, *rest]))
        book.ack()
        result = book("run", DOMAIN)
        expect("it stops", result.code, 75)
        expect_true(result.err, "clock of Redis' host" in result.err)
        expect_true("nothing was done", "before-two" not in book.trace())
        expect("back is possible", book("rollback", DOMAIN).code, 0)


def test_another_host_of_the_same_name():
    """Two servers may be called "mail": a runner of the other one, whose process is not
    here, is at work all the same."""
    with book_case() as book:
        book.start()
        host = os.uname().nodename
        book.case.redis.command("SET", f"sluice:lease:playbook:{DOMAIN}",
                                f"root@{host}/00000000:4194303", "EX", "600")
        result = book("run", DOMAIN)
        expect(f"not taken from it ({result.err})", result.code, 75)
        expect_true(result.err, f"is being run by root@{host}/" in result.err)
        expect("nothing is done", book.trace(), [])


def test_replaced_under_a_sleeping_runner():
    with book_case() as book:
        book.start()
        book.flag("hang-do-one")
        with subprocess.Popen(book.case.argv("playbook", "run", DOMAIN),
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True) as runner:
            wait_for(lambda: book.trace() == ["do-one hello"], "the step runs")
            held = book("start", book.path, DOMAIN, "--set",
                        f"note={book.program}", "--replace")
            expect("not while it is at work", held.code, 75)
            runner.send_signal(signal.SIGSTOP)
            try:
                book.case.redis.command("DEL", f"sluice:lease:playbook:{DOMAIN}")
                held = book("start", book.path, DOMAIN, "--set",
                            f"note={book.program}", "--replace")
                expect("nor while its step is", held.code, 75)
                expect_true(held.err, "one of the earlier run is still at work" in held.err)
                kill_all(processes_of(book.case.directory))
                book.unflag("hang-do-one")
                book.start("--replace")
            finally:
                runner.send_signal(signal.SIGCONT)
            expect("it is told", runner.wait(40), 75)
            text = runner.stderr.read()
            expect_true(text, "changed by somebody else" in text
                        or "took it over" in text)
        expect("the new run is untouched", set(book.states().values()),
               {"pending"})


def test_damaged_record():
    with book_case() as book:
        book.start()
        for value in ("", "x", "12\tg\t1", "12\t" + "g\t" * 30):
            book.case.redis.command("HSET", f"sluice:playbook:{DOMAIN}", "", value)
            for verb in ("run", "status", "rollback", "report"):
                result = book(verb, DOMAIN)
                expect(f"{verb} of {value!r}", result.code, 69)
                expect_true(result.err, "is damaged" in result.err)
        book.start("--replace")
        expect("begun anew", book("status", DOMAIN).code, 0)


def test_list_shows_runs():
    with cli_case(names=(DOMAIN, "example.org"),
                  top=f'playbooks = "{SHIPPED}"') as case:
        book = Book(case)
        expect_true("no run yet", DOMAIN not in book("list").out)
        book.start()
        book("run", DOMAIN)
        result = book("list")
        expect_true(result.out, "example.com" in result.out
                    and "person, waits for customer" in result.out
                    and "1 of 5" in result.out)
        runs = book("list", "--json").json["runs"]
        expect("the run", [(run["domain"], run["steps_done"]) for run in runs],
               [(DOMAIN, 1)])
        case.redis.stop()
        away = book("list")
        expect("Redis away", away.code, 69)
        expect_true("the playbooks are there", "mailroute" in away.out)


# ---- recover ----------------------------------------------------------------------

class Journalled:
    """A policyd case, as Book wants its case: with a journal of every step."""

    def __init__(self, case):
        self.directory, self.redis, self.policyd = case.directory, case.redis, case
        self.state = os.path.join(case.directory, "state")
        self.journal = os.path.join(self.state, "journal")
        # The keeper takes no base from a store with a damaged record.
        self.redis.command("HDEL", "sluice:home:example.com", "damaged")

    def file(self, name, data):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(data)
        return path

    def argv(self, *words):
        return [os.path.join(BINDIR, "sluice"), "-c", self.policyd.config_path,
                *words]

    def sluice(self, *words, **options):
        return Result(*run(self.argv(*words), check=False, timeout=60,
                           **options))

    def journalled(self):
        with contextlib.suppress(FileNotFoundError, IndexError, TypeError):
            with open(self.journal, encoding="utf-8") as file:
                last = file.read().splitlines()[-1].split()
            return int(last[1], 16) == int(
                self.redis.command("HGET", "sluice:chain", "epoch"))
        return False

    def run_of(self):
        flat = self.redis.command("HGETALL", f"sluice:playbook:{DOMAIN}")
        return dict(zip(flat[::2], flat[1::2]))

    def forget_and_recover(self):
        wait_for(self.journalled, "the journal has every step")
        before = self.run_of()
        self.redis.command("FLUSHALL")
        lost = self.sluice("playbook", "run", DOMAIN)
        expect("an emptied Redis", lost.code, 69)
        expect_true(lost.err, "sluice recover" in lost.err)
        result = self.sluice("recover")
        expect(f"recover: {result.err}", result.code, 0)
        expect("the run is as it was", self.run_of(), before)


def test_recover_with_a_run_under_way():
    """From a journal of events, and from one that began anew with a base."""
    with policyd_case() as policyd:
        case = Journalled(policyd)
        book = Book(case)
        book.start()
        book("run", DOMAIN)
        case.forget_and_recover()
        expect("it is known", book("ack", DOMAIN, "person", "--by", "Ann").code, 0)
        waits = book("run", DOMAIN)
        expect(f"it goes on: {waits.err}", waits.code, 75)
        policyd.child.end()
        os.unlink(case.journal)
        policyd.start()
        wait_for(case.journalled, "a base")
        with open(case.journal, encoding="utf-8") as file:
            expect_true("a base", " base a " in file.read())
        case.forget_and_recover()
        last = book("run", DOMAIN, "--wait")
        expect(f"to its end: {last.err}", last.code, 0)
        expect("nothing twice", book.trace(), [
            "do-one hello", "before-two", "do-two example.com", "after-two",
            "do-three"])


REHEARSED = """\
title = "A small move"
variant "far" {{ about = "the first" }}
variant "near" {{ about = "the other" }}
phase "p" {{
  step "rehearsed" {{ title = "It was rehearsed" owner = "sluice"
    action = {{"rehearsed", "{most}"}} in-rehearsal = false }}
  step "person" {{ title = "Somebody agrees" owner = "customer"
    action = {{"acknowledge"}} }}
}}
"""


def test_rehearsed():
    """The note of a rehearsal outlives its run, its replacement and Redis."""
    with policyd_case() as policyd:
        case = Journalled(policyd)
        book = Book(case)
        small = case.file("small.conf", REHEARSED.format(most="60d"))

        def begin(*more):
            said = book("start", small, DOMAIN, *more)
            expect(f"start {more}: {said.err}", said.code, 0)
            return book("run", DOMAIN)

        def refused(said, *parts):
            expect(f"it was not rehearsed: {said.err}", said.code, 1)
            for part in (*parts, "sluice playbook start small example.com --replace "
                                 "--rehearse ADDRESS|@FILE"):
                expect_true(f"{part} in {said.err}", part in said.err)

        refused(begin(), "not rehearsed on this domain so far", "--variant far")
        pilots = case.file("pilots", f"a@{DOMAIN}\nb@{DOMAIN}\n")
        waits = begin("--replace", "--rehearse", f"@{pilots}")
        expect(f"not asked in a rehearsal: {waits.err}", waits.code, 75)
        refused(begin("--replace"), "so far")   # it did not come to its end
        begin("--replace", "--rehearse", f"@{pilots}")
        book.ack()
        expect("rehearsed", book("run", DOMAIN).code, 0)
        done = begin()
        expect(f"now it goes on: {done.err}", done.code, 75)
        expect_true(done.out, "rehearsed: done: rehearsed on 2 mailboxes by "
                    in done.out and "edited" not in done.out)
        case.forget_and_recover()
        refused(begin("--replace", "--variant", "near"),
                "the last rehearsal was of small, variant far", "--variant near")
        case.file("small.conf", REHEARSED.format(most="1s"))
        wait_for(lambda: begin("--replace").code == 1, "it is too long ago")
        refused(begin("--replace"), " ago, 1 s is the most")
        case.file("small.conf", REHEARSED.format(most="1h"))
        done = begin("--replace")
        expect_true(f"another edition: {done.out}", "was edited since" in done.out)
        case.redis.command("HSET", f"sluice:playbook:{DOMAIN}", "@rehearsed", "1\tx")
        refused(begin("--replace"), "is damaged")
