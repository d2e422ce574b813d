"""sluice monitor, on the logs of real mail servers: forwards, what the new server
refuses, what waits because it is down, probes, and mail that wants to look like a
log."""

import gzip
import json
import os
import shutil
import signal
import subprocess
import time

from cli_case import cli_case
from fence_case import A, B, SENDER, fence_lab, lock, wait_delivered
from harness import expect, expect_true, message, wait_until

C = "c@example.com"
PROBE = "probe@example.com"
CLIENT, OTHER = "192.0.2.25", "198.51.100.9"
MARK = "sluice-ping.abcdefghijklmnopqrstuvwxyz@mon.test"
OK, WARNING, CRITICAL, UNKNOWN = range(4)
USAGE = 64


def _logs(lab):
    return [lab.old.postfix.log_path, lab.old.sluice.milter.log_path]


def _monitor(lab, *words, logs=None):
    """(exit code, the document)"""
    code, out, err = lab.old.sluice.cli("monitor", "--json", *words,
                                        *(logs or _logs(lab)))
    expect_true(f"a document ({err})", out)
    return code, json.loads(out)


def _send(lab, id, to, client=CLIENT, helo="h.senders.test", sender=SENDER,
          login=None, text=None):
    reply = lab.old.postfix.smtp(sender, [to], text or message(id),
                                 client=client, helo=helo, login=login)
    expect(f"{id} is accepted: {reply}", reply.code, 250)


def _wait(lab, condition, what):
    wait_until(lambda: condition(_monitor(lab, "--no-checkpoint")[1]), 60,
               what, interval=0.5)


def _mailbox(document, address):
    found = [row for row in document["mailboxes"] if row["address"] == address]
    return found[0] if found else None


def _clients(document):
    return {(row["client"], row["helo"], row["user"]): row["floaters"]
            for row in document["senders"]}


def _delivered(lab):
    code, document = _monitor(lab)
    expect("no mail yet", (code, document["floaters"]), (UNKNOWN, 0))
    _send(lab, "before", A)
    # Else it may be held with the lock, and forwarded: a sixth floater.
    wait_delivered(lab, A, ["before"])
    code, document = _monitor(lab)
    expect("nothing yet, but the log is short", (code, document["floaters"]),
           (WARNING, 0))
    lock(lab, A, B, PROBE)
    lab.old.sluice.cli("flip", A, B, PROBE, check=True)
    _send(lab, "one", A)
    _send(lab, "two", B, client=OTHER, login="joe")
    lab.old.postfix.sendmail(SENDER, [A], message("local"))
    _send(lab, "ping", PROBE,
          text=message("ping").replace("ping@lab.test", MARK))
    _send(lab, "false-ping", A,
          text=message("false").replace("false@lab.test", MARK))
    _wait(lab, lambda seen: seen["floaters"] == 5, "five floaters")
    code, document = _monitor(lab, "--probe-to", PROBE)
    expect("only what is new is read, and counted once",
           (code, document["floaters"], document["probes"],
            document["false_probes"]), (WARNING, 4, 1, 1))
    expect("senders", _clients(document), {
        (CLIENT, "h.senders.test", ""): 2,
        (OTHER, "h.senders.test", "joe"): 1, ("", "localhost", ""): 1})
    expect("mailboxes", {row["address"]: row["floaters"]
                         for row in document["mailboxes"]}, {A: 3, B: 1})
    expect("delivered", document["delivered"], 4)


def _hostile(lab):
    """A client that would like to write the log."""
    forged = ('"a>, relay=x[192.0.2.1]:25, delay=0, delays=0/0/0/0, dsn=2.0.0,'
              ' status=sent (250 ok)"@example.com')
    _send(lab, "hostile", A, helo="x;verdict=deliver[1.2.3.4]",
          sender='"s>, size=1, nrcpt=1 (queue active)"@senders.test',
          text=message("hostile").replace(
              "hostile@lab.test", "x> to=<z@example.com>, status=sent (y"))
    lab.old.postfix.smtp(SENDER, [forged], message("forged"))
    _wait(lab, lambda seen: seen["floaters"] == 6, "the sixth")
    document = _monitor(lab, "--probe-to", PROBE)[1]
    expect("no mailbox was made up", sorted(
        row["address"] for row in document["mailboxes"]), [A, B])
    helos = [row["helo"] for row in document["senders"]]
    expect_true(f"HELO stays one word: {helos}",
                any(text.startswith("x;verdict=deliver") for text in helos))


