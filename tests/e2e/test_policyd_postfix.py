"""sluice-policyd asked by a real Postfix: postmap(1), smtpd, trivial-rewrite."""

import contextlib

from harness import address, expect, expect_true, message, plain_lab
from parts.process import run

HERE, LOCKED, MOVED, AWAY = (address(number) for number in range(4))
DOMAIN = """\
  same-as = {"localhost"}
  old = "[127.0.0.1]:1"
  new = "[127.0.0.1]:2"
  redirect-domains = {"senders.test"}
"""


@contextlib.contextmanager
def policyd_lab(hold="queue"):
    """The old side with policyd and no milter; four mailboxes' records are
    written into Redis as they stand, so no lock and no fence is waited for."""
    with plain_lab([HERE, LOCKED, MOVED, AWAY], start=False) as lab:
        sluice = lab.old.sluice
        sluice.hold = hold
        sluice.domains = {"example.com": DOMAIN}
        lab.redis.start()
        lab.old.dovecot.start()
        lab.old.postfix.wire_sluice(None)
        lab.old.postfix.postconf(smtpd_milters="", non_smtpd_milters="")
        sluice.write_config()
        sluice.policyd.start()
        lab.old.postfix.start()
        sluice.cli("init", check=True)
        for mailbox, record in ((HERE, "o1.6740a1b2"),
                                (LOCKED, "l1.6740a1b2"),
                                (MOVED, "n1.6740a1b2"),
                                (AWAY, "n1.6740a1b2\tn=someone@senders.test")):
            lab.redis.command("HSET", "sluice:home:example.com",
                              mailbox.partition("@")[0], record)
        yield lab


def postmap(lab, table, key):
    path = f"{lab.old.sluice.sockets}/map.sock"
    code, out, error = run(
        ["postmap", "-c", lab.old.postfix.config, "-q", key,
         f"socketmap:unix:{path}:{table}"], check=False)
    return out.strip() if code == 0 else f"({code}) {error.strip()}"


def test_postmap():
    with policyd_lab() as lab:
        for table, key, value in [
                ("transport", HERE, "(1) "),
                ("transport", LOCKED, "sluice-hold:"),
                ("transport", MOVED, "sluice-forward:[127.0.0.1]:2"),
                ("transport", AWAY, "sluice-hold:"),
                ("transport", "*", "(1) "),
                ("transport", "someone@senders.test", "sluice-forward:"),
                ("virtual", AWAY, "someone@senders.test"),
                ("virtual", "u2@localhost", MOVED),
                ("virtual", LOCKED, "(1) ")]:
            expect(f"{table} {key}", postmap(lab, table, key), value)
        lab.redis.kill()
        answer = postmap(lab, "transport", HERE)
        expect_true(f"while Redis is down: {answer}",
                    answer not in ("(1) ", "") and answer.startswith("(1)"))


def test_gates():
    """Delivered, held and redirected by the two maps alone."""
    with policyd_lab() as lab:
        postfix = lab.old.postfix
        reply = postfix.smtp("someone@senders.test", [HERE, LOCKED, AWAY],
                             message("gates"))
        expect("accepted", (reply.accepted, reply.refused), (True, {}))
        postfix.wait_log(rf"to=<{HERE}>.*status=sent")
        postfix.wait_log(
            rf"to=<{LOCKED}>.*status=deferred.*mailbox is being moved")
        postfix.wait_log(
            rf"to=<someone@senders.test>, orig_to=<{AWAY}>.*"
            r"sluice-forward|sluice-forward.*someone@senders.test")


def test_strange_forms_of_a_locked_address():
    """Whatever Postfix would deliver into the mailbox is held."""
    with policyd_lab() as lab:
        postfix = lab.old.postfix
        name, _, domain = LOCKED.partition("@")
        forms = [f"{name}+{'x' * 200}@{domain}", f'"{name}+\x01"@{domain}',
                 f'"{name}+\\""@{domain}', f'"{name}+ "@{domain}',
                 f"{name}%{domain}@localhost", f"{domain}!{name}",
                 f'"{LOCKED}"@localhost', f"{name.upper()}+@{domain.upper()}."]
        for number, form in enumerate(forms):
            reply = postfix.smtp(f"s{number}@senders.test", [form],
                                 message(f"form{number}"))
            expect(f"{form!r} accepted", reply.accepted, True)
            postfix.wait_log(rf"{reply.queue_id}: to=.*status=")
            sent = [line for line in postfix.log().splitlines()
                    if f"{reply.queue_id}: to=" in line]
            expect_true(f"{form!r} is held: {sent}", all(
                "mailbox is being moved" in line for line in sent))


def test_own_address_reaches_no_locked_mailbox():
    """A managed domain that local(8) delivers is reached as user@[address] too."""
    with policyd_lab() as lab:
        postfix = lab.old.postfix
        postfix.postconf(mydestination="localhost, example.com",
                         virtual_mailbox_domains="senders.test",
                         myorigin="example.com", local_recipient_maps="")
        lab.redis.command("HSET", "sluice:home:example.com",
                          "nobody", "l1.6740a1b2")
        postfix.stop()
        postfix.start()
        for domain in ("example.com", "localhost", "[127.0.0.1]"):
            reply = postfix.smtp("someone@senders.test", [f"nobody@{domain}"],
                                 message("own"))
            expect(f"{domain} accepted", reply.accepted, True)
            postfix.wait_log(rf"{reply.queue_id}: to=.*mailbox is being moved")


def test_redis_down_spares_unmanaged_mail():
    with policyd_lab() as lab:
        lab.redis.pause()
        for _ in range(5):
            reply = lab.old.postfix.smtp("", ["someone@senders.test"],
                                         message("unmanaged"))
            expect("unmanaged", reply.accepted, True)
        lab.redis.resume()
        lab.redis.kill()
        reply = lab.old.postfix.smtp("x@senders.test", [HERE], message("no"))
        expect("managed", reply.refused, {HERE: 450})


def test_hold_defer():
    """4.2.1 at RCPT, for the locked mailbox alone."""
    with policyd_lab(hold="defer") as lab:
        reply = lab.old.postfix.smtp("x@senders.test", [HERE, LOCKED],
                                     message("defer"))
        expect("refused", reply.refused, {LOCKED: 450})
        expect("the other", reply.accepted, True)
        lab.old.postfix.wait_log("4.2.1 .*mailbox is being moved")
