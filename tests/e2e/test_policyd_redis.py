"""sluice-policyd when Redis is away, slow, empty or not what it was."""

import os
import shutil
import signal
import time

from harness import expect, expect_true, wait_until
from policyd_case import (HERE_ANSWER, LATER, USER, netstring, policyd_case,
                          read_netstring)

KEY = "here@example.com"


def timed_ask(case, key=KEY):
    began = time.monotonic()
    reply = case.ask("transport", key)
    return reply, time.monotonic() - began


def test_redis_hangs():
    """One time limit, then TEMP at once; back by itself."""
    with policyd_case() as case:
        case.redis.pause()
        reply, seconds = timed_ask(case)
        expect("the first", reply, LATER)
        expect_true(f"within the time limit and a margin: {seconds}",
                    seconds < 2)
        began = time.monotonic()
        for _ in range(50):
            expect("while it hangs", case.ask("transport", KEY), LATER)
            expect("unmanaged", case.ask("transport", "x@other.example"),
                   "NOTFOUND ")
        seconds = time.monotonic() - began
        expect_true(f"the others do not wait each for itself: {seconds}",
                    seconds < 5)
        expect("virtual", case.ask("virtual", "away@example.com"),
               "NOTFOUND ")
        expect("policy", case.policy(KEY),
               "action=DEFER_IF_PERMIT 4.3.0 try again later\n")
        case.redis.resume()
        case.wait_answers(HERE_ANSWER)


def test_unmanaged_mail_while_lookups_wait():
    """A lookup that waits for Redis delays no other connection."""
    def prepare(case):
        case.timeout = 5000
    with policyd_case(prepare) as case:
        case.redis.pause()
        with case.connect("map.sock") as waiting:
            waiting.sendall(netstring(f"transport {KEY}"))
            began = time.monotonic()
            for _ in range(100):
                expect("unmanaged", case.ask("transport", "x@other.example"),
                       "NOTFOUND ")
            seconds = time.monotonic() - began
            expect_true(f"100 of them took {seconds}", seconds < 4)
            case.redis.resume()
            with waiting.makefile("rb") as stream:
                expect("the one that waited", read_netstring(stream),
                       HERE_ANSWER)


def test_redis_is_killed_and_comes_back():
    with policyd_case() as case:
        for _ in range(3):
            case.redis.kill()
            case.wait_answers(LATER)
            expect("locked", case.ask("transport", "locked@example.com"),
                   LATER)
            case.redis.start()
            case.wait_answers(HERE_ANSWER)
            expect("locked", case.ask("transport", "locked@example.com"),
                   "OK sluice-hold:")


def test_redis_is_away_at_the_start():
    with policyd_case(started=False) as case:
        case.start()
        case.init()
        case.wait_answers()
        case.child.end()
        case.redis.kill()
        case.start()
        expect("managed", case.ask("transport", KEY), LATER)
        expect("unmanaged", case.ask("transport", "x@other.example"),
               "NOTFOUND ")
        case.redis.start()
        case.wait_answers()


def test_restart_is_not_noticed():
    """Who connects first is not told "try later": smtpd would remember it."""
    with policyd_case() as case:
        for _ in range(5):
            case.child.end()
            case.start()
            expect("the first answer", case.ask("transport", KEY), HERE_ANSWER)


def test_redis_closes_the_connection():
    """An idle limit of Redis' own costs one answer at most."""
    with policyd_case() as case:
        for _ in range(5):
            case.redis.command("CLIENT", "KILL", "TYPE", "normal",
                               "SKIPME", "yes")
            case.wait_answers(timeout=1)
        expect("circuits opened by a time limit",
               case.log().count("no answer within"), 0)


def test_redis_is_emptied():
    """Unknown is not "unlocked": an empty Redis never answers "not found"."""
    with policyd_case() as case:
        case.redis.command("FLUSHALL")
        for key in (KEY, "locked@example.com", "unlisted@example.com"):
            expect(key, case.ask("transport", key), LATER)
        case.wait_log("alarm: redis-down: ", timeout=30)
        expect("one alarm", case.log().count("alarm: "), 1)


