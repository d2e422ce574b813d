"""sluice auth: who sends as a domain, counted by the milter from real mail; and
sluice held, for what DMARC holds."""

import csv
import io
import json
import time

from cli_case import cli_case
from harness import address, expect, expect_true, message, sluice_lab, wait_until
from lab import DOMAIN, OUTSIDE

A = address(1)
ELSEWHERE = "198.51.100.9"   # not in the SPF record
FORGER = "203.0.113.66"
USAGE, DATA = 64, 65


def _report(sluice, *words):
    code, out, err = sluice.cli("auth", "report", DOMAIN, *words)
    expect(f"exit: {out} {err}", code, 0)
    return out


def _json(sluice):
    code, out, err = sluice.cli("auth", "report", DOMAIN, "--json")
    expect(f"exit: {err}", code, 0)
    return json.loads(out)


def test_report_of_real_mail():
    with sluice_lab([A], auth=True) as lab:
        sluice, postfix = lab.old.sluice, lab.old.postfix
        began = int(time.time())

        def send(id, client, sender=A, author=A, helo="mx.senders.test",
                 signed=False):
            text = message(id, sender=author, to=A)
            if signed:
                # Postfix adds the Date that is missing: it is not signed.
                text = lab.keys[DOMAIN].sign(
                    text, headers=("From", "To", "Subject"))
            reply = postfix.smtp(sender, [A], text, client=client, helo=helo)
            expect(f"{id} is accepted", reply.code, 250)

        expect_true("nothing yet", "nothing is counted" in _report(sluice))
        send("good-1", OUTSIDE, signed=True)
        send("good-2", OUTSIDE, signed=True)
        send("crm", ELSEWHERE, signed=True, helo="crm.vendor.test")
        send("forged", FORGER, helo="=2+3,x")
        send("bounce", OUTSIDE, sender="")
        send("stranger", OUTSIDE, sender="someone@senders.test",
             author="someone@senders.test")
        wait_until(lambda: _json(sluice)["messages"] == 5, 20,
                   "the figures are in Redis")

        report = _json(sluice)
        expect("would fail", report["would_fail"], 2)
        expect("hosts", report["hosts"], 3)
        rows = {(row["client"], row["envelope"]): row
                for row in report["senders"]}
        expect("rows", len(rows), 4)
        good = rows[OUTSIDE, DOMAIN]
        expect("good", (good["messages"], good["would_fail"],
                        good["spf"]["pass"], good["dkim"]["pass"],
                        good["dmarc"]["pass"]), (2, 0, 2, 2, 2))
        crm = rows[ELSEWHERE, DOMAIN]
        expect("crm", (crm["messages"], crm["would_fail"],
                       crm["spf"]["softfail"], crm["dkim"]["pass"],
                       crm["dmarc"]["pass"], crm["helo"]),
               (1, 1, 1, 1, 1, "crm.vendor.test"))
        forged = rows[FORGER, DOMAIN]
        expect("forged", (forged["would_fail"], forged["dkim"]["none"],
                          forged["dmarc"]["fail"]), (1, 1, 1))
        expect_true(f"times of {good}",
                    began - 5 <= good["first"] <= good["last"]
                    <= time.time() + 5)
        expect("those that would fail come first",
               [row["would_fail"] > 0 for row in report["senders"]],
               [True, True, False, False])

        text = _report(sluice)
        expect_true(f"marked: {text}", text.count("WOULD FAIL") == 2)
        expect_true(f"summary: {text}", "3 sending hosts, 5 messages, "
                    "2 would fail under -all" in text)
        table = list(csv.DictReader(io.StringIO(_report(sluice, "--csv"),
                                                newline="")))
        expect("rows", len(table), 4)
        expect("no formula", [row["helo"] for row in table
                              if row["client"] == FORGER],
               ["'=2+3,x"])
        expect("softfail", [row["spf_softfail"] for row in table
                            if row["client"] == ELSEWHERE], ["1"])

        sluice.cli("auth", "reset", DOMAIN, "--dry-run", check=True)
        expect("still there", _json(sluice)["messages"], 5)
        sluice.cli("auth", "reset", DOMAIN, check=True)
        expect("forgotten", _json(sluice)["senders"], [])


def test_usage():
    with cli_case() as case:
        for words, code, text in [
                (["auth"], USAGE, "sluice auth report DOMAIN"),
                (["auth", "report"], USAGE, "sluice auth report DOMAIN"),
                (["auth", "reprot", DOMAIN], USAGE, "sluice auth report"),
                (["auth", "report", DOMAIN, DOMAIN], USAGE, "sluice auth"),
                (["auth", "report", "nobody.test"], DATA,
                 "is not a domain of"),
                (["auth", "reset", DOMAIN, "--csv"], USAGE, "--csv is for")]:
            result = case.sluice(*words)
            expect(f"exit of {words}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
            expect(f"nothing on stdout of {words}", result.out, "")
        help_text = case.sluice("auth", "--help").out
        expect_true("usage", help_text.startswith("usage: sluice auth report"))
        both = case.sluice("auth", "report", DOMAIN, "--csv", "--json")
        expect("--csv and --json", both.code, USAGE)
        result = case.sluice("auth", "report", "Example.COM.")
        expect("exit", result.code, 0)
        expect_true(f"says why: {result.out}",
                    "has no auth section" in result.out)


def test_mail_held_for_dmarc():
    with cli_case() as case:
        case.both_hosts()
        case.add(A)
        case.hold("mx1.example.com", "4XyZ12abcdz1Qk", "d", "x@forger.test", A)
        case.hold("mx1.example.com", "4XyZ12abcdz1Ql", "d", "", "x@other.test")
        result = case.sluice("held")
        expect_true(f"why, and the way out: {result.out}",
                    result.out.count(" DMARC ") >= 2
                    and "sluice held release ID" in result.out)
        expect("why", [row["why"] for row in
                       case.sluice("held", "--json").json["messages"]],
               ["DMARC", "DMARC"])
        expect_true("status says so", "because it fails DMARC"
                    in case.sluice("status", A).out)
        for queue_id in ("4XyZ12abcdz1Qk", "4XyZ12abcdz1Ql"):
            for _ in range(2):
                result = case.sluice("held", "release", queue_id)
                expect(f"release: {result.err}", result.code, 0)
            record = case.redis.command(
                "HGET", "sluice:held:mx1.example.com", queue_id)
            expect("handed to policyd", record[0], "l")


def test_damaged_figures_are_left_out():
    with cli_case() as case:
        case.redis.command(
            "HSET", f"sluice:auth:{DOMAIN}",
            "192.0.2.1 a.test", "2 1 1700000000 1700000060 sp1ss1 mx",
            "192.0.2.2 a.test", "nonsense", "nothing", "", "", "",
            "192.0.2.3 b.test", "x" * 5000)
        report = case.sluice("auth", "report", DOMAIN, "--json").json
        expect("rows", [row["client"] for row in report["senders"]],
               ["192.0.2.1"])
        case.redis.command("DEL", f"sluice:auth:{DOMAIN}")
        case.redis.command("SET", f"sluice:auth:{DOMAIN}", "x")
        result = case.sluice("auth", "report", DOMAIN)
        expect(f"exit: {result.err}", result.code, 69)
