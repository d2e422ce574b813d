"""The fence: after `sluice lock` returned 0, nothing reaches the mailbox."""

import os
import signal
import stat
import time

from fence_case import (A, B, Command, Flow, boxes, children, fence_lab, home,
                        host_state, lock, queued, send, settle, wait_delivered,
                        wait_home, wait_state)
from harness import expect, expect_true, message, wait_until


def _stream_through_a_lock(fence):
    """One sender, one mailbox, no milter: all goes through qmgr's cache."""
    with fence_lab(fence=fence, milters=False) as lab:
        flow = Flow(lab, [A])
        wait_until(lambda: len(boxes(lab, A)) >= 5, 60, "mail flows")
        command = Command(lab, "lock", A)
        wait_home(lab, "a", "l")
        before = len(boxes(lab, A))
        leaked = 0
        while command.running:
            leaked = len(boxes(lab, A)) - before
            time.sleep(0.05)
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)
        confirmed = boxes(lab, A)
        settle(5)
        expect("delivered after the lock", boxes(lab, A), confirmed)
        print(f"delivered while the fence was being completed: {leaked}")
        sent = flow.stop()
        settle(1)
        expect("delivered after the lock", boxes(lab, A), confirmed)
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, sent, 120)
        return leaked


def test_wait_outlives_the_resolve_cache():
    leaked = _stream_through_a_lock("wait")
    expect_true("the cache leaks without a fence: this test could fail",
                leaked > 0)


def test_reload_empties_the_resolve_cache():
    _stream_through_a_lock("reload")


def test_mail_queued_before_the_lock():
    with fence_lab() as lab:
        lab.old.dovecot.stop()
        send(lab, ["q1", "q2"], [A])
        lab.old.postfix.wait_log("status=deferred", count=2)
        lock(lab, A)
        lab.old.dovecot.start()
        lab.old.postfix.flush()
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60,
                   "both are on hold, so that they do not expire")
        expect("delivered", boxes(lab, A), [])
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["q1", "q2"])


def test_requeued_mail():
    with fence_lab() as lab:
        lock(lab, A)
        send(lab, ["r1"], [A])
        send(lab, ["r2"], [A, B])
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "both on hold")
        lab.old.postfix.postsuper("-r", "ALL")
        lab.old.postfix.flush()
        lab.old.postfix.wait_log(r"orig_id=", count=2)
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "on hold again")
        expect("delivered", boxes(lab, A), [])
        expect("the other had his at once", boxes(lab, B), ["r2"])
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["r1", "r2"])


def test_local_submission_alias_and_forward():
    def prepare(lab):
        lab.old.postfix.alias("team", A, B)
        lab.old.postfix.forward("games", A)

    with fence_lab(prepare=prepare) as lab:
        lock(lab, A)
        postfix = lab.old.postfix
        for number, target in enumerate(
                [A, "team@localhost", "games@localhost", "A+x@EXAMPLE.com"]):
            expect("sendmail", postfix.sendmail("someone@senders.test",
                                                [target], message(f"s{number}")), 0)
        wait_until(lambda: len(queued(lab, "hold")) == 4, 60, "all on hold")
        expect("delivered", boxes(lab, A), [])
        expect("the alias' other member", boxes(lab, B), ["s1"])
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["s0", "s1", "s2", "s3"])


def _cover(lab):
    """The host's local names are names of the managed domain."""
    lab.old.sluice.domains["example.com"] = lab.domain_section(
        lab.old, '  same-as = {"localhost", "old.lab.test"}\n')


def _gate(lab):
    """A program for an alias: it waits until the returned file exists."""
    directory = os.path.join(lab.old.postfix.directory, "gate")
    os.makedirs(directory)
    os.chmod(directory, 0o1777)
    program, go = os.path.join(directory, "wait"), os.path.join(directory, "go")
    with open(program, "w", encoding="utf-8") as file:
        file.write(f"#!/bin/sh\ntouch {directory}/began\n"
                   f"while [ ! -e {go} ]; do sleep 0.1; done\ncat >/dev/null\n")
    os.chmod(program, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP |
             stat.S_IROTH | stat.S_IXOTH)
    return program, os.path.join(directory, "began"), go


def _spool(lab):
    path = os.path.join(lab.old.postfix.spool, "games")
    if not os.path.exists(path):
        return ""
    with open(path, encoding="utf-8") as file:
        return file.read()


