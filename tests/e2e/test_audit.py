"""`sluice audit`: the ledger of a real migration against what the mailboxes say."""

import csv
import io
import json
import os
import re
import shutil

from fence_case import A, B, SENDER, fence_lab, lock, queued, send
from harness import expect, expect_true, message, wait_until

C = "c@example.com"
MOVED = "m@example.com"
TENANT = "moved@tenant.test"
GHOST = "ghost@example.com"
LIST = "list@example.com"
BOXES = [A, B, C, MOVED]


def prepare(lab):
    """Redirects go to tenant.test on the new server; no DNS here."""
    for side in (lab.old, lab.new):
        side.sluice.fence = "reload"
        side.postfix.virtual_alias(LIST, A, C)
        side.postfix.add_mailboxes([LIST, GHOST])
    lab.old.sluice.domains["example.com"] = lab.domain_section(
        lab.old, '  redirect-domains = {"tenant.test"}\n')
    lab.new.postfix.postconf(virtual_mailbox_domains=(
        "example.com, senders.test, tenant.test"))
    lab.new.dovecot.add_users([TENANT])
    lab.new.postfix.add_mailboxes([TENANT])
    lab.old.postfix.postconf(
        smtp_fallback_relay=f"[127.0.0.1]:{lab.new.postfix.port}")
    lab.old.postfix.alias("team", A, B)


def logs(lab):
    return [path for side in (lab.old, lab.new)
            for path in (side.postfix.log_path, side.sluice.milter.log_path,
                         side.sluice.policyd.log_path)]


def audit(lab, *words, files=None):
    return lab.old.sluice.cli("audit", *words, *(files or logs(lab)))


def rows(lab, *words, files=None):
    """[{column: value}] of --format csv."""
    code, out, err = audit(lab, "--format", "csv", *words, files=files)
    expect_true(f"exit code {code}: {err}", code in (0, 1))
    return list(csv.DictReader(io.StringIO(out)))


def lab_id(row):
    return row["message_id"].strip("<>").removesuffix("@lab.test")


def fates(found):
    """What came in the second of a lock was delivered before its end: on the old
    side, or on the new one before the rollback."""
    return {(lab_id(row), row["recipient"]): row["fate"].replace(
        "while-locking", row["host"]) for row in found}


def wait_new(lab, box, *ids):
    wait_until(lambda: {one.id for one in lab.read_new([box])[box]} >= set(ids),
               90, f"{ids} in the new mailbox of {box}", interval=0.3)


def wait_old(lab, box, *ids):
    wait_until(lambda: {one.id for one in lab.read_old([box])[box]} >= set(ids),
               90, f"{ids} in the old mailbox of {box}", interval=0.3)


def migrate(lab):
    """Everything that can happen to mail, once."""
    old, new = lab.old.postfix, lab.new.postfix
    send(lab, ["before"], [A, B, C])
    send(lab, ["list"], [LIST])
    send(lab, ["team"], ["team@old.lab.test"])
    send(lab, ["ghost"], [GHOST])
    send(lab, ["stranger"], ["postmaster@old.lab.test"])
    for box, ids in ((A, ("before", "list", "team")), (C, ("before", "list"))):
        wait_old(lab, box, *ids)
    lock(lab, A, MOVED)
    send(lab, ["held"], [A])
    send(lab, ["deleted"], [A])
    send(lab, ["mixed"], [A, B])
    send(lab, ["held-list"], [LIST])
    send(lab, ["held-team"], ["team@old.lab.test"])
    send(lab, ["held-moved"], [MOVED])
    old.sendmail(SENDER, [A], message("held-local"))
    wait_until(lambda: len(queued(lab, "hold")) >= 7, 60, "all on hold")
    victim = re.findall(r"\]: (\w+): message-id=<deleted@", old.log())[-1]
    old.postsuper("-d", victim, "hold")
    redirect_and_flip(lab)
    send(lab, ["after"], [A])
    send(lab, ["after-moved"], [MOVED])
    wait_new(lab, TENANT, "held-moved", "after-moved")
    wait_new(lab, A, "held", "mixed", "held-list", "held-team", "held-local",
             "after")
    refused_for_a_while(lab)
    lab.old.sluice.cli("rollback", "--no-sync", A, check=True)
    new.smtp(SENDER, [A], message("back"))
    wait_old(lab, A, "back")
    lab.wait_drained()


