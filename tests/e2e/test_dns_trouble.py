"""sluice dns and servers that fail, lie or stall; keys, clocks and Ctrl-C: each time
one clear line that names the server, and nothing done."""

import glob
import os
import pty
import select
import signal
import socket
import time

from dns_case import DOMAIN, RECORDS, dns_case
from dns_hostile import Twisting
from harness import expect, expect_true, wait_until
from parts.process import run

CHECK, SERVICE, AGAIN = 1, 69, 75
MX = (DOMAIN, "MX")
OLD_MX = [f"300 10 mx.old.{DOMAIN}."]
# Nothing that is not there yet, and so no negative caching to wait for.
MX_PLAN = """\
  record "MX" { name = "@" value = {"10 mx1.new.example.test."} ttl = 600 }
  record "MX" { name = "@" value = {"20 mx2.new.example.test."} ttl = 600 }
"""
FAST = [record.replace(" 300 ", " 2 ") for record in RECORDS]

# What is wrong with a server, and what sluice says of it.
MODES = [
    ("silent", "no answer in time: is it up"),
    ("refused", "REFUSED: it does not serve this name, or not to this host"),
    ("servfail", "SERVFAIL: it has no good data, look at its log"),
    ("truncated", "its answer is too long for UDP, and by TCP: "),
    ("drip", "by TCP: no answer in time"),
    ("wrong-id", "only packets with a wrong id"),
    ("wrong-question", "answered another question"),
    ("garbage", "no DNS message"),
    ("lame", "not authoritative for the zone (lame delegation): load the zone"),
    ("huge", "beyond what sluice handles"),
    ("cname-loop", "no SOA record of the zone"),
    ("empty", "no SOA record of the zone"),
]


def _one_line(what, result, code, *parts):
    expect(f"{what}: exit: {result.err}", result.code, code)
    lines = [line for line in result.err.splitlines() if line]
    expect(f"{what}: one line: {result.err}", len(lines), 1)
    for part in parts:
        expect_true(f"{what}: {part!r} in {result.err!r}", part in result.err)


def test_one_server_misbehaves():
    """It is named, nothing of what it says counts, the others are looked at."""
    with dns_case() as case:
        case.second.stop()
        case.configure(timeout=150)
        with Twisting(case.port, address="127.0.0.2", port=case.port) as dns:
            expect("as it should be", case.rules(case.check())["ns"], "pass")
            for mode, text in MODES:
                dns.mode = mode
                document = case.check()
                states = case.states(document)
                expect(f"{mode}: good one", states[(*MX, 0)], "wrong")
                expect(f"{mode}: bad one", states[(*MX, 1)], "no answer")
                answer = document["records"][0]["answers"][1]
                expect_true(f"{mode}: {text!r} in {answer}",
                            text in answer["error"])
                rule = next(row for row in document["rules"]
                            if row["rule"] == "ns")
                expect_true(f"{mode}: {rule}", rule["result"] == "fail"
                            and "127.0.0.2" in rule["text"])
            dns.mode = "servfail"
            result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
            expect(f"not done everywhere: {result.err}", result.code, AGAIN)
            expect_true(result.err, "127.0.0.2" in result.err
                        and "does not say whether it has it: it answered "
                        "SERVFAIL" in result.err)


def test_no_server_is_good():
    with dns_case() as case:
        case.second.stop()
        case.parent.zone("test", ["example NS ns2.example",
                                  "ns2.example A 127.0.0.2"])
        case.parent.reload()
        case.configure(timeout=150)
        with Twisting(case.port, address="127.0.0.2", port=case.port) as dns:
            for number, (mode, text) in enumerate(MODES):
                dns.mode = mode
                words = [["check"], ["apply", "--yes"], ["snapshot"],
                         ["diff"]][number % 4]
                result = case.sluice(words[0], DOMAIN, *words[1:])
                _one_line(f"{mode}, {words}", result, SERVICE, text,
                          "127.0.0.2", "no authoritative server")
            dns.mode = "silent"
            result = case.sluice("wait", DOMAIN, "--timeout", "1")
            expect(f"wait: {result.err}", result.code, 65)  # no snapshot
        expect("nothing applied", case.first.live(DOMAIN, "MX"), OLD_MX)
        expect("nothing kept", glob.glob(case.directory + "/state/dns/*/*"), [])


def test_the_parent_misbehaves():
    with dns_case() as case:
        with Twisting(case.parent.port) as dns:
            case.configure(timeout=150, parent=dns.server)
            expect("good", case.sluice("diff", DOMAIN).code, 0)
            for mode, text in MODES:
                if mode == "lame":  # a referral has no AA bit anyway
                    continue
                if mode in ("cname-loop", "empty"):
                    text = "delegates it to nobody"
                dns.mode = mode
                _one_line(mode, case.sluice("check", DOMAIN), SERVICE, text,
                          f"127.0.0.1#{dns.port}", "parent zone")