def _alias_that_hangs(fence):
    """The managed domain is delivered by local(8), which expands an alias
    without owner by itself: the queue shows nothing of the locked mailbox."""
    paths = []

    def prepare(lab):
        paths.extend(_gate(lab))
        lab.old.postfix.postconf(mydestination="localhost, old.lab.test, example.com",
                                 virtual_mailbox_domains="senders.test")
        lab.old.postfix.alias("slow", f'"|{paths[0]}"', "games")
        _cover(lab)

    with fence_lab(["games@example.com"], fence=fence, prepare=prepare) as lab:
        _, began, go = paths
        send(lab, ["x1"], ["games@example.com"])
        wait_until(lambda: "x1" in _spool(lab), 60, "local delivery works")
        send(lab, ["x2"], ["slow@example.com"])
        wait_until(lambda: os.path.exists(began), 60, "the alias' delivery began")
        command = Command(lab, "lock", "games@example.com")
        wait_state(lab, "waiting for 1 ", 120)
        settle(3)
        expect_true("the fence waits for it", command.running)
        with open(go, "w", encoding="utf-8"):
            pass
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)
        spool = _spool(lab)
        send(lab, ["x3"], ["slow@example.com"])
        lab.old.postfix.wait_log("x3@lab.test")
        settle(5)
        expect("delivered after the lock", _spool(lab), spool)
        lab.old.sluice.cli("unlock", "games@example.com", check=True)
        wait_until(lambda: "x3" in _spool(lab) and "x2" in _spool(lab), 120,
                   "all were delivered in the end")


def test_alias_that_hangs_with_wait():
    _alias_that_hangs("wait")


def test_alias_that_hangs_with_reload():
    _alias_that_hangs("reload")


def test_delivery_that_hangs():
    """A delivery to the mailbox itself is under way when the lock is taken."""
    with fence_lab() as lab:
        os.killpg(lab.old.dovecot.pid, signal.SIGSTOP)
        try:
            send(lab, ["d1"], [A])
            wait_until(lambda: queued(lab, "active"), 30, "it is being delivered")
            command = Command(lab, "lock", A)
            wait_state(lab, "waiting for 1 delivery", 60)
            settle(3)
            expect_true("the fence waits", command.running)
        finally:
            os.killpg(lab.old.dovecot.pid, signal.SIGCONT)
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)
        now = boxes(lab, A)
        settle(3)
        expect("delivered after the lock", boxes(lab, A), now)
        lab.old.sluice.cli("unlock", A, check=True)
        wait_delivered(lab, A, ["d1"])


def test_shadowed_transport_map():
    """An entry before ours would deliver: the lock is not confirmed."""
    with fence_lab() as lab:
        ours = lab.old.postfix.value("transport_maps")
        lab.old.postfix.postconf(transport_maps=(
            "inline:{a@example.com=lmtp:inet:127.0.0.1:1}, " + ours))
        lab.old.postfix.reload()
        command = Command(lab, "lock", A)
        wait_state(lab, "sluice's map must come first")
        expect_true("it names the entry", "inline:{a@example.com" in host_state(lab))
        settle(3)
        expect_true("not confirmed", command.running)
        lab.old.postfix.postconf(transport_maps=ours)
        lab.old.postfix.reload()
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)


def test_entry_by_domain_does_not_shadow():
    """The full address is asked of all tables before the domain is."""
    def prepare(lab):
        lab.old.postfix.postconf(transport_maps=(
            "inline:{example.com=lmtp:inet:127.0.0.1:"
            f"{lab.old.dovecot.lmtp_port}}}, "
            + lab.old.postfix.value("transport_maps")))

    with fence_lab(milters=False, prepare=prepare) as lab:
        send(lab, ["e1"], [A])
        wait_delivered(lab, A, ["e1"])
        lock(lab, A)
        send(lab, ["e2"], [A])
        lab.old.postfix.wait_log("status=deferred .mailbox is being moved")
        expect("delivered", boxes(lab, A), ["e1"])


def test_map_not_wired():
    with fence_lab() as lab:
        ours = lab.old.postfix.value("transport_maps")
        lab.old.postfix.postconf(transport_maps="")
        lab.old.postfix.reload()
        command = Command(lab, "lock", A)
        wait_state(lab, "no entry of transport_maps holds a@example.com")
        lab.old.postfix.postconf(transport_maps=ours)
        lab.old.postfix.reload()
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)


def test_configuration_that_postfix_has_not_read():
    """The self-test reads main.cf; what runs may still be without our map."""
    with fence_lab(fence="wait") as lab:
        settle(1)
        lab.old.postfix.postconf(maximal_backoff_time="7s")
        command = Command(lab, "lock", A)
        wait_state(lab, "main.cf was changed after Postfix last read it")
        lab.old.postfix.reload()
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)


def test_local_name_that_is_not_covered():
    def prepare(lab):
        lab.old.postfix.postconf(mydestination="localhost, old.lab.test, example.com, "
                                 "other.test", virtual_mailbox_domains="senders.test")
        _cover(lab)

    with fence_lab(["games@example.com"], prepare=prepare) as lab:
        command = Command(lab, "lock", "games@example.com")
        wait_state(lab, "other.test")
        lab.old.postfix.postconf(mydestination="localhost, old.lab.test, example.com")
        lab.old.postfix.reload()
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)
        # ... and is held under its other names too.
        send(lab, ["o1"], ["games@localhost"])
        send(lab, ["o2"], ["games@old.lab.test"])
        wait_until(lambda: len(queued(lab, "hold")) == 2, 60, "both on hold")
        expect("delivered", _spool(lab), "")


