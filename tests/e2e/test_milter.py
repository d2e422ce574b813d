"""sluice-milter behind a real Postfix: what becomes of a message."""

import os
import re
import smtplib

from harness import expect, expect_true, ids_in, message, wait_until
from milter_host import A, B, C, SENDER, milter_host
from parts.process import Child, accepts

OTHER = "someone@senders.test"
COPY = "copies@senders.test"


def _trace(found):
    return (found.headers["X-Sluice-Trace"] or "").split()


def test_deliver_and_one_line_each():
    with milter_host() as host:
        host.home(A, "old")
        reply = host.postfix.smtp(SENDER, ["U1+Tag@Example.Com", OTHER],
                                  message("d"), helo="we]ird")
        expect("answer", reply.code, 250)
        expect("lines", host.wait_lines(reply.queue_id), [
            "verdict=deliver to=<u1+tag@example.com> home=old "
            f"from=<{SENDER}> client=[127.0.0.1] helo=we\\x5dird"])
        expect("delivered", ids_in(host.boxes(A)[A]), ["d"])


def test_hold_is_recorded_first():
    with milter_host() as host:
        host.home(A, "locked")
        host.home(B, "back")
        reply = host.postfix.smtp(SENDER, [A, B.upper()], message("h"))
        expect("answer", reply.code, 250)
        expect("queue", host.queue_of(reply.queue_id), "hold")
        expect("records", list(host.held()), [reply.queue_id])
        record = host.held()[reply.queue_id]
        expect_true(f"both recipients in {record!r}", A in record and B in record)
        lines = host.wait_lines(reply.queue_id, 2)
        expect("verdicts", [line.split()[0] for line in lines],
               ["verdict=hold"] * 2)
        expect("unlisted is decided by the domain",
               host.postfix.smtp(SENDER, [C], message("c")).code, 250)


def test_no_record_no_hold():
    with milter_host() as host:
        host.home(A, "locked")
        # A key of another type: the record is refused, lookups go on.
        host.redis.command("SET", f"sluice:held:{host.sluice.hostname}", "x")
        reply = host.postfix.smtp(SENDER, [A], message("h"))
        expect("answer", reply.code, 451)
        expect("queue", host.postfix.queue(), [])
        expect_true("said why", "reason=not-recorded" in host.milter.log())
        expect_true("no hold line", "verdict=hold" not in host.milter.log())


def test_mixed_message_is_accepted():
    with milter_host() as host:
        host.home(A, "locked")
        reply = host.postfix.smtp(SENDER, [A, B], message("m"))
        expect("answer", reply.code, 250)
        expect("no record", host.held(), {})
        lines = host.wait_lines(reply.queue_id, 2)
        expect_true(f"A is left to the transport map: {lines}",
                    "reason=transport" in lines[0])
        expect("B at once", ids_in(host.boxes(B)[B]), ["m"])


def test_forward_has_a_trace_and_counts():
    with milter_host() as host:
        host.home(A, "new")
        host.home(B, "new", epoch=2)
        reply = host.postfix.smtp(SENDER, [A, B], message("f"))
        expect("answer", reply.code, 250)
        host.wait_lines(reply.queue_id, 2)
        found = host.boxes(A)[A][0]
        expect("tokens", len(set(_trace(found))), 2)
        expect_true("no address in the header",
                    "example" not in found.headers["X-Sluice-Trace"])
        with open(host.side.dovecot.maildir(A) + "/" + _newest(host, A),
                  encoding="utf-8") as file:
            names = re.findall(r"^([A-Za-z-]+):", file.read(), re.MULTILINE)
        expect_true(f"above the message's own headers: {names}",
                    names.index("X-Sluice-Trace") < names.index("From"))
        floaters = host.redis.command("HGETALL", "sluice:floaters:example.com")
        expect("floaters", sorted(floaters[::2]), ["u1", "u2"])


def _newest(host, mailbox):
    top = host.side.dovecot.maildir(mailbox)
    for part in ("new", "cur"):
        names = os.listdir(os.path.join(top, part))
        if names:
            return os.path.join(part, names[0])
    raise AssertionError(f"nothing in {top}")


def test_new_side_notes_arrivals():
    with milter_host("new") as host:
        host.home(A, "new")
        host.home(B, "old")
        reply = host.postfix.smtp(SENDER, [A, B], message("n"))
        lines = host.wait_lines(reply.queue_id, 2)
        expect("verdicts", [line.split()[0] for line in lines],
               ["verdict=deliver", "verdict=forward"])
        arrivals = str(host.redis.command(
            "XRANGE", "sluice:arrivals:example.com", "-", "+"))
        expect_true(f"u1, the queue id and the message id: {arrivals}",
                    "u1" in arrivals and reply.queue_id in arrivals and
                    "n@lab.test" in arrivals)
        expect_true("not u2", "u2" not in arrivals)


