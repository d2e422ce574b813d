"""lock, flip, unlock, rollback with hosts that are played: fences, refusals,
outages, interruption."""

import os
import signal
import subprocess
import time

from cli_case import cli_case, wait_for
from harness import expect, expect_true

USAGE, DATA, SERVICE, AGAIN, CONFIGURATION = 64, 65, 69, 75, 78
A, B, C = "a@example.com", "b@example.com", "c@example.com"


def test_the_whole_way():
    with cli_case() as case:
        case.both_hosts()
        case.add(A, B)
        #       command            exit  homes of "", a, b afterwards
        steps = [
            (["lock", A], 0, "olo"),
            (["lock", A], 0, "olo"),
            (["flip", A], 0, "ono"),
            (["flip", A], 0, "ono"),
            (["lock", "example.com"], 1, "lnl"),
            (["unlock", "example.com"], 1, "ono"),
            (["lock", B], 0, "onl"),
            (["unlock", B], 0, "ono"),
            (["unlock", B], 0, "ono"),
            (["rollback", A], AGAIN, "oro"),
            (["rollback", A], AGAIN, "oro"),
            (["flip", A], 0, "ono"),
            (["rollback", A, "--keep-locked"], 0, "oro"),
            (["rollback", A, "--keep-locked"], 0, "oro"),
            (["flip", A], 0, "ono"),
            (["lock", B], 0, "onl"),
            (["rollback", A, "--no-sync", "--keep-locked"], 64, "onl"),
            (["rollback", "example.com", "--keep-locked"], 0, "orl"),
            (["flip", A], 0, "onl"),
            (["unlock", B], 0, "ono"),
            (["rollback", A, "--no-sync"], 0, "ooo"),
            (["rollback", A, "--no-sync"], 0, "ooo"),
            (["lock", "example.com"], 0, "lll"),
            (["flip", "example.com"], 0, "nnn"),
            (["rollback", "example.com", "--no-sync"], 0, "ooo"),
        ]
        for words, code, homes in steps:
            result = case.sluice(*words)
            found = case.homes()
            expect(f"{words}: {result.out} {result.err}",
                   (result.code, "".join(found[name] for name in
                                         ("", "a", "b"))), (code, homes))


def test_refusals_by_name():
    with cli_case() as case:
        case.both_hosts()
        case.add(A, B)
        case.sluice("lock", A)
        case.sluice("flip", A)
        cases = [
            (["lock", A], 1, f"{A} is at home new: lock moves only mailboxes "
                             "at home old"),
            (["flip", B], 1, f"{B} is at home old: flip moves only locked"),
            (["unlock", A], 1, f"{A} is at home new: unlock moves only"),
            (["lock", C], 1, f"{C} is not a listed mailbox"),
            (["lock", "x@nowhere.net"], DATA, 'add  domain "nowhere.net"'),
            (["lock", "bad address"], DATA, "neither an address nor"),
            (["lock", "@/no/file"], DATA, "No such file"),
        ]
        for words, code, text in cases:
            result = case.sluice(*words)
            expect(f"exit of {words}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
            dry = case.sluice("--dry-run", *words)
            expect(f"dry run of {words}", (dry.code, text in dry.err),
                   (code, True))
        result = case.sluice("--json", "lock", A, B)
        expect("one refused, the other locked", result.code, 1)
        expect("counts", (result.json["changed"], result.json["refused"],
                          result.json["refusals"][0]["address"]), (1, 1, A))
        expect("homes", case.homes(), {"": "o", "a": "n", "b": "l"})


def test_dry_run_changes_nothing():
    with cli_case() as case:
        case.both_hosts()
        case.add(A, B)
        before = case.redis.command("HGET", "sluice:chain", "epoch")
        for target in (A, "example.com"):
            result = case.sluice("--dry-run", "lock", target)
            expect("exit", result.code, 0)
            expect_true(result.out, "would be locked" in result.out)
        expect("no event", int(case.redis.command(
            "HGET", "sluice:chain", "epoch")) >= int(before), True)
        expect("homes", case.homes(), {"": "o", "a": "o", "b": "o"})


def test_lock_without_a_host_is_refused():
    with cli_case() as case:
        case.add(A)
        result = case.sluice("lock", A)
        expect("exit", result.code, SERVICE)
        expect("homes", case.homes(), {"": "o", "a": "o"})
        case.host("mx2.example.com", "new")
        result = case.sluice("lock", A)
        expect("only the new side", result.code, SERVICE)
        expect_true(result.err, "old side" in result.err)


def test_lock_waits_for_every_host():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A)
        other.confirms = False
        result = case.sluice("lock", A, "--timeout", "1s")
        expect("exit", result.code, AGAIN)
        expect_true(f"names the host and its state: {result.err}",
                    "mx2.example.com (drains 3 messages)" in result.err
                    and "mx1.example.com" not in result.err)
        expect("stays locked", case.homes()["a"], "l")
        flip = case.sluice("flip", A)
        expect("flip is refused", (flip.code, case.homes()["a"]),
               (AGAIN, "l"))
        expect_true(flip.err, "mx2.example.com (drains 3" in flip.err)
        result = case.sluice("lock", A, "--without-host", "MX2.example.com")
        expect(f"without it: {result.err}", result.code, 0)
        expect("and so can the flip", case.sluice(
            "flip", A, "--without-host", "mx2.example.com").code, 0)