def test_delegated_to_names_without_addresses():
    with dns_case() as case:
        case.parent.zone("test", ["example NS gone.example",
                                  "example NS gone.other."])
        case.parent.reload()
        _one_line("none", case.sluice("check", DOMAIN), SERVICE, "gone.",
                  "no address", "registrar")
        case.parent.zone("test", ["example NS ns.example",
                                  "ns.example A 127.0.0.1",
                                  "example NS gone.other."])
        case.parent.reload()
        document = case.check()
        answer = document["records"][0]["answers"][1]
        expect("named", answer["server"], "gone.other")
        expect_true(f"why: {answer}", "no address" in answer["error"])
        expect("rule", case.rules(document)["ns"], "fail")


def test_from_the_resolver():
    """No parent in the configuration: the resolver names the parent zone."""
    with dns_case() as case:
        case.parent.stop()
        case.parent.also_listen = [f"127.0.0.3@{case.port}"]
        # In the place of a resolver: a server with all the zones.
        case.first.zone("test", ["@ NS ns", "example NS ns.example",
                                 "ns A 127.0.0.3"])
        case.parent.zone("test", ["@ NS ns", "ns A 127.0.0.3",
                                  "example NS ns.example",
                                  "example NS ns2.example",
                                  "ns.example A 127.0.0.1",
                                  "ns2.example A 127.0.0.2"])
        case.first.reload()
        case.parent.start()
        case.configure(parent="")
        document = case.check()
        expect("servers", [answer["server"].split()[0] for answer
                           in document["records"][0]["answers"][:2]],
               ["ns.example.test", "ns2.example.test"])
        with Twisting(case.port) as dns:
            case.configure(parent="", resolver=dns.server, timeout=150)
            expect("good", case.sluice("diff", DOMAIN).code, 0)
            for mode, text in MODES:
                if mode in ("lame", "cname-loop", "empty"):
                    text = "" if mode == "lame" else "name no zone"
                if not text:
                    continue
                dns.mode = mode
                where = f"127.0.0.1#{dns.port}" if "name no" not in text else ""
                _one_line(mode, case.sluice("check", DOMAIN), SERVICE, text,
                          where)
        result = case.sluice("check", DOMAIN)
        _one_line("it is gone", result, SERVICE, "Connection refused")


def test_updates_that_go_wrong():
    with dns_case() as case:
        def apply():
            return case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        key = f'key-file = "{case.key_file}"'
        with Twisting(case.port) as dns:
            case.configure(timeout=150, more=f'server = "{dns.server}" {key}')
            for mode, code, text in [
                    ("refused", CHECK, "REFUSED: this key (or address) may not"),
                    ("servfail", CHECK, "SERVFAIL"),
                    ("silent", AGAIN, "outcome unknown"),
                    ("drip", AGAIN, "outcome unknown"),
                    ("truncated", AGAIN, "outcome unknown"),
                    ("unsigned", AGAIN, "not signed with the key")]:
                dns.mode = mode
                _one_line(mode, apply(), code, text, f"127.0.0.1#{dns.port}")
                expect(f"{mode}: nothing changed",
                       case.first.live(DOMAIN, "MX"), OLD_MX)
            dns.mode = "garbage"
            _one_line("done, but not said", apply(), AGAIN, "outcome unknown")
            expect("MX", len(case.first.live(DOMAIN, "MX")), 2)
            _one_line("it is not known still", apply(), AGAIN, "outcome unknown")
            dns.mode = ""
            result = apply()
            _one_line("the other server lags", result, AGAIN, "nothing to change, but",
                      "127.0.0.2")
            dns.mode = "bad-mac"
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            _one_line("signed with something else", result, AGAIN,
                      "outcome unknown (the server says done, but its answer is not "
                      "signed with the key)")
            expect("done all the same", case.first.live(DOMAIN, "MX"), OLD_MX)
        case.configure(more=f'server = "127.0.0.1:{dns.port}" {key}')
        result = case.sluice("apply", DOMAIN, "--yes")
        _one_line("closed", result, SERVICE, "nothing was changed",
                  "Connection refused")


