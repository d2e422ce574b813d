"""sluice monitor and audit on the logs of a real Sendmail, as the old server and as
the new one: what they say is what the mailboxes hold."""

import contextlib
import csv
import io
import json
import os
import random
import re

from fence_case import A, B, C, SENDER, lock
from harness import expect, expect_true, message, skip, sluice_lab, wait_until
from parts.process import run
from parts.sendmail import unavailable

D = "d@example.com"
BOXES = [A, B, C, D]
NEW_ADDRESS, NEW_NAME = "127.0.0.9", "mx.new.test"
SOME, OTHER = "127.0.0.25", "127.0.0.26"
CRITICAL = 2
WITH_NEW = '  old = "{old}"\n  new = "[{new}]:{port}"\n{more}'
NAMES = '  same-as = {"localhost", "old.lab.test", "odd.test"}\n'


@contextlib.contextmanager
def sendmail_lab(prepare):
    """prepare(lab) makes what stands in place of a side's Postfix."""
    def arrange(lab):
        reason = unavailable(os.path.join(lab.bindir, "lab-packages"))
        if reason:
            skip(reason)
        for side in (lab.old, lab.new):
            side.sluice.fence = "reload"
        prepare(lab)

    with sluice_lab(BOXES, arrange) as lab:
        yield lab


def audit(lab, files, *words):
    return lab.old.sluice.cli("audit", *words, *files)


def rows(lab, files, *words):
    code, out, err = audit(lab, files, "--format", "csv", *words)
    expect_true(f"exit code {code}: {err}", code in (0, 1))
    return list(csv.DictReader(io.StringIO(out)))


def lab_id(row):
    return row["message_id"].strip("<>").removesuffix("@lab.test")


def fates(found):
    return {(lab_id(row), row["recipient"].replace("+x", "")): row[
        "fate"].replace("while-locking", row["host"]) for row in found}


def stored(lab):
    """{(id, mailbox): times} on the old side and on the new one."""
    result = []
    for read in (lab.read_old, lab.read_new):
        count = {}
        for box, messages in read(BOXES).items():
            for one in messages:
                count[one.id, box] = count.get((one.id, box), 0) + 1
        result.append(count)
    return result


def wait_stored(lab, new=(), old=()):
    def there():
        in_old, in_new = stored(lab)
        return set(old) <= set(in_old) and set(new) <= set(in_new)
    wait_until(there, 90, f"in the old mailboxes {old}, in the new ones {new}",
               interval=0.3)


def monitor(lab, files, *words, config=None):
    """(exit code, the document)"""
    argv = lab.old.sluice.argv("monitor", "--json", *words, *files)
    if config:
        argv[argv.index("-c") + 1] = config
    code, out, err = run(argv, check=False)
    expect_true(f"a document ({err})", out)
    return code, json.loads(out)


def figures(document):
    return {
        "floaters": document["floaters"], "delivered": document["delivered"],
        "lost": document["lost"],
        "senders": {(row["client"], row["name"], row["user"]): row["floaters"]
                    for row in document["senders"]},
        "mailboxes": {row["address"]: (row["floaters"], row["status"])
                      for row in document["mailboxes"]}}


# ---- Sendmail is the old server ------------------------------------------------


def old_is_sendmail(lab):
    lab.port = lab.also_listens(lab.new, NEW_ADDRESS)
    lab.server = server = lab.sendmail(lab.old)
    server.log_level = 11
    for name in "abcd":
        server.mailbox(name)
    for domain in ("new.example.com", "senders.test", "odd.test"):
        server.route(domain, NEW_ADDRESS, lab.port)
    server.host(NEW_ADDRESS, NEW_NAME)
    server.host(SOME, "some.senders.test")
    server.host(OTHER, "other.senders.test")
    server.alias("team", "a", "b", "c")
    server.alias("list", "a", "c")
    server.alias("owner-list", "d")
    server.alias("seminar", '"|/bin/cat >/dev/null"', "c")
    server.access("From:odd@senders.test", "QUARANTINE:looks odd")
    server.access("From:gone@senders.test", "DISCARD")
    server.access("From:bad@senders.test", "REJECT")
    server.logins = {"joe": "secret"}
    lab.new.postfix.virtual_alias("@new.example.com", "@example.com")
    lab.new.postfix.virtual_alias("@odd.test", A)
    lab.old.sluice.domains["example.com"] = WITH_NEW.format(
        old=f"[127.0.0.1]:{lab.old.postfix.port}", new=NEW_ADDRESS,
        port=lab.port, more=NAMES)