def _refused(lab):
    """The new server refuses for good, then takes it."""
    new = lab.new.postfix
    kept = new.value("smtpd_recipient_restrictions")
    new.postconf(smtpd_recipient_restrictions="reject")
    new.stop()  # after a reload an idle smtpd may serve one client more
    new.start()
    _send(lab, "refused", B)
    lab.old.postfix.wait_log(r"sluice-forward/smtp.*status=SOFTBOUNCE")
    code, document = _monitor(lab, "--probe-to", PROBE)
    expect("refused", (code, document["waiting"], document["refused"],
                       _mailbox(document, B)["status"]),
           (CRITICAL, 1, 1, "softbounce"))
    expect_true(f"it says so: {document['text']}",
                B in document["text"] and "denied" in document["text"])
    new.postconf(smtpd_recipient_restrictions=kept)
    new.reload()
    wait_until(lambda: lab.old.postfix.flush() or _monitor(
        lab, "--no-checkpoint")[1]["waiting"] == 0, 60, "it is delivered",
        interval=0.5)


def _put_off(lab):
    """The new server is down: put off by smtp(8), and by error(8) after it."""
    lab.new.postfix.stop()
    for id in ("down-1", "down-2"):
        _send(lab, id, A)
    lab.old.postfix.wait_log(r"status=deferred .*Connection refused", count=2)
    code, document = _monitor(lab, "--probe-to", PROBE)
    expect("not yet failing", (code, document["waiting"]), (WARNING, 2))
    wait_until(lambda: _monitor(lab, "--probe-to", PROBE, "--failing-after",
                                "1s")[0] == CRITICAL, 20, "that is failing")
    code, document = _monitor(lab, "--failing-after", "1s")
    expect("both", (code, document["stuck"]), (CRITICAL, 2))
    lab.new.postfix.start()
    wait_until(lambda: lab.old.postfix.flush() or _monitor(
        lab, "--no-checkpoint")[1]["waiting"] == 0, 60, "both are delivered",
        interval=0.5)


def _rotated(lab):
    """The whole log as rotated and compressed files is the same, in one run and
    in two."""
    folder = os.path.join(lab.directory, "rotated")
    os.makedirs(folder)
    log = os.path.join(folder, "mail.log")
    with open(lab.old.postfix.log_path, "rb") as file:
        data = file.read()
    milter = shutil.copy(lab.old.sluice.milter.log_path,
                         os.path.join(folder, "milter.log"))
    whole = _figures(_monitor(lab, "--no-checkpoint")[1])
    third = len(data) // 3
    with gzip.open(log + ".2.gz", "wb") as file:
        file.write(data[:data.rindex(b"\n", 0, third) + 1])
    rest = data[data.rindex(b"\n", 0, third) + 1:]
    with open(log + ".1", "wb") as file:
        file.write(rest[:third])  # within a line: rotation does not do that
    with open(log, "wb") as file:
        file.write(b"")
    mark = os.path.join(folder, "mark")
    first = _monitor(lab, "--checkpoint", mark, logs=[log, milter])[1]
    expect_true("a part of it", first["floaters"] < whole["floaters"])
    with open(log + ".1", "ab") as file:
        file.write(rest[third:])
    again = _figures(_monitor(lab, "--checkpoint", mark,
                              logs=[log, milter])[1])
    expect("in two runs", {key: again[key] for key in ("floaters", "delivered",
                                                       "mailboxes")},
           {key: whole[key] for key in ("floaters", "delivered", "mailboxes")})
    with open(mark, "r+b") as file:
        file.seek(40)
        file.write(b"#")
    code, out, err = lab.old.sluice.cli("monitor", "--checkpoint", mark, log)
    expect_true(f"a damaged checkpoint is said, and read anew: {err}",
                code in (WARNING, CRITICAL) and "read from their beginning" in err)