def test_a_clock_that_is_wrong():
    # 10 s are waited for: on a busy host each command takes its time.
    records = [record.replace(" 300 ", " 5 ") for record in RECORDS]
    with dns_case(records=records, plan=MX_PLAN) as case:
        case.alone()
        result = case.sluice("apply", DOMAIN, "--yes")
        expect(f"apply: {result.err}", result.code, 0)
        result = case.sluice("wait", DOMAIN, "--timeout", "1")
        expect(f"begun: {result.err}", result.code, AGAIN)
        expect_true(f"what is left: {result.err}", " left: run" in result.err)
        # Of the 10 s of the first wait hardly one has passed.
        result = case.sluice("wait", DOMAIN, "--timeout", "1", shift=86400)
        expect(f"forward: {result.err}", result.code, AGAIN)
        expect_true(result.err, "was set forward by" in result.err)
        began = time.monotonic()
        result = case.sluice("wait", DOMAIN, shift=-86400)
        expect(f"back: {result.err}", result.code, 0)
        expect_true(result.err, "was set back by" in result.err)
        expect_true("not anew", time.monotonic() - began < 10)
        result = case.sluice("apply", DOMAIN, "--back", "--yes", shift=3600)
        _one_line("BADTIME", result, CHECK, "BADTIME", "clocks of this host")
        expect("nothing changed", len(case.first.live(DOMAIN, "MX")), 2)


def _interrupt(process, moment, what):
    wait_until(moment, 20, what)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    return process.returncode, err


def test_interrupted():
    with dns_case(records=FAST, plan=MX_PLAN) as case:
        # While the second server lags.
        process = case.start("apply", DOMAIN, "--yes", "--timeout", "60")
        code, err = _interrupt(
            process, lambda: len(case.first.live(DOMAIN, "MX")) == 2,
            "the update is made")
        expect(f"apply: {err}", code, AGAIN)
        expect_true(err, "interrupted" in err and "run the same" in err)
        process = case.start("wait", DOMAIN)
        code, err = _interrupt(process, lambda: time.sleep(0.5) or True, "it waits")
        expect(f"wait for a server: {err}", code, AGAIN)
        case.follow([r for r in FAST if " MX " not in r]
                    + ["@ 600 MX 10 mx1.new", "@ 600 MX 20 mx2.new"])
        result = case.sluice("apply", DOMAIN, "--yes")
        expect(f"apply again: {result.err}", result.code, 0)
        kept = f"{case.directory}/state/dns/{DOMAIN}/agreed"
        process = case.start("wait", DOMAIN)
        code, err = _interrupt(process, lambda: os.path.exists(kept),
                               "the countdown runs")
        expect(f"wait: {err}", code, AGAIN)
        expect_true(err, "it goes on from here" in err)
        result = case.sluice("wait", DOMAIN)
        expect(f"wait again: {result.err}", result.code, 0)


def test_interrupted_while_the_server_is_silent():
    with dns_case() as case, \
            socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        port = listener.getsockname()[1]
        case.configure(timeout=30000, more=f'server = "127.0.0.1:{port}" '
                       f'key-file = "{case.key_file}"')
        process = case.start("apply", DOMAIN, "--yes")
        connection, _ = listener.accept()
        code, err = _interrupt(process, lambda: connection.recv(2) != b"",
                               "the update comes")
        connection.close()
        expect(f"exit: {err}", code, AGAIN)
        expect_true(err, "outcome unknown (interrupted)" in err)


# Between the question and the wait for its answer: a while, in which Ctrl-C comes.
SLOW_FLUSH = """\
#include <stdio.h>
#include <time.h>
int fflush(FILE *file)
{
    struct timespec left = { .tv_sec = 1 };
    while (nanosleep(&left, &left) != 0)
        ;
    return file ? 0 : -1;
}
"""


def _slow_flush(directory):
    source, library = f"{directory}/flush.c", f"{directory}/flush.so"
    with open(source, "w", encoding="utf-8") as file:
        file.write(SLOW_FLUSH)
    run(["cc", "-shared", "-fPIC", "-o", library, source])
    return library


def test_interrupted_at_the_question():
    with dns_case() as case:
        for what, more in [("asked", {}), ("just before", {
                "LD_PRELOAD": _slow_flush(case.directory),
                "ASAN_OPTIONS": "verify_asan_link_order=0"})]:
            code, shown = _interrupt_question(case.argv("apply", DOMAIN), more)
            expect(f"{what}: exit: {shown}", code, AGAIN)
            expect_true(f"{what}: {shown}", b"nothing was changed" in shown)
        expect("nothing kept", glob.glob(case.directory + "/state/dns/*/*"), [])


def _interrupt_question(argv, env):
    """Its exit code and what it has shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(argv[0], argv, {**os.environ, **env})
    shown, asked, ended, end = b"", False, False, time.monotonic() + 60
    # To its end before waitpid(): closing a terminal waits for the reader.
    while not ended and select.select(
            [terminal], [], [], max(0, end - time.monotonic()))[0]:
        try:
            read = os.read(terminal, 4096)
        except OSError:
            read = b""
        shown, ended = shown + read, not read
        if b"[y/N]" in shown and not asked:
            asked = os.write(terminal, b"\x03") > 0
    if not ended:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    expect_true(f"it ends: {shown}", ended)
    return os.waitstatus_to_exitcode(status), shown