def send(lab, id, to, client=SOME, sender=SENDER, login=None):
    reply = lab.server.smtp(sender, to, message(id), client=client, login=login)
    expect(f"{id} is accepted: {reply}", (reply.code, reply.refused), (250, {}))


def before_the_move(lab):
    send(lab, "first", [A, B])
    send(lab, "team", ["team@old.lab.test"])
    send(lab, "team-and-a", ["team@old.lab.test", A])
    send(lab, "list", ["list@example.com"])
    send(lab, "seminar", ["seminar@example.com"])
    send(lab, "from-nobody", [C], sender="")
    send(lab, "case", ["A@EXAMPLE.com", "b+x@example.com"])
    expect("sendmail(1)", lab.server.submit(
        "joe@old.lab.test", ["a", C], message("local")), 0)
    expect("sendmail -t", lab.server.submit("joe@old.lab.test", [], message(
        "header", to=f"{B}, c")), 0)
    send(lab, "odd", [A], sender="odd@senders.test")
    send(lab, "gone", [A], sender="gone@senders.test")
    reply = lab.server.smtp("bad@senders.test", [A], message("bad"))
    expect("refused", reply.accepted, False)
    reply = lab.server.smtp(SENDER, ["no.such@example.com", A], message("half"))
    expect("half of it", (reply.code, reply.refused),
           (250, {"no.such@example.com": 550}))
    wait_until(lambda: lab.server.queue("-qQ"), 30, "one in quarantine")


BEFORE = {
    ("first", A), ("first", B), ("team", A), ("team", B), ("team", C),
    ("team-and-a", A), ("team-and-a", B), ("team-and-a", C), ("list", A),
    ("list", C), ("seminar", C), ("from-nobody", C), ("case", A), ("case", B),
    ("local", A), ("local", C), ("header", B), ("header", C), ("half", A)}


def the_move(lab):
    """a by virtusertable (and an alias: the team's a is none of virtusertable's), b
    by an alias, d by .forward and a copy at home; c stays."""
    lock(lab, A, B)
    lab.old.sluice.cli("flip", A, B, check=True)
    lab.server.virtual(A, "a@new.example.com")
    lab.server.alias("a", "a@new.example.com")
    lab.server.alias("b", "b@new.example.com")
    lab.server.forward("d", "\\d", "b@new.example.com")


def after_the_move(lab):
    send(lab, "to-a", [A])
    send(lab, "to-b", [B], client=OTHER)
    send(lab, "to-all", [A, B, C])
    send(lab, "to-d", [D])
    send(lab, "to-team", ["team@old.lab.test"], client=OTHER, login="joe")
    expect("sendmail(1)", lab.server.submit(
        "joe@old.lab.test", ["b"], message("to-b-local")), 0)
    wait_stored(lab, FORWARDED, STAYED | {("to-d", D)})


FORWARDED = {("to-a", A), ("to-b", B), ("to-all", A), ("to-all", B),
             ("to-d", B), ("to-team", A), ("to-team", B), ("to-b-local", B)}
STAYED = {("to-all", C), ("to-team", C)}


def new_server_is_down(lab):
    lab.new.postfix.stop()
    send(lab, "down", [A, B, C])
    send(lab, "down-team", ["team@old.lab.test"])
    wait_until(lambda: len(set(re.findall(
        r": (\w+): to=.*stat=Deferred", lab.server.log()))) == 2, 60,
        "both are put off")
    files = logs(lab)
    words = (files[:1], "--no-checkpoint", "--failing-after", "1s")
    expect("four wait", monitor(lab, *words)[1]["waiting"], 4)
    wait_until(lambda: monitor(lab, *words)[0] == CRITICAL, 20, "that fails")
    code, out, err = audit(lab, files)
    expect_true(f"they wait ({out} {err})", len(re.findall(
        r"waits in deferred on old as \w+, last line .*Connection refused",
        out)) == 4)
    lab.new.postfix.start()
    lab.server.run_queue()
    wait_stored(lab, DOWN, {("down", C)})


DOWN = {("down", A), ("down", B), ("down-team", A), ("down-team", B)}