def test_a_silent_host_fails_the_lock_at_once():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A)
        other.confirms = False
        other.silence()
        began = time.monotonic()
        result = case.sluice("lock", A)
        expect("exit", result.code, AGAIN)
        expect_true("at once", time.monotonic() - began < 5)
        expect_true(result.err, "no sign of life from mx2.example.com" in
                    result.err and "--without-host" in result.err)
        expect("stays locked", case.homes()["a"], "l")
        result = case.sluice("lock", A, "--without-host", "mx3.example.com")
        expect("a name that is not there", result.code, DATA)
        expect_true(result.err, "mx1.example.com, mx2.example.com" in
                    result.err)


def test_a_repeated_lock_goes_on_waiting():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A)
        other.confirms = False
        expect("first", case.sluice("lock", A, "--timeout", "1s").code, AGAIN)
        process = subprocess.Popen(case.argv("lock", A),
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        expect("waits", process.poll(), None)
        other.confirms = True
        out, err = process.communicate(timeout=20)
        expect(f"then ends: {err}", process.returncode, 0)
        expect_true(out, "1 was before" in out and "confirmed" in out)


def test_force_forces_only_what_is_not_confirmed():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A, B, C)
        expect("lock", case.sluice("lock", A).code, 0)
        other.confirms = False
        expect("lock", case.sluice("lock", B, "--timeout", "1s").code, AGAIN)
        result = case.sluice("--json", "flip", "--force", A, B, C)
        expect("c is refused", result.code, 1)
        expect("counts", (result.json["changed"], result.json["already"],
                          result.json["refused"]), (2, 0, 1))
        expect_true(f"says the risk: {result.err}", "--force: the lock of 1 "
                    "mailbox is not complete on mx2.example.com" in
                    result.err)
        expect("homes", case.homes(),
               {"": "o", "a": "n", "b": "n", "c": "o"})


