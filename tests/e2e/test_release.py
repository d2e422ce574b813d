"""Release: nothing that sluice holds stays, nothing that waits expires, and
what others hold is left alone."""

import re
import time

from fence_case import (A, B, Command, Flow, SENDER, boxes, fence_lab, lock,
                        queued, send, settle, wait_delivered)
from harness import expect, expect_true, message, wait_until

LIFETIME_S = 24


def _held(lab):
    return lab.redis.command("HKEYS", f"sluice:held:{lab.old.sluice.hostname}")


def _wait_no_trace(lab, timeout=90):
    """No queue file of ours and no record is left."""
    wait_until(lambda: not queued(lab, "hold") and not queued(lab, "deferred"),
               timeout, "hold and deferred are empty", interval=0.2)
    wait_until(lambda: not _held(lab), 30, "no record is left", interval=0.2)


def _short_lives(lab):
    for side in (lab.old, lab.new):
        side.postfix.postconf(maximal_queue_lifetime=f"{LIFETIME_S}s",
                              bounce_queue_lifetime=f"{LIFETIME_S}s")


def _expect_no_bounce(lab):
    log = lab.old.postfix.log()
    expect("expired or bounced", re.findall(
        r".*(?:status=(?:expired|bounced)|sender non-delivery|"
        r"returned to sender).*", log), [])


def test_held_mail_is_released():
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["h1"], [A])
        send(lab, ["h2"], ["A+tag@Example.COM"], sender="")
        send(lab, ["h3"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 3, 60, "all on hold")
        expect("records", len(_held(lab)), 3)
        expect("the other mailbox did not wait", boxes(lab, B), ["h3"])
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["h1", "h2", "h3"])
        _wait_no_trace(lab)
        expect("the other mailbox", boxes(lab, B), ["h3"])


def test_flip_forwards_what_was_held():
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["f1"], [A])
        send(lab, ["f2"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "both on hold")
        lab.old.sluice.cli("flip", A, check=True)
        wait_until(lambda: sorted(one.id for one in lab.read_new([A])[A]) ==
                   ["f1", "f2"], 90, "both are in the new mailbox")
        _wait_no_trace(lab)
        expect("old mailbox", boxes(lab, A), [])


def test_partly_locked():
    """A message for two locked mailboxes goes as soon as one is free."""
    with fence_lab() as lab:
        lock(lab, A, B)
        send(lab, ["p1"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["p1"])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60,
                   "on hold again for the other")
        expect("the other", boxes(lab, B), [])
        expect("records", _held(lab), queued(lab, "hold"))
        lab.old.sluice.cli("unlock", B, check=True)
        wait_delivered(lab, B, ["p1"])
        expect("once", boxes(lab, A), ["p1"])


def test_somebody_elses_mail_on_hold():
    def prepare(lab):
        lab.old.postfix.postconf(smtpd_sender_restrictions=(
            "check_sender_access inline:{admin@senders.test=HOLD}"))

    with fence_lab(prepare=prepare) as lab:
        send(lab, ["e1"], [A], sender="admin@senders.test")
        foreign = queued(lab, "hold")
        expect("on hold by an access map", len(foreign), 1)
        lock(lab, A)
        send(lab, ["o1"], [A])
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "ours too")
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["o1"])
        lock(lab, A)
        lab.old.sluice.cli("flip", A, check=True)
        settle(12)
        expect("it is where it was", queued(lab, "hold"), foreign)


def _redirecting(lab):
    new = lab.new.postfix.port
    lab.old.sluice.domains["example.com"] = lab.domain_section(
        lab.old, '  redirect-domains = {"tenant.test"}\n')
    lab.new.postfix.postconf(virtual_mailbox_domains=(
        "example.com, senders.test, tenant.test"))
    lab.new.dovecot.add_users(["moved@tenant.test"])
    lab.new.postfix.add_mailboxes(["moved@tenant.test"])
    # No DNS here: what is for tenant.test goes to the new server.
    lab.old.postfix.postconf(smtp_fallback_relay=f"[127.0.0.1]:{new}")