def new_server_refuses(lab):
    """For good: Sendmail sends it back. (To the new server: so wait for it.)"""
    new = lab.new.postfix
    kept = new.value("smtpd_recipient_restrictions")
    refuse = f"check_recipient_access inline:{{{{{A} = REJECT no}}, " \
             "{a@new.example.com = REJECT no}}"
    new.postconf(smtpd_recipient_restrictions=refuse)
    new.stop()  # after a reload an idle smtpd may serve one client more
    new.start()
    send(lab, "refused", [A, C])
    lab.server.wait_log(r": DSN: ")
    wait_stored(lab, old={("refused", C)})
    new.postconf(smtpd_recipient_restrictions=kept)
    new.stop()
    new.start()


# The recipients at odd.test are mailboxes that nobody has, to sluice; the new server
# gives all of them to A.
HOSTILE = [
    ("<s@senders.test>", '<"a>, delay=0, mailer=esmtp, stat=Sent"@odd.test>'),
    ("<s@senders.test>", '"a\\"b>, c"@odd.test'),
    ("<s@senders.test>", "<a(, stat=Sent )@odd.test>"),
    ("<s@senders.test (x>, size=0, class=0, nrcpts=0, y)>", f"<{C}>"),
    ('<"s>, size=1, nrcpts=1, relay=x [1.2.3.4]"@senders.test>', f"<{C}>"),
]
ODD = ['"a>, delay=0, mailer=esmtp, stat=sent"@example.com',
       '"a\\"b>, c"@example.com']
MESSAGE_IDS = ["<x>, proto=ESMTP, relay=evil [9.9.9.9]", "<x@y> , size=0, nrcpts=0",
               "<" + "m" * 300 + "@lab.test>"]


HOSTILE_TO_A = {(f"hostile{n}", A) for n in range(3)}


def hostile(lab):
    """Text that wants to look like a log line."""
    for number, (mail, rcpt) in enumerate(HOSTILE):
        expect_true(f"{mail} {rcpt} is accepted",
                    lab.server.raw(mail, rcpt, message(f"hostile{number}")))
    for number, text in enumerate(MESSAGE_IDS):
        expect_true(f"{text} is accepted", lab.server.raw(
            "<s@senders.test>", f"<{A}>", message(f"mid{number}").replace(
                f"<mid{number}@lab.test>", text), helo="x_y.relay=z"))
    wait_stored(lab, {(f"mid{n}", A) for n in range(3)} | HOSTILE_TO_A,
                {("hostile3", C), ("hostile4", C)})


def logs(lab, server=True):
    first = lab.server.log_path if server else lab.server.iso_path
    return [first] + [path for side in (lab.old, lab.new) for path in (
        side.postfix.log_path, side.sluice.milter.log_path,
        side.sluice.policyd.log_path)]


FLOATERS = {
    # to-a to-all to-team down down-team refused, three mid, hostile2
    A: 10,
    # to-b to-all to-team to-b-local down down-team
    B: 6,
    D: 1, ODD[0]: 1, ODD[1]: 1}


def check_monitor(lab):
    code, document = monitor(lab, [lab.server.log_path], "--no-checkpoint")
    seen = figures(document)
    expect("per mailbox", {box: n for box, (n, _) in seen["mailboxes"].items()},
           FLOATERS)
    expect("per sending host", seen["senders"], {
        (SOME, "some.senders.test", ""): 9, (OTHER, "other.senders.test", ""): 1,
        (OTHER, "other.senders.test", "joe"): 2,
        ("127.0.0.1", "localhost", ""): 7})
    expect("floaters, delivered, lost, waiting", (
        seen["floaters"], seen["delivered"], seen["lost"],
        document["waiting"]), (19, 18, 1, 0))
    in_new = stored(lab)[1]
    expect("as many as the new mailboxes hold", sum(in_new.values()),
           document["delivered"])
    expect("one was refused, so forwards fail", code, CRITICAL)
    expect("the ISO log says the same", figures(monitor(
        lab, [lab.server.iso_path], "--no-checkpoint")[1]), seen)
    check_cuts(lab, seen)


