"""The dead-man switch: a lock past lock-deadline is an alarm, everywhere, and
nothing is released."""

import contextlib
import json
import os
import shutil
import signal
import time
import urllib.error
import urllib.request

import policyd_case
from harness import expect, expect_true, wait_until
from parts.process import Child, run
from policyd_case import BINDIR, USER, policyd_case as case_of

DEADLINE_S = 4
COMMAND = """#!/bin/sh
out=$(mktemp {directory}/ran/run.XXXXXX)
{{ echo "args=$*"; id -un; ls /proc/self/fd | tr '\\n' ' '; echo; env | sort; }} >$out
mv $out $out.done
test -e {directory}/hangs && sleep 1000
test ! -e {directory}/fails || exit 3
"""
LEASE = "sluice:lease:alarm:lock-deadline:example.com"


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


def phase(case):
    """How far the command of example.com's lock is, for all hosts."""
    lease = case.redis.command("GET", LEASE)
    return lease.split(" ")[1] if lease else None


def touch(case, name):
    with open(case.path(name), "w", encoding="ascii"):
        pass


def sluice(case, *words):
    return run([os.path.join(BINDIR, "sluice"), words[0], "-c", case.config_path,
                *words[1:]])


def ask(case, path, port=None):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port or case.http}{path}",
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
    wait_until(lambda: runs(case, "raised"), 20, "the command has run")
    lines = runs(case, "raised")[0].splitlines()
    expect("its arguments are the configured ones", lines[0], "args=one arg $(id)")
    expect("it is nobody special", lines[1], USER)
    expect("open files: its own, and ls'", len(lines[2].split()), 4)
    environment = dict(line.split("=", 1) for line in lines[3:])
    expect("its environment", sorted(set(environment) - {"PWD", "SHLVL", "_", "OLDPWD"}),
           ["PATH", "SLUICE_ALARM", "SLUICE_ALARM_ABOUT", "SLUICE_ALARM_STATE",
            "SLUICE_ALARM_TEXT", "SLUICE_HOST"])
    expect("whom it is about", environment["SLUICE_ALARM_ABOUT"], "example.com")
    wait_until(lambda: phase(case) == "told", 20, "it is told")


def check_restart(case):
    """The time of a lock survives, and so does that it was told."""
    before = len(runs(case, "raised"))
    since = locks(case)[0]["since"]
    case.child.end()
    case.start()
    wait_until(lambda: locks(case), 20, "the alarm again")
    expect("since when", locks(case)[0]["since"], since)
    asked = case.redis.command("GET", LEASE)
    time.sleep(2)
    expect("not told again", (len(runs(case, "raised")), case.redis.command("GET", LEASE)),
           (before, asked))


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


def test_command_that_fails():
    """It is run again until it has succeeded once, over restarts too."""
    with case_of(prepare) as case:
        set_up(case)
        touch(case, "fails")
        lock(case, "a@example.com")
        wait_until(lambda: phase(case) == "failed", 30, "it has failed")
        expect("once", len(runs(case, "raised")), 1)
        case.wait_log("alarm-command: exit code 3")
        case.wait_log("alarm-command: to be run again in 60 s")
        left = case.redis.command("TTL", LEASE)
        expect_true(f"not before a minute has gone by: {left}", 50 <= left <= 60)
        wait_until(lambda: "sluice_alarm_command_failing 1" in ask(case, "/metrics"), 10,
                   "the metric")
        case.child.end()
        case.start()
        wait_until(lambda: locks(case), 20, "the alarm again")
        time.sleep(2)
        expect("a restart is no reason", len(runs(case, "raised")), 1)
        os.unlink(case.path("fails"))
        case.redis.command("DEL", LEASE)  # as if the minute had gone by
        wait_until(lambda: phase(case) == "told", 40, "it has succeeded")
        expect("run again", len(runs(case, "raised")), 2)
        for _ in range(2):
            case.child.end()
            case.start()
            wait_until(lambda: locks(case), 20, "the alarm again")
        time.sleep(2)
        expect("told once", len(runs(case, "raised")), 2)


def test_host_that_dies_with_its_command():
    with case_of(prepare) as case:
        set_up(case)
        touch(case, "hangs")
        lock(case, "a@example.com")
        wait_until(lambda: runs(case, "raised"), 30, "it runs")
        expect("it is running", phase(case), "run")
        kill_all(case.child)
        os.unlink(case.path("hangs"))
        case.start()
        wait_until(lambda: phase(case) == "told", 30, "run again, and told")
        expect("so often", len(runs(case, "raised")), 2)


def kill_all(child):
    """policyd and what it started, as when the power fails."""
    pids = [child.pid]
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                    pids += [int(child) for child in file.read().split()]
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    child.kill()