def test_domain_that_was_never_registered():
    with policyd_case() as case:
        case.redis.command("DEL", "sluice:home:example.com")
        expect("managed", case.ask("transport", KEY), LATER)


def journal_head(case):
    """(epoch, id) of the last line of the journal; (0, "") for none."""
    try:
        with open(case.path("state/journal"), encoding="utf-8") as journal:
            last = journal.read().splitlines()[-1].split()
    except (FileNotFoundError, IndexError):
        return 0, ""
    return int(last[1], 16), last[2]


def test_redis_rolled_back():
    """Its epoch is below the journal's, or its id there is another."""
    with policyd_case() as case:
        # The keeper takes no base from a store with a damaged record.
        case.redis.command("HDEL", "sluice:home:example.com", "damaged")
        wait_until(lambda: journal_head(case)[0] > 0, 20, "a journal")
        wait_until(
            lambda: int(case.redis.command("HGET", "sluice:chain", "epoch"))
            == journal_head(case)[0], 20, "the journal has every event")
        epoch, id = journal_head(case)
        case.redis.command("HSET", "sluice:chain", "epoch", str(epoch - 1))
        expect("an older epoch", case.ask("transport", KEY), LATER)
        case.redis.command("HSET", "sluice:chain", "epoch", str(epoch))
        expect("the same again", case.ask("transport", KEY), HERE_ANSWER)
        case.redis.command("HSET", "sluice:chain", "epoch", str(epoch + 7))
        case.redis.command("HSET", "sluice:chain", str(epoch),
                           "0123456789abcdef")
        expect("another history", case.ask("transport", KEY), LATER)
        case.redis.command("HSET", "sluice:chain", str(epoch), id)
        case.redis.command("HSET", "sluice:chain", "epoch", str(epoch))
        expect("the right one", case.ask("transport", KEY), HERE_ANSWER)


def test_redis_answers_errors():
    with policyd_case() as case:
        case.redis.command("RENAME", "sluice:home:example.com", "aside")
        case.redis.command("SET", "sluice:home:example.com", "a string")
        expect("a key of another type", case.ask("transport", KEY), LATER)
        case.redis.command("DEL", "sluice:home:example.com")
        case.redis.command("RENAME", "aside", "sluice:home:example.com")
        expect("again a hash", case.ask("transport", KEY), HERE_ANSWER)
        case.redis.command("ACL", "SETUSER", "default", "-hmget")
        expect("a command that it may not use", case.ask("transport", KEY),
               LATER)
        case.wait_log("NOPERM")
        case.redis.command("ACL", "SETUSER", "default", "+hmget")
        case.wait_answers()


def with_password(case, password):
    """Redis knows a user sluice; policyd has this password for it."""
    path = case.path("password")
    with open(path, "w", encoding="utf-8") as file:
        file.write(password + "\n")
    os.chmod(path, 0o600)
    shutil.chown(path, USER)
    case.redis.command("ACL", "SETUSER", "sluice", "on", ">secret", "~*",
                       "+@all")
    case.extra = f'redis-user = "sluice"\nredis-password-file = "{path}"'


def test_password():
    with policyd_case(lambda case: with_password(case, "secret")) as case:
        expect("locked", case.ask("transport", "locked@example.com"),
               "OK sluice-hold:")


def test_wrong_password():
    with policyd_case(started=False) as case:
        with_password(case, "wrong")
        case.start()
        case.wait_log("WRONGPASS")
        expect("managed", case.ask("transport", KEY), LATER)
        with_password(case, "secret")
        case.child.send(signal.SIGHUP)
        case.wait_log("lookups are answered")


def test_tcp_by_name():
    """A host name with two addresses, Redis on one of them."""
    def prepare(case):
        case.redis_url = f"tcp:localhost:{case.redis.port}"
    with policyd_case(prepare) as case:
        expect("locked", case.ask("transport", "locked@example.com"),
               "OK sluice-hold:")


def test_host_name_that_does_not_resolve():
    def prepare(case):
        case.redis_url = "tcp:redis.invalid:6379"
    with policyd_case(prepare, started=False) as case:
        case.start()
        expect("managed", case.ask("transport", KEY), LATER)
        expect("unmanaged", case.ask("transport", "x@other.example"),
               "NOTFOUND ")