def test_redirect_replaces_the_recipient():
    with milter_host() as host:
        host.home(A, "new", new=OTHER)
        host.postfix.virtual_alias("both@example.com", A, B)
        for number, recipient in enumerate([A, "U1@EXAMPLE.com"]):
            reply = host.postfix.smtp(SENDER, [recipient, B],
                                      message(f"r{number}"))
            lines = host.wait_lines(reply.queue_id, 2)
            expect_true(lines[0], f"new=<{OTHER}>" in lines[0])
        host.postfix.sendmail(SENDER, [A], message("local"))
        host.postfix.sendmail(SENDER, ["u1@localhost"], message("same"))
        wait_until(lambda: host.milter.log().count("verdict=redirect") == 4, 20,
                   "four redirects")
        found = host.boxes(A, B, OTHER)
        expect("old address", found[A], [])
        expect("other recipient", ids_in(found[B]), ["r0", "r1"])
        expect("new address", ids_in(found[OTHER]),
               ["local", "r0", "r1", "same"])


def test_redirect_to_someone_who_has_it_already():
    with milter_host() as host:
        host.home(A, "new", new=OTHER)
        host.postfix.smtp(SENDER, [A, OTHER.upper()], message("r"))
        found = host.boxes(A, OTHER)
        expect("old address", found[A], [])
        expect("once", ids_in(found[OTHER]), ["r"])


def test_copy_is_made_once():
    with milter_host() as host:
        host.lab.add_mailboxes([COPY])
        host.home(A, "old", copy=COPY)
        host.home(B, "locked", copy=COPY)
        host.postfix.smtp(SENDER, [A], message("one"))
        host.postfix.smtp(SENDER, [A, B], message("both"))
        host.postfix.smtp(SENDER, [A, COPY], message("direct"))
        host.postfix.smtp(SENDER, [B], message("locked"))
        found = host.boxes(A, COPY)
        expect("mailbox", ids_in(found[A]), ["both", "direct", "one"])
        expect("copies", ids_in(found[COPY]),
               ["both", "direct", "locked", "one"])


def test_failing_copy_does_not_bounce():
    with milter_host() as host:
        host.home(A, "old", copy="gone@senders.test")
        host.postfix.add_mailboxes(["gone@senders.test"])
        host.postfix.smtp(SENDER, [A], message("one"))
        host.postfix.wait_log("to=<gone@senders.test>.*status=bounced")
        found = host.boxes(A, SENDER)
        expect("mailbox", ids_in(found[A]), ["one"])
        expect("nothing to the sender", found[SENDER], [])


def test_redirect_keeps_the_senders_notices():
    """Without the transport table, which never bounces: the milter itself does
    not take the sender's right to hear of a failure, as it does for copies."""
    with milter_host() as host:
        host.home(A, "new", new="gone@senders.test")
        host.postfix.add_mailboxes(["gone@senders.test"])
        host.postfix.smtp(SENDER, [A], message("one"))
        host.postfix.wait_log("to=<gone@senders.test>.*status=bounced")
        found = host.boxes(A, SENDER)
        expect("old mailbox", found[A], [])
        expect("the sender hears of it", len(found[SENDER]), 1)


def test_copy_of_outgoing_mail():
    with milter_host(extra="  copy-outbound = true\n") as host:
        host.lab.add_mailboxes([COPY])
        host.home(A, "new", copy=COPY)
        before = host.commands()
        host.postfix.smtp(A, [OTHER], message("out"))
        host.postfix.smtp(B, [OTHER], message("plain"))
        found = host.boxes(OTHER, COPY)
        expect("recipient", ids_in(found[OTHER]), ["out", "plain"])
        expect("copies", ids_in(found[COPY]), ["out"])
        expect_true("the sender was looked up", host.commands() > before)


def test_unmanaged_mail_costs_no_command():
    with milter_host() as host:
        host.postfix.smtp(SENDER, [A], message("first"))
        host.postfix.wait_empty()
        before = host.commands()
        for number in range(20):
            reply = host.postfix.smtp(A, [OTHER], message(f"n{number}"))
            expect("answer", reply.code, 250)
        expect("submitted", host.postfix.sendmail(SENDER, [OTHER], message("s")), 0)
        host.postfix.wait_empty()
        expect("commands", host.commands(), before)


def test_loop_is_held_with_an_alarm():
    with milter_host() as host:
        host.home(A, "new")
        host.postfix.smtp(SENDER, [A], message("l"))
        trace = _trace(host.boxes(A)[A][0])
        again = f"X-Sluice-Trace: {trace[0]}\n" + message("l2")
        reply = host.postfix.smtp(SENDER, [A, B, OTHER], again)
        expect("answer", reply.code, 250)
        expect("queue", host.queue_of(reply.queue_id), "hold")
        expect("record", list(host.held()), [reply.queue_id])
        lines = host.wait_lines(reply.queue_id, 2)
        expect_true(f"said so: {lines}", all("verdict=hold" in line and
                                             "reason=loop" in line
                                             for line in lines))
        expect_true("alarm", f"alarm: {reply.queue_id}: mail loop for <{A}>" in
                    host.milter.log())
        host.home(A, "new", epoch=9)
        reply = host.postfix.smtp(SENDER, [A], again)
        expect_true("moved again: not a loop",
                    "verdict=forward" in host.wait_lines(reply.queue_id)[0])
        forged = "X-Sluice-Trace: " + "0" * 32 + " <>&\n" + message("l3")
        reply = host.postfix.smtp(SENDER, [A], forged)
        expect_true("forged: not a loop",
                    "verdict=forward" in host.wait_lines(reply.queue_id)[0])