def redirect_and_flip(lab):
    path = os.path.join(lab.directory, "redirect.csv")
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"address,new_address\n{MOVED},{TENANT}\n")
    lab.old.sluice.cli("import", path, check=True)
    lab.old.sluice.cli("flip", A, MOVED, check=True)


def refused_for_a_while(lab):
    """The new server refuses for good what is sent on: it waits, and is said
    to."""
    new = lab.new.postfix
    kept = new.value("smtpd_recipient_restrictions")
    new.postconf(smtpd_recipient_restrictions="reject")
    new.stop()  # after a reload an idle smtpd may serve one client more
    new.start()
    send(lab, ["refused"], [A])
    lab.old.postfix.wait_log(r"to=<a@example.com>.*status=SOFTBOUNCE")
    code, out, err = audit(lab)
    expect(f"exit code ({out} {err})", code, 0)
    expect_true(f"it waits: {out}", re.search(
        r"waits in deferred on old as \w+, last line .*Access denied", out))
    new.postconf(smtpd_recipient_restrictions=kept)
    new.reload()
    wait_until(lambda: lab.old.postfix.flush() or "refused" in {
        one.id for one in lab.read_new([A])[A]}, 60, "it arrives", interval=1)


EXPECTED = {
    ("before", A): "delivered-old", ("before", B): "delivered-old",
    ("before", C): "delivered-old", ("list", A): "delivered-old",
    ("list", C): "delivered-old", ("team", A): "delivered-old",
    ("team", B): "delivered-old", ("ghost", GHOST): "returned",
    ("held", A): "delivered-new", ("deleted", A): "removed",
    ("mixed", A): "delivered-new", ("mixed", B): "delivered-old",
    ("held-list", A): "delivered-new", ("held-list", C): "delivered-old",
    ("held-team", A): "delivered-new", ("held-team", B): "delivered-old",
    ("held-moved", MOVED): "redirected", ("held-local", A): "delivered-new",
    ("after", A): "delivered-new", ("after-moved", MOVED): "redirected",
    ("refused", A): "delivered-new", ("back", A): "delivered-old",
}


def test_a_whole_migration():
    with fence_lab(BOXES, prepare=prepare) as lab:
        migrate(lab)
        found = rows(lab)
        expect("fates", fates(found), EXPECTED)
        expect("one row each", len(found), len(EXPECTED))
        check_mailboxes(lab, found)
        check_formats(lab)
        check_selection(lab)
        check_lost_line(lab)
        check_other_logs(lab)
        check_held(lab)
        check_wrong_place(lab)
        check_without_redis(lab)


def check_mailboxes(lab, found):
    """What the ledger says was stored is what the Maildirs hold."""
    for side, read in (("old", lab.read_old), ("new", lab.read_new)):
        stored = {(one.id, box) for box, messages in read(BOXES).items()
                  for one in messages}
        expect(f"stored on the {side} side", stored, {
            pair for pair, fate in fates(found).items()
            if fate == f"delivered-{side}"})
    expect("at the new address", {
        one.id for one in lab.read_new([TENANT])[TENANT]},
        {lab_id(row) for row in found if row["fate"] == "redirected"})


def check_formats(lab):
    code, out, err = audit(lab)
    expect(f"exit code ({out} {err})", code, 0)
    messages = len({id for id, _ in EXPECTED})
    expect("first line", out.splitlines()[0],
           f"{messages} messages accepted for {len(EXPECTED)} recipients: "
           "all have one known fate")
    expect_true(f"the deleted one is named: {out}", re.search(
        r"removed by an admin: 1 .*\n.*a@example.com.*<deleted@lab.test>", out))
    expect_true(f"the returned one is named: {out}", re.search(
        r"returned: 1 .*\n.*ghost@example.com.*\n.*550 .*notice \w+", out))
    expect_true("no note", "note:" not in out)
    code, out, _ = audit(lab, "--json")
    document = json.loads(out)
    expect("clean", (code, document["clean"]), (0, True))
    span = document["span"]
    expect("totals", sum(span["fates"].values()), span["recipients"])
    expect("sides", {host["host"]: host["side"] for host in document["hosts"]},
           {"old": "old", "new": "new"})
    code, out, _ = audit(lab, "--format", "html", "--all")
    expect_true("a page", code == 0 and out.startswith("<!DOCTYPE html>")
                and "&lt;after-moved@lab.test&gt;" in out)


