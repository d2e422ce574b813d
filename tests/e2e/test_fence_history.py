"""The keeper and the history: a Redis that forgot, a journal that is gone, an
MTA that is down."""

import os

from fence_case import (A, B, boxes, fence_lab, home, host_state, lock, queued,
                        send, settle, wait_delivered, wait_state)
from harness import expect, expect_true, wait_until

LOST = "release: Redis has lost"
ALARM = "alarm: redis-down: "


def _journal(lab):
    """b"" while there is none."""
    try:
        with open(os.path.join(lab.old.sluice.state, "journal"), "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def _recover(lab):
    code, out, err = lab.old.sluice.cli("recover")
    expect(f"recover: {out}{err}", code, 0)


def test_redis_rolled_back():
    """Redis comes back without the lock: nothing is released or delivered on
    its word, an alarm names the way out, and that way works."""
    with fence_lab() as lab:
        settle(1.5)  # appendfsync everysec
        before = lab.redis.snapshot()
        lock(lab, A)
        send(lab, ["m1"], [A])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.redis.restore(before)
        expect("Redis has forgotten", home(lab, "a"), "o")
        policyd = lab.old.sluice.policyd
        wait_until(lambda: LOST in policyd.log() and ALARM in policyd.log(), 30,
                   "an alarm")
        said = next(line for line in policyd.log().splitlines() if ALARM in line)
        expect_true(f"it names the way out: {said}", "sluice recover" in said)
        settle(4)
        expect("on hold", len(queued(lab, "hold")), 1)
        expect("delivered", boxes(lab, A), [])
        expect("one alarm", policyd.log().count("alarm: "), 1)
        expect("the keeper says it once a minute", policyd.log().count(LOST), 1)
        _recover(lab)
        expect("locked again", home(lab, "a"), "l")
        wait_until(lambda: "keeper: goes on" in policyd.log().split(LOST)[-1],
                   30, "it goes on by itself")
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["m1"])


def test_redis_emptied():
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["m1"], [A])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.redis.command("FLUSHALL")
        policyd = lab.old.sluice.policyd
        wait_until(lambda: ALARM in policyd.log(), 30, "an alarm")
        settle(3)
        expect("on hold", len(queued(lab, "hold")), 1)
        _recover(lab)
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["m1"])


def test_journal_lost():
    """A host without journal takes a base and fences what it finds locked."""
    with fence_lab() as lab:
        lock(lab, A)
        policyd = lab.old.sluice.policyd
        policyd.stop()
        os.unlink(os.path.join(lab.old.sluice.state, "journal"))
        policyd.start()
        wait_until(lambda: " base " in _journal(lab).decode(), 30, "a new base")
        expect_true("with the hosts", lab.new.sluice.hostname in
                    _journal(lab).decode())
        lock(lab, A, B)
        send(lab, ["m1"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.old.sluice.cli("unlock", A, B, check=True)
        wait_delivered(lab, A, ["m1"])


def test_journal_cannot_be_written():
    """No lock is confirmed that is not on the disk."""
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        policyd.stop()
        os.chown(os.path.join(lab.old.sluice.state, "journal"), 0, 0)
        os.chmod(os.path.join(lab.old.sluice.state, "journal"), 0o600)
        policyd.start()
        wait_until(lambda: "journal: cannot open" in policyd.log(), 30,
                   "it says so")
        code, out, err = lab.old.sluice.cli("lock", "--timeout", "8s", A)
        expect(f"lock: {out}{err}", code, 75)
        expect_true("names the host", lab.old.sluice.hostname in out + err)


def test_postfix_is_down():
    """What does not run delivers nothing; when it comes back, it holds."""
    with fence_lab() as lab:
        lab.old.dovecot.stop()
        send(lab, ["m1"], [A])
        lab.old.postfix.wait_log("status=deferred")
        lab.old.postfix.stop()
        lock(lab, A)
        lab.old.dovecot.start()
        lab.old.postfix.start()
        lab.old.postfix.flush()
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        expect("delivered", boxes(lab, A), [])
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["m1"])


def test_host_that_comes_late():
    """A lock is not confirmed for a host whose policyd was down meanwhile."""
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        policyd.stop()
        code, out, err = lab.old.sluice.cli("lock", "--timeout", "5s", A)
        expect(f"lock: {out}{err}", code, 75)
        expect_true("names the host", lab.old.sluice.hostname in out + err)
        policyd.start()
        lock(lab, A)
        expect_true("nothing to say", host_state(lab).endswith("state="))
        wait_state(lab, "side=old")