def _figures(document):
    return {"floaters": document["floaters"],
            "delivered": document["delivered"],
            "senders": _clients(document),
            "mailboxes": {row["address"]: (row["floaters"], row["status"])
                          for row in document["mailboxes"]}}


def _reports(lab):
    code, out, err = lab.old.sluice.cli("monitor", "--no-checkpoint",
                                        *_logs(lab))
    first = out.splitlines()[0]
    expect("exit code", code, WARNING)
    expect_true(f"a Nagios line: {first}",
                first.startswith("SLUICE MONITOR WARNING - ")
                and "| quiet=" in first and first.count("|") == 1)
    expect_true(f"no other line has performance data: {out}",
                "|" not in out.split("\n", 1)[1])
    code, out, err = lab.old.sluice.cli(
        "monitor", "--no-checkpoint", "--format", "html", *_logs(lab))
    expect_true("a page of its own", out.startswith("<!DOCTYPE html>")
                and "<rect" in out and "http:" not in out and "<script"
                not in out)
    code, out, err = lab.old.sluice.cli(
        "monitor", "--no-checkpoint", "--quiet-for", "1s", *_logs(lab))
    expect(f"quiet long enough: {out}", code, OK)


def _follow(lab):
    with subprocess.Popen(
            lab.old.sluice.argv("monitor", "--follow", "--no-checkpoint",
                                *_logs(lab)),
            stdout=subprocess.PIPE, text=True) as process:
        try:
            expect_true("the state first", process.stdout.readline()
                        .startswith("SLUICE MONITOR "))
            _send(lab, "live", B, helo="live.senders.test")
            line = process.stdout.readline()
            expect_true(f"as it happens: {line}", f"{B}  sent" in line
                        and CLIENT in line)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(20)
    expect("its exit code is the state's", process.returncode, WARNING)


def test_a_real_log():
    with fence_lab([A, B, C, PROBE]) as lab:
        _delivered(lab)
        _hostile(lab)
        _refused(lab)
        _put_off(lab)
        _rotated(lab)
        _reports(lab)
        _follow(lab)


def test_usage():
    with cli_case(init=False) as case:
        for words, code, text in [
                (["--format", "pdf"], USAGE, "text, json or html"),
                (["--json", "--format", "html"], USAGE, "one of them"),
                (["--follow", "--json"], USAGE, "--follow prints text"),
                (["--no-checkpoint", "--checkpoint", "x"], USAGE, "one of"),
                (["--quiet-for", "never"], USAGE, "quiet-for")]:
            result = case.sluice("monitor", *words)
            expect(f"exit of {words}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
        result = case.sluice("monitor", "/nonexistent/mail.log")
        expect("no log", result.code, UNKNOWN)
        expect_true(f"as a plugin: {result.out}", result.out.startswith(
            "SLUICE MONITOR UNKNOWN - /nonexistent/mail.log: "))
        result = case.sluice("monitor", "--json", "/nonexistent/mail.log")
        expect("in JSON", result.json["state"], "UNKNOWN")
        result = case.sluice("monitor", "-", input="")
        expect(f"empty: {result.out}", result.code, UNKNOWN)
        result = case.sluice("monitor", "-", input="no log\n" * 5)
        expect_true(f"foreign: {result.out}", "mail log" in result.out)
        stamp = f'"__REALTIME_TIMESTAMP":"{int(time.time()) * 1000000}"'
        line = ('{%s,"_HOSTNAME":"mx1","SYSLOG_IDENTIFIER":"postfix/%s",'
                '"MESSAGE":"4jXP2T5gnwz1bwNG: %s"}\n')
        journal = line % (stamp, "smtpd", "client=a.test[192.0.2.1]") + line % (
            stamp, "sluice-forward/smtp",
            "to=<u@example.com>, relay=127.0.0.1[127.0.0.1]:10026, delay=1, "
            "delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)")
        result = case.sluice("monitor", "--json", "-", input=journal)
        expect(f"journald: {result.err}", (
            result.code, result.json["floaters"],
            result.json["senders"][0]["client"]), (WARNING, 1, "192.0.2.1"))