def check_cuts(lab, whole):
    """Cut anywhere, and read in two runs."""
    with open(lab.server.log_path, "rb") as file:
        data = file.read()
    folder = os.path.join(lab.directory, "cut")
    os.makedirs(folder)
    path, mark = os.path.join(folder, "log"), os.path.join(folder, "mark")
    words = ("--checkpoint", mark, "--without-rotated")
    for cut in random.Random(5).sample(range(1, len(data)), 12):
        with open(path, "wb") as file:
            file.write(data[:cut])
        monitor(lab, [path], *words)
        with open(path, "ab") as file:
            file.write(data[cut:])
        expect(f"cut at {cut} of {len(data)}",
               figures(monitor(lab, [path], *words)[1]), whole)
        os.unlink(path)
        os.unlink(mark)


def check_audit(lab):
    found = rows(lab, logs(lab))
    expected = {pair: "delivered-old" for pair in BEFORE | STAYED}
    expected |= {pair: "delivered-new"
                 for pair in FORWARDED | DOWN | HOSTILE_TO_A}
    expected |= {("to-d", D): "delivered-old", ("down", C): "delivered-old",
                 ("down-team", C): "delivered-old",
                 ("refused", A): "returned", ("refused", C): "delivered-old",
                 ("odd", ""): "queued", ("gone", A): "discarded",
                 ("seminar", "seminar@example.com"): "sent-on",
                 ("hostile3", C): "delivered-old",
                 ("hostile4", C): "delivered-old"}
    seen = fates(found)
    strange = {pair: fate for pair, fate in seen.items() if pair not in expected}
    expect("fates", {pair: fate for pair, fate in seen.items()
                     if pair in expected}, expected)
    expect_true(f"those with a Message-ID of their own: {strange}", sorted(
        strange.values()) == ["delivered-new"] * 3)
    expect("one row each", len(found), len(seen))
    for place, count in zip(("old", "new"), stored(lab)):
        expect(f"as many as the {place} mailboxes hold", sum(count.values()), len(
            [fate for fate in seen.values() if fate == f"delivered-{place}"]))
    expect("the ISO log says the same", fates(rows(lab, logs(lab, False))), seen)


def check_removed_lines(lab):
    """It is missed. Whom it names is known where another line does: an alias."""
    with open(lab.server.log_path, encoding="utf-8", errors="replace") as file:
        lines = file.readlines()
    files = logs(lab)
    copy = os.path.join(lab.directory, "without")
    for id, pattern, box in (
            ("first", "mailer=local", "recipients, not named"), ("team", "mailer=local", B),
            ("to-all", r"relay=\[127.0.0.9", B), ("list", "mailer=local", C),
            ("to-d", "mailer=local", D), ("local", "mailer=local", A)):
        names = re.findall(rf": (\w+): from=.*msgid=<{id}@", "".join(lines))
        names += re.findall(rf": {names[0]}: (\w+): clone", "".join(lines))
        hits = [n for n, line in enumerate(lines) if re.search(
            rf": ({'|'.join(names)}): to=.*{pattern}", line)]
        expect_true(f"{id} has such a line", hits)
        with open(copy, "w", encoding="utf-8") as file:
            file.writelines(line for n, line in enumerate(lines)
                            if n != hits[0])
        code, out, err = audit(lab, [copy, *files[1:]])
        expect(f"exit code without {lines[hits[0]]} ({out} {err})", code, 1)
        expect_true(f"{id} is named for {box}: {out}", re.search(
            rf"(?s)without a known fate: .*{box}.*<{id}@lab.test>", out))


def check_release(lab):
    """Out of the quarantine; meanwhile its recipient has moved."""
    lab.server.release()
    wait_stored(lab, new={("odd", A)})
    lab.server.wait_log(r"to=.*a@.*stat=Sent \(.*\n(.*\n)*.*done;")
    expect("all have a fate", fates(rows(lab, logs(lab)))["odd", A],
           "delivered-new")
    expect("one floater more", monitor(
        lab, logs(lab)[:1], "--no-checkpoint")[1]["floaters"], 20)


def test_the_old_server():
    with sendmail_lab(old_is_sendmail) as lab:
        lab.server.start()
        before_the_move(lab)
        wait_stored(lab, old=BEFORE)
        the_move(lab)
        after_the_move(lab)
        new_server_is_down(lab)
        new_server_refuses(lab)
        hostile(lab)
        wait_until(lambda: not lab.server.queue(), 60, "its queue is empty")
        lab.wait_drained()
        lab.server.stop()
        check_monitor(lab)
        check_audit(lab)
        check_removed_lines(lab)
        lab.server.start()
        check_release(lab)