def test_delimiter_that_sluice_does_not_know():
    """To Postfix user-x is the locked mailbox, to sluice it would be another."""
    with fence_lab() as lab:
        lab.old.postfix.postconf(recipient_delimiter="+-")
        lab.old.postfix.reload()
        command = Command(lab, "lock", A)
        wait_state(lab, 'recipient_delimiter is "+-" in main.cf')
        lab.old.postfix.postconf(recipient_delimiter="+")
        lab.old.postfix.reload()
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)


def test_domain_that_this_host_does_not_know():
    """Two hosts, one of them without the domain: the lock names it."""
    def prepare(lab):
        lab.new.sluice.domains.clear()
        lab.new.sluice.domains["unrelated.test"] = lab.domain_section(lab.new)

    with fence_lab(prepare=prepare) as lab:
        command = Command(lab, "lock", A)
        name = lab.new.sluice.hostname
        wait_until(lambda: "not in this host's sluice.conf" in
                   (lab.redis.command("HGET", "sluice:hosts", name) or ""), 60,
                   "the new host says so", interval=0.1)
        lab.new.sluice.domains.clear()
        lab.new.sluice.domains["example.com"] = lab.domain_section(lab.new)
        lab.new.sluice.write_config()
        lab.new.sluice.policyd.send(1)
        code, out = command.wait()
        expect(f"lock: {out}", code, 0)


def test_killed_while_the_fence_is_under_way():
    """kill -9 at several moments: the fence begins anew, and ends."""
    with fence_lab(fence="reload", milters=False) as lab:
        policyd = lab.old.sluice.policyd
        for number, pause in enumerate((0.0, 0.3, 0.6, 0.9, 1.5)):
            flow = Flow(lab, [A], prefix=f"k{number}-")
            wait_until(lambda: len(flow.sent) >= 2, 60, "mail flows")
            command = Command(lab, "lock", A)
            wait_home(lab, "a", "l")
            settle(pause)
            policyd.kill()
            settle(0.5)
            policyd.start()
            code, out = command.wait()
            expect(f"lock {number}: {out}", code, 0)
            now = boxes(lab, A)
            settle(2)
            expect(f"delivered after lock {number}", boxes(lab, A), now)
            lab.old.sluice.cli("unlock", A, check=True)
            sent = flow.stop()
            wait_until(lambda: set(sent) <= set(boxes(lab, A)), 120,
                       f"all {len(sent)} of round {number} are delivered",
                       interval=0.2)
        everything = boxes(lab, A)
        expect("none twice", len(everything), len(set(everything)))
        expect("hold", queued(lab, "hold"), [])


def test_killed_helper_ends_policyd():
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        helpers = children(policyd.pid)
        expect("one helper", len(helpers), 1)
        os.kill(helpers[0], 9)
        wait_until(lambda: not policyd.running, 30, "policyd ends")
        expect("exit code", policyd.stop(), 75)
        expect_true("it says why", "queue helper has died" in policyd.log())
        policyd.start()
        lock(lab, A)


def test_helper_ends_with_policyd():
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        helper = children(policyd.pid)[0]
        os.kill(policyd.pid, 9)
        wait_until(lambda: not os.path.exists(f"/proc/{helper}"), 30,
                   "the helper ends")
        policyd.stop()


def test_rollback_under_load():
    """The fence on the new side: what it delivered before is synced back, the
    rest is held there and goes to the old mailbox: all of it, once."""
    with fence_lab() as lab:
        lock(lab, A)
        lab.old.sluice.cli("flip", A, check=True)
        flow = Flow(lab, [A], side=lab.new)
        wait_until(lambda: len(lab.read_new([A])[A]) >= 5, 60,
                   "the new side delivers")
        code, out, err = lab.old.sluice.cli("rollback", A, timeout=240)
        expect(f"rollback: {out}{err}", code, 0)
        expect("home", home(lab, "a"), "o")
        settle(2)
        sent = flow.stop()
        wait_until(lambda: set(sent) <= set(boxes(lab, A)), 120,
                   "all are in the old mailbox", interval=0.2)
        expect("once", boxes(lab, A), sent)


def test_not_started_as_root():
    """The gates work, but there is no fence, and it says so."""
    with fence_lab() as lab:
        policyd = lab.old.sluice.policyd
        policyd.stop()
        policyd.program, program = "/usr/bin/setpriv", policyd.program
        start = policyd._child.start
        policyd._child.start = lambda argv, env=None: start(
            ["setpriv", "--reuid=daemon", "--regid=postfix", "--clear-groups",
             program, *argv[1:]], env)
        os.chmod(lab.old.sluice.sockets, 0o770)
        policyd.start()
        wait_state(lab, "not started as root")
        command = Command(lab, "lock", "--timeout", "10s", A)
        code, out = command.wait()
        expect(f"lock: {out}", code, 75)
        expect_true(f"names the host: {out}", lab.old.sluice.hostname in out)