@contextlib.contextmanager
def second_host(case):
    """Another policyd, of mx2.example.com, over the same Redis."""
    directory = case.path("two")
    for name in (directory, os.path.join(directory, "state")):
        os.makedirs(name)
    shutil.chown(os.path.join(directory, "state"), USER, USER)
    with open(case.config_path, encoding="utf-8") as file:
        text = file.read()
    text = text.replace('hostname = "mx1.', 'hostname = "mx2.')
    http = case.ports.take()
    text = text.replace(f"127.0.0.1:{case.http}", f"127.0.0.1:{http}")
    for name in ("policy.sock", "map.sock", "state"):
        text = text.replace(f"{case.directory}/{name}", f"{directory}/{name}")
    path = os.path.join(directory, "sluice.conf")
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    child = Child("sluice-policyd", os.path.join(directory, "log"))
    child.start([case.program, "-c", path])
    try:
        wait_until(lambda: case.redis.command("HEXISTS", "sluice:hosts",
                                              "mx2.example.com"), 20, "a second host")
        yield child, http
    finally:
        child.end()


def lock_on_both(case):
    sluice(case, "lock", "--without-host", "mx1.example.com", "--without-host",
           "mx2.example.com", "a@example.com")


def test_two_hosts():
    """One of them tells; when it dies over that, the other does."""
    with case_of(prepare) as case:
        set_up(case)
        with second_host(case) as (other, http):
            lock_on_both(case)
            wait_until(lambda: phase(case) == "told", 40, "told")
            for port in (case.http, http):
                wait_until(lambda at=port: "past lock-deadline" in
                           ask(case, "/status.json", at), 20, "each host knows it")
            time.sleep(2)
            expect("once", len(runs(case, "raised")), 1)
            sluice(case, "unlock", "--force", "a@example.com")
            wait_until(lambda: runs(case, "over"), 30, "its end is told")
            for port in (case.http, http):
                wait_until(lambda at=port: "past lock-deadline" not in
                           ask(case, "/status.json", at), 20, "each host knows it")
            wait_until(lambda: not case.redis.command("EXISTS", LEASE), 30,
                       "nothing is left of it")
            expect("once", len(runs(case, "over")), 1)
            one_dies(case, other, http)


def one_dies(case, other, http):
    touch(case, "hangs")
    lock_on_both(case)
    wait_until(lambda: phase(case) == "run", 30, "it runs")
    for port in (case.http, http):
        wait_until(lambda at=port: "past lock-deadline" in
                   ask(case, "/status.json", at), 20, "each host knows it")
    first = case.redis.command("GET", LEASE).startswith("mx1.")
    kill_all(case.child if first else other)
    os.unlink(case.path("hangs"))
    expect_true("it has an end", 0 < case.redis.command("TTL", LEASE) <= 60)
    case.redis.command("PEXPIRE", LEASE, "1")  # as if that had come
    wait_until(lambda: phase(case) == "told", 40, "the other tells it")
    expect("by the other", case.redis.command("GET", LEASE).startswith(
        "mx2." if first else "mx1."), True)
    expect("so often", len(runs(case, "raised")), 3)
    if first:
        case.start()


def test_clock_of_redis_is_set_back():
    """The deadline is not late by that: policyd has a clock, too."""
    with case_of(prepare) as case:
        set_up(case)
        library = case.path("shift.so")
        run(["cc", "-shared", "-fPIC", "-o", library,
             os.path.join(os.path.dirname(os.path.abspath(__file__)), "clock_shift.c"),
             "-ldl"])
        case.redis.stop()
        ahead = {"LD_PRELOAD": library, "CLOCK_SHIFT": "3600"}
        before = dict(os.environ)
        os.environ.update(ahead)
        try:
            case.redis.start()
        finally:
            for name in ahead:
                del os.environ[name]
            os.environ.update(before)
        expect_true("it is ahead",
                    int(case.redis.command("TIME")[0]) > time.time() + 3500)
        wait_until(lambda: ask(case, "/healthz") == "ok\n", 20, "Redis is back")
        lock(case, "a@example.com")
        seen = time.time()
        wait_until(lambda: json.loads(ask(case, "/status.json"))["domains"][0]["lock"], 10,
                   "the lock is seen")
        case.redis.stop()
        case.redis.start()
        expect_true("it is not any more",
                    int(case.redis.command("TIME")[0]) < time.time() + 100)
        wait_until(lambda: locks(case), 30, "an alarm")
        expect_true("not before its time", time.time() - seen > DEADLINE_S - 1.5)
        expect_true(locks(case)[0]["text"], "1 mailbox is locked for " in
                    locks(case)[0]["text"] and " h" not in locks(case)[0]["text"][:50])
