"""The lab itself: mail in by every way, read over IMAP; without sluice."""

import os

from harness import address, expect, ids_in, message, plain_lab
from parts.mailbox import read_maildir
from parts.process import run
from lab import SYNC_MBSYNC

SENDER = "someone@senders.test"
A, B = address(1), address(2)


def test_every_way_in():
    with plain_lab([A, B]) as lab:
        postfix = lab.old.postfix
        postfix.alias("team", A, B)
        postfix.virtual_alias("list@example.com", A, B)
        postfix.forward("games", B)
        #        id          recipients               way            who has it
        cases = [
            ("smtp", [A], postfix.smtp, [A]),
            ("two", [A, B], postfix.smtp, [A, B]),
            ("sendmail", [B], postfix.sendmail, [B]),
            ("extension", ["u1+shop@example.com"], postfix.smtp, [A]),
            ("upper", ["U2@EXAMPLE.COM"], postfix.smtp, [B]),
            ("alias", [f"team@{postfix.hostname}"], postfix.smtp, [A, B]),
            ("virtual", ["list@example.com"], postfix.smtp, [A, B]),
            ("forward", ["games@localhost"], postfix.smtp, [B]),
        ]
        for id, recipients, way, _ in cases:
            way(SENDER, recipients, message(id))
        postfix.wait_empty()
        found = lab.read_old([A, B])
        for box in (A, B):
            expected = sorted(id for id, _, _, boxes in cases if box in boxes)
            expect(f"over IMAP in {box}", ids_in(found[box]), expected)
            files = read_maildir(lab.old.dovecot.maildir(box))
            expect(f"as files in {box}", ids_in(files), expected)


def test_replies():
    with plain_lab([A]) as lab:
        reply = lab.new.postfix.smtp(
            SENDER, [A, "stranger@example.com"], message("one"))
        expect("code", reply.code, 250)
        expect("refused", reply.refused, {"stranger@example.com": 550})
        expect("queue id logged", bool(lab.new.postfix.wait_log(
            f"{reply.queue_id}: removed")), True)
        reply = lab.new.postfix.smtp(SENDER, ["no@example.com"], message("2"))
        expect("nobody there", reply.code, 550)
        lab.new.postfix.stop()
        reply = lab.new.postfix.smtp(SENDER, [A], message("three"))
        expect("no server", reply.code, 0)


def test_unknown_user_at_dovecot_bounces_to_the_sender():
    with plain_lab([A]) as lab:
        lab.old.postfix.add_mailboxes(["gone@example.com"])
        lab.old.postfix.smtp(SENDER, ["gone@example.com"], message("lost"))
        lab.old.postfix.wait_log("status=bounced")
        lab.old.postfix.wait_empty()
        expect("notices", len(lab.read_old([SENDER])[SENDER]), 1)


def test_restart_keeps_queue_and_mail():
    with plain_lab([A]) as lab:
        postfix = lab.old.postfix
        lab.old.dovecot.stop()
        reply = postfix.smtp(SENDER, [A], message("waits"))
        postfix.wait_log(f"{reply.queue_id}: .*status=deferred")
        expect("queue", [(entry["queue_id"], entry["queue_name"])
                         for entry in postfix.queue()],
               [(reply.queue_id, "deferred")])
        for end in (postfix.stop, postfix.kill):
            end()
            postfix.start()
        lab.old.dovecot.start()
        postfix.flush()
        postfix.wait_empty()
        expect("mail", ids_in(lab.read_old([A])[A]), ["waits"])


def test_hold_and_requeue():
    with plain_lab([A]) as lab:
        postfix = lab.old.postfix
        lab.old.dovecot.stop()
        reply = postfix.smtp(SENDER, [A], message("held"))
        postfix.wait_log(f"{reply.queue_id}: .*status=deferred")
        postfix.postsuper("-h", reply.queue_id, "deferred")
        expect("in hold", postfix.queue()[0]["queue_name"], "hold")
        lab.old.dovecot.start()
        postfix.postsuper("-r", reply.queue_id, "hold")
        postfix.wake_pickup()
        postfix.wait_empty()
        expect("mail", ids_in(lab.read_old([A])[A]), ["held"])


def test_redis_forgets_and_comes_back():
    with plain_lab(start=False) as lab:
        redis = lab.redis
        redis.start()
        redis.command("SET", "key", "first")
        copy = redis.snapshot()
        redis.command("SET", "key", "second")
        redis.stop()
        redis.start()
        expect("after a restart", redis.command("GET", "key"), "second")
        redis.restore(copy)
        expect("rolled back", redis.command("GET", "key"), "first")
        redis.kill()
        redis.start()
        expect("after a crash", redis.command("GET", "key"), "first")


def test_sync_copies_once():
    with plain_lab([A]) as lab:
        for folder, ids in (("", ["one", "two"]), ("Archive", ["three"])):
            lab.old.dovecot.seed(
                A, [message(id).encode() for id in ids], folder)
        environment = {**os.environ, "SLUICE_MAILBOX": A}
        for turn in ("first", "second"):
            run([SYNC_MBSYNC, lab.sync_config], env=environment)
            expect(f"after the {turn} run", ids_in(lab.read_new([A])[A]),
                   ["one", "three", "two"])
        lab.new.dovecot.seed(A, [message("later").encode()])
        run([SYNC_MBSYNC, lab.sync_config, "reverse"], env=environment)
        expect("copied back", ids_in(lab.read_old([A])[A]),
               ["later", "one", "three", "two"])