def test_redirect_while_on_hold():
    """It must end at the new address, not in the old mailbox."""
    with fence_lab(prepare=_redirecting) as lab:
        lock(lab, A)
        send(lab, ["t1"], [A])
        send(lab, ["t2"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "both on hold")
        path = f"{lab.directory}/redirect.csv"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"address,new_address\n{A},moved@tenant.test\n")
        lab.old.sluice.cli("import", path, check=True)
        lab.old.sluice.cli("flip", A, check=True)

        def arrived():
            return sorted(one.id for one in
                          lab.read_new(["moved@tenant.test"])["moved@tenant.test"])
        wait_until(lambda: len(arrived()) >= 2, 90, "both at the new address")
        expect("at the new address", arrived(), ["t1", "t2"])
        _wait_no_trace(lab)
        expect("old mailbox", boxes(lab, A), [])


def test_nothing_expires_during_a_lock():
    with fence_lab(prepare=_short_lives) as lab:
        lock(lab, A)
        send(lab, ["l1"], [A])
        send(lab, ["l2"], [A, B])
        send(lab, ["l3"], [A, B], sender="")
        settle(LIFETIME_S * 2)
        _expect_no_bounce(lab)
        expect("on hold", len(queued(lab, "hold")), 3)
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["l1", "l2", "l3"])
        _expect_no_bounce(lab)


def test_nothing_expires_while_the_new_server_is_down():
    with fence_lab(prepare=_short_lives) as lab:
        lock(lab, A)
        send(lab, ["d1"], [A])
        send(lab, ["d2"], [A, B], sender="")
        lab.new.postfix.stop()
        lab.old.sluice.cli("flip", A, check=True)
        send(lab, ["d3"], [A], sender="")
        settle(LIFETIME_S * 2.5)
        _expect_no_bounce(lab)
        expect_true("an alarm", "alarm: " in lab.old.sluice.policyd.log())
        lab.new.postfix.start()
        wait_until(lambda: sorted(one.id for one in lab.read_new([A])[A]) ==
                   ["d1", "d2", "d3"], 90, "all are in the new mailbox")
        _expect_no_bounce(lab)


def test_new_server_refuses_what_is_forwarded():
    """A 5xx for a forwarded message does not bounce it, nor does a redirect to
    a domain that cannot be found (the lab has no DNS)."""
    def prepare(lab):
        lab.old.sluice.domains["example.com"] = lab.domain_section(
            lab.old, '  redirect-domains = {"tenant.test"}\n')

    with fence_lab(prepare=prepare) as lab:
        lock(lab, A, B)
        lab.redis.command("HSET", "sluice:home:example.com", "b",
                          lab.redis.command("HGET", "sluice:home:example.com", "b")
                          + "\tn=b@tenant.test")
        lab.old.sluice.cli("flip", A, B, check=True)
        lab.new.postfix.postconf(smtpd_recipient_restrictions="reject")
        lab.new.postfix.reload()
        send(lab, ["f1"], [A])
        send(lab, ["f2"], [B])
        log = lab.old.postfix
        log.wait_log(r"to=<a@example.com>.*status=(SOFTBOUNCE|bounced)")
        log.wait_log(r"to=<b@tenant.test>.*status=(SOFTBOUNCE|deferred|bounced)")
        expect_true("nothing bounced", "status=bounced" not in log.log())
        policyd = lab.old.sluice.policyd
        wait_until(lambda: "alarm: the other server refuses" in policyd.log(), 60,
                   "an alarm")
        expect("still queued", len(queued(lab, "deferred")), 2)