def check_selection(lab):
    expect("one mailbox", set(fates(rows(lab, "--mailbox", B))), {
        pair for pair in EXPECTED if pair[1] == B})
    expect("in the future", rows(lab, "--since", "2099-01-01"), [])
    expect("long ago", rows(lab, "--until", "2001-01-01"), [])


def without(lab, pattern):
    """The logs; of the first one that has such a line, the last is left out."""
    files, found = [], False
    for number, path in enumerate(logs(lab)):
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = file.readlines()
        hits = [i for i, line in enumerate(lines) if re.search(pattern, line)]
        if hits and not found:
            found = True
            del lines[hits[-1]]
        copy = os.path.join(lab.directory, f"log{number}")
        with open(copy, "w", encoding="utf-8") as file:
            file.writelines(lines)
        files.append(copy)
    return files


def check_lost_line(lab):
    """Its delivery, or the line that leads on to the new server's queue id."""
    for pattern, id, box in (
            (r"lmtp.*to=<c@example.com>, relay=.*status=sent", "before", C),
            (r"sluice-forward/smtp.*to=<a@example.com>, relay=.*status=sent",
             "refused", A)):
        code, out, err = audit(lab, files=without(lab, pattern))
        expect(f"exit code without {pattern} ({out} {err})", code, 1)
        expect_true(f"the verdict: {out}", re.search(
            r"^\d+ messages accepted for \d+ recipients: "
            r"1 WITHOUT A KNOWN FATE\n", out))
        expect_true(f"{id} is named: {out}", re.search(
            rf"without a known fate: 1 .*\n.*{box}.*<{id}@lab.test>", out))


def check_other_logs(lab):
    """The old side's log alone; rotated and compressed; a hostless journal."""
    found = fates(rows(lab, files=logs(lab)[:3]))
    expect("without the new side's", found["after", A], "accepted-elsewhere")
    whole = os.path.join(lab.directory, "rotated")
    with open(lab.old.postfix.log_path, "rb") as file:
        lines = file.readlines()
    with open(whole + ".1", "wb") as file:
        file.writelines(lines[:len(lines) // 2])
    with open(whole, "wb") as file:
        file.writelines(lines[len(lines) // 2:])
    files = [whole] + logs(lab)[1:]
    expect("rotated", fates(rows(lab, files=files)), EXPECTED)
    journal = os.path.join(lab.directory, "a-journal")
    shutil.copyfile(os.path.join(lab.new.sluice.state, "journal"), journal)
    expect("the other host's journal", fates(rows(lab, "--journal", journal)),
           EXPECTED)
    code, _, err = audit(lab, files=[lab.old.sluice.config_path])
    expect_true(f"no log: {err}", code == 65 and "none of the" in err)
    code, _, err = audit(lab, files=["/nowhere/mail.log"])
    expect_true(f"no file: {err}", code == 65 and "/nowhere/mail.log" in err)


def check_held(lab):
    lock(lab, B)
    send(lab, ["waits"], [B])
    wait_until(lambda: queued(lab, "hold"), 60, "on hold")
    code, out, err = audit(lab)
    expect(f"exit code ({out} {err})", code, 0)
    expect_true(f"it waits: {out}", re.search(
        r"<waits@lab.test>\n    waits in hold on old as \w+, .*sluice holds it",
        out))


def check_wrong_place(lab):
    """An admin takes the gates away during a lock."""
    old = lab.old.postfix
    old.postconf(transport_maps="", smtpd_milters="", non_smtpd_milters="")
    old.reload()
    send(lab, ["broken"], [B])
    wait_old(lab, B, "broken")
    code, out, err = audit(lab)
    expect(f"exit code ({out} {err})", code, 1)
    expect_true(f"the verdict: {out}", "1 IN THE WRONG PLACE" in
                out.splitlines()[0])
    expect_true(f"with its line: {out}", re.search(
        r"b@example.com.*<broken@lab.test>\n.*lmtp\[\d+\]: \w+: "
        r"to=<b@example.com>", out))


def check_without_redis(lab):
    lab.redis.stop()
    code, out, err = audit(lab)
    expect(f"exit code ({out} {err})", code, 1)
    expect_true(f"it says so: {out}",
                "is known from the logs alone: Redis" in out)