def test_ctrl_c_while_waiting():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A)
        other.confirms = False
        process = subprocess.Popen(case.argv("--json", "lock", A),
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        wait_for(lambda: case.homes()["a"] == "l", "the mailbox is locked")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
        expect("exit", process.returncode, AGAIN)
        expect_true(err, "run the same command again" in err)
        expect_true("a document", '"complete": false' in out)


def test_redis_restarts_while_a_lock_waits():
    with cli_case() as case:
        host, other = case.both_hosts()
        case.add(A)
        other.confirms = False
        process = subprocess.Popen(case.argv("lock", A),
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        wait_for(lambda: case.homes()["a"] == "l", "the mailbox is locked")
        time.sleep(1.2)  # appendfsync everysec
        case.redis.stop()
        time.sleep(1)
        expect("waits", process.poll(), None)
        case.redis.start()
        other.confirms = True
        out, err = process.communicate(timeout=30)
        expect(f"goes on: {err}", process.returncode, 0)


def test_killed_in_the_middle_and_repeated():
    with cli_case() as case:
        case.both_hosts()
        case.add(*[f"u{n}@example.com" for n in range(30000)])
        targets = case.file("targets", "".join(
            f"u{n}@example.com\n" for n in range(30000)))
        for words in (["lock", "example.com"], ["unlock", f"@{targets}"]):
            process = subprocess.Popen(case.argv(*words),
                                       stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            epoch = int(case.redis.command("HGET", "sluice:chain", "epoch"))
            wait_for(lambda: int(case.redis.command(
                "HGET", "sluice:chain", "epoch")) > epoch, "it has begun")
            process.kill()
            process.wait()
            expect(f"{words} again", case.sluice(*words).code, 0)
            wanted = "l" if words[0] == "lock" else "o"
            homes = case.homes()
            wrong = [name for name, letter in homes.items()
                     if letter != wanted and name]
            expect(f"after {words}", wrong, [])
            totals = case.redis.command("HGET", "sluice:totals:example.com",
                                        wanted)
            expect("totals", totals, "30000")


def test_targets_from_a_file():
    with cli_case() as case:
        case.both_hosts()
        case.add(A, B, "c@example.org")
        path = case.file("list", f"# first wave\n{A}\n\nC@Example.ORG # c\n")
        expect("exit", case.sluice("lock", f"@{path}").code, 0)
        expect("homes", (case.homes()["a"], case.homes()["b"],
                         case.homes("example.org")["c"]), ("l", "o", "l"))
        path = case.file("list", f"{A}\n\nx@y.net\nnot an address\n")
        result = case.sluice("flip", f"@{path}")
        expect("exit", result.code, DATA)
        for text in (f"{path}:3: y.net is not a domain", f"{path}:4: "):
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
        expect("nothing flipped", case.homes()["a"], "l")


def _arrive(case, local, queue_id, when):
    case.redis.command(
        "XADD", "sluice:arrivals:example.com", "*", "local", local, "host",
        "mx2.example.com", "queue_id", queue_id, "message_id",
        f"<{queue_id}@senders.test>", "time", when)


def test_rollback_lists_what_arrived_since_the_flip():
    with cli_case() as case:
        case.both_hosts()
        case.add(A, B)
        case.sluice("lock", A, B)
        case.sluice("flip", A, B)
        now = int(time.time())
        _arrive(case, "a", "before", now - 3600)
        _arrive(case, "a", "during", now + 1)
        _arrive(case, "b", "other", now + 1)
        document = case.sluice("--json", "rollback", A).json
        expect("arrivals", [one["queue_id"] for one in document["arrivals"]],
               ["during"])
        text = case.sluice("rollback", "--dry-run", B).out
        expect_true(text, "other" in text and "during" not in text)


SYNC = """
sync {{
  reverse-command = {{"{directory}/back", "with argument"}}
  jobs = 2
  timeout = 2s
}}
"""
SCRIPT = """#!/bin/sh
echo "$SLUICE_MAILBOX $SLUICE_DOMAIN $SLUICE_NEW_ADDRESS $1" >>{directory}/ran
case $SLUICE_MAILBOX in
b@*) test -e {directory}/fixed || exit 3 ;;
c@*) test -e {directory}/fixed || sleep 100 ;;
esac
"""


def test_rollback_with_a_copy_that_fails():
    with cli_case(sync=SYNC) as case:
        path = case.file("back", SCRIPT.format(directory=case.directory))
        case.both_hosts()
        case.sluice("import", case.csv(
            "address,new_address", f"{A},", f"{B},",
            f"{C},c2@tenant.example.net"))
        case.sluice("lock", "example.com")
        case.sluice("flip", "example.com")
        result = case.sluice("rollback", "example.com")
        expect("not executable", result.code, CONFIGURATION)
        expect_true(result.err, "back" in result.err)
        expect("all wait", set(case.homes().values()), {"r"})
        os.chmod(path, 0o755)
        result = case.sluice("--json", "rollback", "example.com")
        expect(f"two fail: {result.err}", result.code, AGAIN)
        expect("by name", sorted(one["address"] for one in
                                 result.json["failures"]), [B, C])
        expect("homes", case.homes(), {"": "r", "a": "o", "b": "r", "c": "r"})
        with open(os.path.join(case.directory, "ran"), encoding="utf-8") as f:
            expect("environment and argument", sorted(f.read().split("\n"))[1:],
                   [f"{A} example.com {A} with argument",
                    f"{B} example.com {B} with argument",
                    f"{C} example.com c2@tenant.example.net with argument"])
        case.file("fixed", "")
        result = case.sluice("rollback", "example.com")
        expect(f"again: {result.err}", result.code, 0)
        expect("homes", set(case.homes().values()), {"o"})


def test_rollback_interrupted_in_the_copy():
    with cli_case(sync=SYNC.replace("timeout = 2s", "timeout = 1m")) as case:
        path = case.file("back", SCRIPT.format(directory=case.directory))
        os.chmod(path, 0o755)
        case.both_hosts()
        case.add(A, C)
        case.sluice("lock", A, C)
        case.sluice("flip", A, C)
        process = subprocess.Popen(case.argv("rollback", A, C),
                                   stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        ran = os.path.join(case.directory, "ran")
        wait_for(lambda: os.path.exists(ran) and C in open(ran).read(),
                 "the copy that hangs has begun")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        expect(f"exit: {err}", process.returncode, AGAIN)
        expect("homes", (case.homes()["a"], case.homes()["c"]), ("o", "r"))
        case.file("fixed", "")
        expect("again", case.sluice("rollback", A, C).code, 0)
        expect("homes", (case.homes()["a"], case.homes()["c"]), ("o", "o"))