def test_local_submission():
    with milter_host() as host:
        host.home(A, "locked")
        expect("sendmail", host.postfix.sendmail(
            SENDER, [A, B], message("mixed")), 0)
        expect("B", ids_in(wait_until(
            lambda: host.boxes(B)[B], 30, "mail in B")), ["mixed"])
        expect("sendmail", host.postfix.sendmail(SENDER, [A], message("h")), 0)
        wait_until(host.held, 10, "a record")
        wait_until(lambda: [entry["queue_name"] for entry in host.postfix.queue()]
                   == ["hold"], 10, "on hold")


def test_local_submission_with_redis_down_is_kept():
    with milter_host() as host:
        host.redis.kill()
        expect("sendmail", host.postfix.sendmail(
            SENDER, [A, OTHER], message("kept")), 0)
        host.postfix.wait_log("milter-reject: END-OF-MESSAGE")
        expect("maildrop", len(host.postfix.queue_files("maildrop")), 1)
        host.redis.start()
        wait_until(lambda: host.redis.command("HGET", "sluice:chain", "epoch"), 10,
                   "the store")

        def delivered():
            host.postfix.sendmail(SENDER, [OTHER], message("wake"))
            return not host.postfix.queue_files("maildrop")
        wait_until(delivered, 30, "pickup tries again", interval=1)
        expect("delivered once", ids_in(host.boxes(A)[A]), ["kept"])
        bounces = [found for found in host.boxes(SENDER)[SENDER]
                   if "Undelivered" in (found.headers["Subject"] or "")]
        expect("no bounce", bounces, [])


def test_hostile_values_forge_no_line():
    with milter_host() as host:
        hostile = '"x verdict=deliver\\ to=<>"@senders.test'
        reply = host.postfix.smtp(hostile, [A], message("x"), helo="a b\x01c")
        lines = host.wait_lines(reply.queue_id)
        expect("one line", len(lines), 1)
        expect("one verdict", lines[0].count(" to=<"), 1)


def test_login_name_is_logged():
    def prepare(host):
        host.postfix.postconf(smtpd_authorized_xclient_hosts="127.0.0.1")
    with milter_host(prepare=prepare) as host:
        with smtplib.SMTP("127.0.0.1", host.postfix.port, timeout=30) as client:
            client.ehlo("client.test")
            client.docmd("XCLIENT", "ADDR=192.0.2.7 NAME=mx.x.test LOGIN=joe")
            client.ehlo("client.test")
            client.sendmail(SENDER, [A], message("x"))
        wait_until(lambda: "verdict=" in host.milter.log(), 10, "a line")
        line = re.search("verdict=.*", host.milter.log()).group()
        expect_true(line, "client=[192.0.2.7] helo=client.test auth=joe" in line)


def test_tcp_socket():
    with milter_host() as host:
        host.milter.stop()
        port = host.free_port()
        with open(host.sluice.config_path, encoding="utf-8") as file:
            text = re.sub('listen = "unix:.*', f'listen = "tcp:127.0.0.1:{port}"',
                          file.read(), count=1)
        with open(host.sluice.config_path, "w", encoding="utf-8") as file:
            file.write(text)
        tcp = Child("sluice-milter", host.milter.log_path)
        tcp.start([host.milter.program, "-c", host.sluice.config_path])
        try:
            tcp.wait_ready(lambda: accepts(("127.0.0.1", port)), 20, "accepts")
            host.postfix.postconf(smtpd_milters=f"inet:127.0.0.1:{port}")
            host.postfix.reload()
            host.home(A, "locked")
            host.home(C, "new")
            with smtplib.SMTP("127.0.0.1", host.postfix.port, timeout=30) as client:
                for recipients in ([A], [B, C], [OTHER], [A, B]):
                    client.sendmail(SENDER, recipients, message("t"))
            wait_until(lambda: host.milter.log().count("verdict=") >= 5, 10, "lines")
            expect("verdicts", re.findall(r"verdict=(\w+)", host.milter.log()),
                   ["hold", "deliver", "forward", "hold", "deliver"])
        finally:
            expect("exit code", tcp.end(), 0)


def test_hold_defer_answers_4xx():
    def prepare(host):
        host.sluice.hold = "defer"
    with milter_host(prepare=prepare) as host:
        host.home(A, "locked")
        reply = host.postfix.smtp(SENDER, [A], message("x"))
        expect("answer", (reply.code, "4.2.1" in reply.text), (451, True))
        expect("no record", host.held(), {})
