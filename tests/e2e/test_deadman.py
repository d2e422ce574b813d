"""The dead-man switch: a lock past lock-deadline is an alarm, everywhere, and
nothing is released."""

import json
import os
import time
import urllib.error
import urllib.request

import policyd_case
from harness import expect, expect_true, wait_until
from parts.process import run
from policyd_case import BINDIR, USER, policyd_case as case_of

DEADLINE_S = 4
COMMAND = """#!/bin/sh
out=$(mktemp {directory}/ran/run.XXXXXX)
{{ echo "args=$*"; id -un; ls /proc/self/fd | tr '\\n' ' '; echo; env | sort; }} >$out
mv $out $out.done
exit 3
"""


def prepare(case):
    policyd_case.MAILBOXES.clear()  # none without its change
    case.http = case.ports.take()
    os.makedirs(case.path("ran"))
    os.chmod(case.path("ran"), 0o777)
    with open(case.path("page-me"), "w", encoding="ascii") as file:
        file.write(COMMAND.format(directory=case.directory))
    os.chmod(case.path("page-me"), 0o755)
    policyd_case.CONFIG = (
        f"lock-deadline = {DEADLINE_S}s\n" + policyd_case.CONFIG.replace(
            "policyd {{\n", "policyd {{\n"
            f'  http = "127.0.0.1:{case.http}"\n'
            '  alarm-command = {{"{directory}/page-me", "one arg", "$(id)"}}\n'))
    case.extra = ('domain "patient.example" {\n  new = "[127.0.0.1]:10026"\n'
                  "  lock-deadline = none\n}\n")


def sluice(case, *words):
    return run([os.path.join(BINDIR, "sluice"), words[0], "-c", case.config_path,
                *words[1:]])


def ask(case, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{case.http}{path}",
                                    timeout=10) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        expect("just started", error.code, 503)
        return '{"alarms": []}'


def alarms(case):
    return json.loads(ask(case, "/status.json"))["alarms"]


def locks(case):
    """Alarms about deadlines."""
    return [alarm for alarm in alarms(case) if alarm["kind"] == "lock-deadline"]


def runs(case, state=None):
    found = []
    for name in sorted(os.listdir(case.path("ran"))):
        if name.endswith(".done"):
            with open(case.path(f"ran/{name}"), encoding="utf-8") as file:
                found.append(file.read())
    return [text for text in found
            if state is None or f"SLUICE_ALARM_STATE={state}\n" in text
            and "SLUICE_ALARM=lock-deadline\n" in text]


def set_up(case):
    with open(case.path("m.csv"), "w", encoding="ascii") as file:
        file.write("address\n" + "".join(
            f"{name}@{domain}\n" for name in "abc"
            for domain in ("example.com", "patient.example")))
    sluice(case, "import", case.path("m.csv"))
    wait_until(lambda: case.redis.command("HLEN", "sluice:hosts") == 1, 20,
               "the host is registered")


def lock(case, *names):
    sluice(case, "lock", "--without-host", "mx1.example.com", *names)


def test_deadline():
    with case_of(prepare) as case:
        set_up(case)
        began = time.time()
        lock(case, "a@example.com", "b@example.com", "a@patient.example")
        expect("no alarm at once", locks(case), [])
        wait_until(lambda: locks(case), 20, "an alarm")
        expect_true("not before its time", time.time() - began > DEADLINE_S - 1.5)
        check_alarm(case)
        check_command(case)
        expect("nothing was released",
               [case.redis.command("HGET", "sluice:home:example.com", name)[0]
                for name in "abc"], ["l", "l", "o"])
        check_restart(case)
        check_end(case)


def check_alarm(case):
    found = locks(case)
    expect("one, of the domain that has a deadline",
           [alarm["about"] for alarm in found], ["example.com"])
    expect_true("it says how many", "2 mailboxes are locked" in found[0]["text"])
    case.wait_log("alarm: lock-deadline: example.com: 2 mailboxes are locked")
    metrics = ask(case, "/metrics")
    for sample in ('sluice_lock_overdue_mailboxes{domain="example.com"} 2',
                   'sluice_lock_overdue_mailboxes{domain="patient.example"} 0',
                   'sluice_alarm{kind="lock-deadline",about="example.com"} 1'):
        expect_true(sample, sample in metrics.splitlines())


def check_command(case):
    wait_until(lambda: runs(case, "raised"), 10, "the command has run")
    lines = runs(case, "raised")[0].splitlines()
    expect("its arguments are the configured ones", lines[0], "args=one arg $(id)")
    expect("it is nobody special", lines[1], USER)
    expect("open files: its own, and ls'", len(lines[2].split()), 4)
    environment = dict(line.split("=", 1) for line in lines[3:])
    expect("its environment", sorted(set(environment) - {"PWD", "SHLVL", "_", "OLDPWD"}),
           ["PATH", "SLUICE_ALARM", "SLUICE_ALARM_ABOUT", "SLUICE_ALARM_STATE",
            "SLUICE_ALARM_TEXT", "SLUICE_HOST"])
    expect("whom it is about", environment["SLUICE_ALARM_ABOUT"], "example.com")
    case.wait_log("alarm-command: exit code 3")


def check_restart(case):
    """The time of a lock survives, and so does that it was told."""
    before = len(runs(case, "raised"))
    since = locks(case)[0]["since"]
    case.child.end()
    case.start()
    wait_until(lambda: locks(case), 20, "the alarm again")
    expect("since when", locks(case)[0]["since"], since)
    time.sleep(1)
    expect("not told again", len(runs(case, "raised")), before)


def check_end(case):
    sluice(case, "unlock", "--force", "a@example.com")
    wait_until(lambda: "1 mailbox is locked" in "".join(
        alarm["text"] for alarm in locks(case)), 10, "one less")
    sluice(case, "unlock", "--force", "b@example.com")
    wait_until(lambda: not locks(case), 10, "no alarm")
    case.wait_log("alarm over: lock-deadline example.com")
    wait_until(lambda: runs(case, "over"), 10, "that is told too")
    # A whole domain, and once more.
    lock(case, "example.com")
    wait_until(lambda: locks(case), 20, "an alarm")
    expect_true("all of it", "3 mailboxes are locked" in locks(case)[0]["text"])
    wait_until(lambda: len(runs(case, "raised")) == 2, 10, "the command again")
    index = case.redis.command("HGETALL", "sluice:locks:example.com")
    expect("the index counts all", sum(map(int, index[1::2])), 3)