def test_quick_turns_under_load():
    """Lock and unlock without waiting for the fence, while mail flows."""
    with fence_lab() as lab:
        flows = [Flow(lab, [A], pause=0.05, prefix="a"),
                 Flow(lab, [A, B], pause=0.1, prefix="b")]
        for turn in range(12):
            command = Command(lab, "lock", "--timeout", "1s", A)
            time.sleep(0.3 + 0.2 * (turn % 4))
            command.wait()
            lab.old.sluice.cli("unlock", A, check=True)
            time.sleep(0.2)
        single, mixed = flows[0].stop(), flows[1].stop()
        expect_true("mail was held", "verdict=hold" in
                    lab.old.sluice.milter.log())
        wait_delivered(lab, A, single + mixed, 180)
        wait_delivered(lab, B, mixed)
        _wait_no_trace(lab)


def test_a_thousand():
    """Many held messages do not take a process each."""
    count = 1000
    with fence_lab() as lab:
        lock(lab, A)
        flows = [Flow(lab, [A], pause=0, prefix=f"w{n}-") for n in range(4)]
        wait_until(lambda: sum(len(flow.sent) for flow in flows) >= count, 200,
                   f"{count} messages are sent")
        sent = sum((flow.stop() for flow in flows), [])
        begun = time.monotonic()
        lab.old.sluice.cli("unlock", A, check=True)
        wait_until(lambda: not queued(lab, "hold"), 60, "hold is empty")
        print(f"{len(sent)} left hold in {time.monotonic() - begun:.1f} s")
        wait_delivered(lab, A, sent, 240)
        print(f"and were delivered in {time.monotonic() - begun:.1f} s")
        runs = len(set(re.findall(r"postsuper\[(\d+)\]",
                                  lab.old.postfix.log())))
        expect_true(f"{runs} runs of postsuper", runs < 40)
        _wait_no_trace(lab)
        print(f"no trace after {time.monotonic() - begun:.1f} s")


def test_killed_while_releasing():
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        everything = []
        for turn, pause in enumerate((0.0, 0.15, 0.4)):
            lock(lab, A)
            flow = Flow(lab, [A], pause=0, prefix=f"k{turn}-")
            wait_until(lambda: len(flow.sent) >= 60, 90, "messages are sent")
            everything += flow.stop()
            lab.old.sluice.cli("unlock", A, check=True)
            settle(pause)
            policyd.kill()
            settle(0.3)
            policyd.start()
            wait_delivered(lab, A, everything, 120)
        wait_until(lambda: not queued(lab, "hold"), 60, "hold is empty")


def test_taken_off_hold_by_an_admin():
    """postsuper -H during the lock: it comes back to hold, undelivered."""
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["u1"], [A])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.old.postfix.postsuper("-H", "ALL")
        lab.old.postfix.flush()
        lab.old.postfix.wait_log("status=deferred .mailbox is being moved")
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold again")
        expect("delivered", boxes(lab, A), [])
        expect("recorded", _held(lab), queued(lab, "hold"))
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["u1"])


def test_redis_away_while_mail_is_held():
    """Unknown is not "unlocked": nothing is released on a guess."""
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["r1"], [A])
        wait_until(lambda: len(queued(lab, "hold")) == 1, 60, "on hold")
        lab.redis.pause()
        settle(8)
        expect("on hold", len(queued(lab, "hold")), 1)
        lab.redis.resume()
        lab.redis.stop()
        settle(5)
        expect("on hold", len(queued(lab, "hold")), 1)
        lab.redis.start()
        wait_until(lambda: lab.old.sluice.cli("unlock", A)[0] == 0, 60,
                   "unlock works again", interval=0.5)
        wait_delivered(lab, A, ["r1"])


def test_message_that_is_not_ours_to_name():
    """A held record for a strange queue id does nothing to the queue."""
    with fence_lab() as lab:
        key = f"sluice:held:{lab.old.sluice.hostname}"
        lab.old.postfix.postconf(defer_transports="lmtp")
        lab.old.postfix.reload()
        reply = lab.old.postfix.smtp(SENDER, [A], message("n1"))
        lab.old.postfix.postsuper("-h", reply.queue_id)
        lab.redis.command("HSET", key, "ALL", "lock 1\t\ta@example.com")
        lab.redis.command("HSET", key, "-d ALL", "what is this")
        settle(12)
        expect("on hold", queued(lab, "hold"), [reply.queue_id])