# ---- Sendmail is the new server ------------------------------------------------


def new_is_sendmail(lab):
    lab.server = lab.sendmail(lab.new)
    for name in "abcd":
        lab.server.mailbox(name)
    lab.server.alias("both", "a", "b")
    lab.server.access("From:bad@senders.test", "REJECT")
    lab.old.sluice.domains["example.com"] = WITH_NEW.format(
        old=f"[127.0.0.1]:{lab.old.postfix.port}", new="127.0.0.1",
        port=lab.server.port, more='  same-as = {"localhost"}\n')


def submit(lab, id, to, sender=SENDER):
    reply = lab.old.postfix.smtp(sender, to, message(id))
    expect(f"{id} is accepted: {reply}", reply.code, 250)


def test_the_new_server():
    """At Sendmail's own log level."""
    with sendmail_lab(new_is_sendmail) as lab:
        lab.server.start()
        submit(lab, "before", [A, B])
        wait_stored(lab, old={("before", A), ("before", B)})
        lock(lab, A, B)
        submit(lab, "held", [A, B, C])
        lab.old.sluice.cli("flip", A, B, check=True)
        submit(lab, "after", [A, D])
        expect("direct", lab.server.smtp(SENDER, ["both@example.com"],
                                         message("direct")).code, 250)
        new = {("held", A), ("held", B), ("after", A), ("direct", A),
               ("direct", B)}
        old = {("before", A), ("before", B), ("held", C), ("after", D)}
        wait_stored(lab, new, old)
        submit(lab, "bad", [A], sender="bad@senders.test")
        lab.old.postfix.wait_log(r"to=<a@example.com>.*status=SOFTBOUNCE")
        lab.server.stop()
        submit(lab, "down", [B])
        lab.old.postfix.wait_log(r"to=<b@example.com>.*Connection refused")
        files = [lab.server.log_path, *logs(lab)[1:]]
        expected = {pair: "delivered-new" for pair in new}
        expected |= {pair: "delivered-old" for pair in old}
        expected |= {("bad", A): "queued", ("down", B): "queued"}
        expect("fates", fates(rows(lab, files)), expected)
        lab.server.access("From:bad@senders.test", None)
        lab.server.start()
        wait_until(lambda: lab.old.postfix.flush() or stored(lab)[1].get(
            ("bad", A)), 60, "it is taken at last", interval=1)
        wait_stored(lab, {("down", B)})
        lab.wait_drained()
        lab.server.stop()
        expected |= {("bad", A): "delivered-new", ("down", B): "delivered-new"}
        expect("fates", fates(rows(lab, files)), expected)
        seen = figures(monitor(lab, [lab.old.postfix.log_path],
                               "--no-checkpoint")[1])
        expect("floaters", (seen["floaters"], seen["delivered"]), (5, 5))


# ---- sluice-milter at Sendmail ---------------------------------------------------


def filtered(lab):
    lab.server = lab.sendmail(lab.old, milters=[("sluice", "local:" + os.path.join(
        lab.old.postfix.queue_directory, "sluice", "milter.sock"))])
    for name in "abcd":
        lab.server.mailbox(name)


def test_a_milter():
    """What it does is in its log and in Sendmail's, of its own log level."""
    with sendmail_lab(filtered) as lab:
        lab.server.start()
        send(lab, "first", [A, B])
        wait_stored(lab, old={("first", A), ("first", B)})
        lock(lab, A)
        send(lab, "held", [A])
        wait_until(lambda: lab.server.queue("-qQ"), 30, "it is in quarantine")
        code, out, err = audit(lab, logs(lab))
        expect(f"exit code ({out} {err})", code, 0)
        expect_true(f"it waits: {out}", re.search(
            r"a@example.com from .*<held@lab.test>\n    waits in hold on old", out))
        lab.old.sluice.cli("unlock", A, check=True)
        lab.server.release()
        wait_stored(lab, old={("held", A)})
        lab.redis.stop()
        reply = lab.server.smtp(SENDER, [A, B], message("later"))
        expect("put off", reply.code, 451)
        lab.server.stop()
        lab.redis.start()
        expect("fates", fates(rows(lab, logs(lab))), {
            ("first", A): "delivered-old", ("first", B): "delivered-old",
            ("held", A): "delivered-old"})
