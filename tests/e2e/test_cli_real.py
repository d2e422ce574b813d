"""The command line with real hosts: policyd confirms, Postfix holds and
releases, mbsync copies back."""

from harness import (address, expect, expect_true, ids_in, message,
                     sluice_lab, wait_until)

SENDER = "someone@senders.test"
A, B = address(1), address(2)


def fence_by_reload(lab):
    """Seconds instead of the half minute of the resolve caches."""
    for side in (lab.old, lab.new):
        side.sluice.fence = "reload"


def test_lock_flip_and_roll_back_with_mail():
    with sluice_lab([A, B], prepare=fence_by_reload) as lab:
        sluice = lab.old.sluice
        lab.old.postfix.smtp(SENDER, [A], message("before"))
        lab.old.postfix.wait_empty()
        code, out, err = sluice.cli("lock", A)
        expect(f"lock: {out} {err}", code, 0)
        reply = lab.old.postfix.smtp(SENDER, [A], message("waits"))
        expect("accepted", reply.code, 250)
        wait_until(lambda: "<someone@senders.test>" in sluice.cli("held")[1],
                   20, "the held message is listed")
        code, out, err = sluice.cli("status", A)
        expect_true(out, "locked" in out and reply.queue_id in out)
        sluice.cli("flip", A, check=True)
        lab.wait_drained()
        expect("nothing held any more",
               "0 messages are on hold" in sluice.cli("held")[1], True)
        lab.new.postfix.smtp(SENDER, [A], message("arrived"))
        lab.wait_drained()
        code, out, err = sluice.cli("rollback", A)
        expect(f"rollback: {out} {err}", code, 0)
        expect_true(f"listed: {out}", "<arrived@lab.test>" in out)
        found = ids_in(lab.read_old([A])[A])
        expect("all of it on the old side", found,
               ["arrived", "before", "waits"])
        lab.old.postfix.smtp(SENDER, [A], message("after"))
        lab.wait_drained()
        expect("delivered on the old side again",
               "after" in ids_in(lab.read_old([A])[A]), True)


def test_recover_rebuilds_what_redis_lost():
    with sluice_lab([A, B], prepare=fence_by_reload) as lab:
        sluice = lab.old.sluice
        sluice.cli("lock", B, check=True)
        before = lab.redis.command("HGETALL", "sluice:home:example.com")
        lab.redis.command("FLUSHALL")
        for command in ("status", "lock", "init"):
            words = [command] + ([B] if command == "lock" else [])
            code, out, err = sluice.cli(*words)
            expect(f"exit of {command}", code, 69)
            expect_true(err, "sluice recover" in err)
        code, out, err = sluice.cli("recover", "--dry-run")
        expect(f"dry run: {out} {err}", code, 0)
        expect("changed nothing", lab.redis.command("EXISTS", "sluice:chain"),
               0)
        code, out, err = sluice.cli("recover")
        expect(f"recover: {out} {err}", code, 0)
        expect_true(f"warns of the other host: {err}",
                    lab.new.sluice.hostname in err)
        after = lab.redis.command("HGETALL", "sluice:home:example.com")
        expect("homes", sorted(after), sorted(before))
        code, out, err = sluice.cli("recover")
        expect(f"again: {out} {err}", code, 0)
        wait_until(lambda: sluice.cli("lock", B)[0] == 0, 60,
                   "the hosts confirm again")
