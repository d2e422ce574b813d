"""sluice dns against real servers: from the parent zone to the planned records,
and back."""

import glob
import json
import os
import re
import time

from dns_case import DOMAIN, PLAN, RECORDS, dns_case
from harness import expect, expect_true
from parts.dns import Tsig
from parts.process import run
from parts.redis import Redis

CHECK, USAGE, DATA, SERVICE, AGAIN = 1, 64, 65, 69, 75
MX, TXT = (DOMAIN, "MX"), (DOMAIN, "TXT")


def test_check_before_the_change():
    with dns_case() as case:
        result = case.sluice("check", DOMAIN, "--json")
        expect(f"exit: {result.err}", result.code, CHECK)
        document = result.json
        expect("zone", document["zone"], DOMAIN)
        states = case.states(document)
        for number in (0, 1):
            expect("MX", states[(*MX, number)], "wrong")
            expect("SPF", states[(*TXT, number)], "wrong")
            expect("DMARC", states["_dmarc." + DOMAIN, "TXT", number],
                   "missing")
        expect("a resolver is not asked for what is not there",
               states["_dmarc." + DOMAIN, "TXT", 2], "not asked")
        rules = case.rules(document)
        expect("ns", rules["ns"], "pass")
        expect("ttl", rules["ttl"], "pass")
        expect("alias", rules["alias"], "fail")
        expect("spf", rules["spf-valid"], "pass")
        text = case.sluice("check", DOMAIN).out
        expect_true(f"both values: {text}", "10 mx.old.example.test." in text
                    and "10 mx1.new.example.test." in text)


def test_there_and_back():
    with dns_case() as case:
        before = {type: case.first.live(DOMAIN, type)
                  for type in ("MX", "TXT", "A")}
        imap = case.first.live("imap." + DOMAIN, "A")
        result = case.sluice("apply", DOMAIN)
        expect("nobody to ask", result.code, USAGE)
        result = case.sluice("apply", DOMAIN, "--dry-run", "--json")
        expect(f"dry: {result.err}", result.code, 0)
        expect("nothing changed", case.first.live(DOMAIN, "MX"), before["MX"])
        diff = case.sluice("diff", DOMAIN, "--json").json
        expect_true(f"prerequisites: {diff}", "prereq yxrrset" in
                    diff["nsupdate"] and diff["nsupdate"].endswith("send\n"))

        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        expect(f"the second server lags: {result.err}", result.code, AGAIN)
        expect_true(f"it is named: {result.err}", "127.0.0.2" in result.err)
        expect("MX", case.first.live(DOMAIN, "MX"),
               ["600 10 mx1.new.example.test.",
                "600 20 mx2.new.example.test."])
        expect_true("others' TXT stays", any(
            "site-verification" in row
            for row in case.first.live(DOMAIN, "TXT")))
        expect("address gone", case.first.live("imap." + DOMAIN, "A"), [])
        states = case.states(case.check())
        expect("first", states[(*MX, 0)], "as planned")
        expect("second", states[(*MX, 1)], "not yet")
        expect("rule", case.rules(case.check())["ns"], "fail")

        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        expect(f"it still lags: {result.err}", result.code, AGAIN)
        expect_true(result.err, "nothing to change, but ns2.example.test "
                    "(127.0.0.2" in result.err)
        case.second.stop()
        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        expect_true(f"and is down: {result.err}", result.code == AGAIN
                    and "does not say whether" in result.err)
        case.second.start()

        result = case.sluice("apply", DOMAIN, "--back", "--yes",
                             "--timeout", "5")
        expect(f"back: {result.err}", result.code, 0)
        for type, rows in before.items():
            expect(type, case.first.live(DOMAIN, type), rows)
        expect("imap", case.first.live("imap." + DOMAIN, "A"), imap)
        expect("no CNAME", case.first.live("imap." + DOMAIN, "CNAME"), [])
        result = case.sluice("apply", DOMAIN, "--back", "--yes")
        expect_true(f"a second way back goes nowhere: {result.out}",
                    "nothing to change" in result.out)


def test_snapshots_are_kept():
    with dns_case() as case:
        names = set()
        for _ in range(3):
            result = case.sluice("snapshot", DOMAIN, "--json")
            expect(f"exit: {result.err}", result.code, 0)
            names.add(result.json["snapshot"])
        files = glob.glob(f"{case.directory}/state/dns/{DOMAIN}/*.zone")
        expect("every one", len(files), 3)
        expect("names", {os.path.basename(path)[:-5] for path in files}, names)
        with open(files[0], encoding="utf-8") as file:
            text = file.read()
        expect_true(text, f"{DOMAIN}. 300 IN MX 10 mx.old.{DOMAIN}." in text)
        expect_true("what was not there is noted",
                    f"; asked _dmarc.{DOMAIN} TXT\n" in text)
        with open(files[0], "w", encoding="utf-8") as file:
            file.write(text[:len(text) // 2])
        result = case.sluice("diff", DOMAIN, "--back")
        expect("a damaged one", result.code, SERVICE)
        expect_true(result.err, "is not whole" in result.err)


def test_wait_for_the_way_back():
    fast = [re.sub(r" 300 ", " 1 ", record) for record in RECORDS]
    plan = PLAN.replace("} ttl = 600 }", "} ttl = 1 }")
    plan = "\n".join(line for line in plan.splitlines() if '"MX"' in line) + "\n"
    with dns_case(records=fast, plan=plan) as case:
        case.second.stop()
        case.parent.zone("test", ["example NS ns.example",
                                  "ns.example A 127.0.0.1"])
        case.parent.reload()
        result = case.sluice("wait", DOMAIN, "--back")
        expect(f"no snapshot: {result.err}", result.code, DATA)
        case.sluice("apply", DOMAIN, "--yes")
        result = case.sluice("wait", DOMAIN, "--back", "--timeout", "1")
        expect(f"not gone back: {result.err}", result.code, AGAIN)
        expect_true(result.err, "does not have the snapshot's records" in
                    result.err)
        result = case.sluice("apply", DOMAIN, "--back", "--yes")
        expect(f"back: {result.err}", result.code, 0)
        began = time.monotonic()
        result = case.sluice("wait", DOMAIN, "--back", "--json")
        expect(f"done: {result.err}", result.code, 0)
        expect("TTL of the new ones", result.json["old_ttl"], 1)
        expect_true("twice", time.monotonic() - began > 1.1)
        # Forward again: the countdown before is not taken for this one's.
        case.sluice("apply", DOMAIN, "--yes")
        began = time.monotonic()
        result = case.sluice("wait", DOMAIN)
        expect(f"forward: {result.err}", result.code, 0)
        expect_true("anew", time.monotonic() - began > 1.1)


def test_wait():
    fast = [re.sub(r" 300 ", " 1 ", record) for record in RECORDS]
    plan = "\n".join(line for line in PLAN.splitlines() if '"MX"' in line) + "\n"
    with dns_case(records=fast, plan=plan) as case:
        result = case.sluice("wait", DOMAIN)
        expect("no snapshot", result.code, DATA)
        case.sluice("snapshot", DOMAIN)
        result = case.sluice("wait", DOMAIN, "--timeout", "1")
        expect(f"not changed yet: {result.err}", result.code, AGAIN)
        case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        result = case.sluice("wait", DOMAIN, "--timeout", "1")
        expect(f"one lags: {result.err}", result.code, AGAIN)
        case.follow([r for r in fast if " MX " not in r]
                    + ["@ 600 MX 10 mx1.new", "@ 600 MX 20 mx2.new"])
        began = time.monotonic()
        result = case.sluice("wait", DOMAIN, "--json")
        expect(f"done: {result.err}", result.code, 0)
        expect("TTL noted", result.json["old_ttl"], 1)
        expect_true("twice the TTL", 2 <= time.monotonic() - began + 0.9)
        began = time.monotonic()
        expect("again", case.sluice("wait", DOMAIN).code, 0)
        expect_true("at once", time.monotonic() - began < 1.5)


def test_lower_the_ttl():
    slow = [re.sub(r" 300 ", " 86400 ", record) for record in RECORDS]
    with dns_case(records=slow) as case:
        expect("rule", case.rules(case.check())["ttl"], "fail")
        result = case.sluice("apply", DOMAIN, "--lower-ttl", "--yes",
                             "--timeout", "1")
        expect(f"the second has the long ones: {result.err}", result.code,
               AGAIN)
        expect("MX", case.first.live(DOMAIN, "MX"),
               [f"600 10 mx.old.{DOMAIN}."])
        expect_true("TXT", all(row.startswith("600 ") for row in
                               case.first.live(DOMAIN, "TXT")))
        case.follow([re.sub(r" 300 ", " 600 ", record) for record in RECORDS])
        for text in ("since when is not known", "caches may keep it until"):
            document = case.check()
            expect("the long TTL is over at the servers",
                   case.rules(document).get("ttl"), None)
            expect_true(f"but not in caches: {text}", any(
                row["rule"] == "ttl-old" and text in row["text"]
                for row in document["rules"]))
            result = case.sluice("snapshot", DOMAIN)
            expect(f"snapshot: {result.err}", result.code, 0)


def test_wait_for_the_lower_ttl():
    """Once the old TTL, from when the servers have the short one."""
    slow = [re.sub(r" 300 ", " 3 ", record) for record in RECORDS]
    plan = '  record "MX" { name = "@" value = {"10 mx1.new.example.test."} ' \
        'ttl = 1 }\n'
    with dns_case(records=slow, plan=plan) as case:
        case.sluice("snapshot", DOMAIN)
        result = case.sluice("wait", DOMAIN, "--lower-ttl", "--timeout", "1")
        expect(f"not lowered: {result.err}", result.code, AGAIN)
        expect_true(result.err, "still has the long TTLs" in result.err)
        case.sluice("apply", DOMAIN, "--lower-ttl", "--yes", "--timeout", "1")
        case.follow([re.sub(r" 3 ", " 1 ", record) for record in slow])
        began = time.monotonic()
        result = case.sluice("wait", DOMAIN, "--lower-ttl", "--json")
        expect(f"lowered: {result.err}", result.code, 0)
        expect("the long one", result.json["old_ttl"], 3)
        expect_true("run out", time.monotonic() - began > 1.1)


def test_a_part_of_the_plan():
    with dns_case() as case:
        for words, names in [
                (["--only", "@"], {DOMAIN}),
                (["--only", "imap", "--only", "_dmarc"],
                 {"imap." + DOMAIN, "_dmarc." + DOMAIN}),
                (["--only", "@/MX"], {DOMAIN}),
                (["--except", "@"], {"imap." + DOMAIN, "_dmarc." + DOMAIN})]:
            document = case.sluice("diff", DOMAIN, "--json", *words).json
            expect(f"{words}", {row["name"] for row in document["changes"]},
                   names)
        for words, code, text in [
                (["--only", "smtp"], DATA, "has no such record section"),
                (["--only", "@", "--except", "imap"], USAGE, "not both")]:
            result = case.sluice("diff", DOMAIN, *words)
            expect(f"{words}: {result.err}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
        before = case.sluice("check", DOMAIN, "--json", "--rules").json
        rules = case.rules(before)
        expect("no records", before["records"], [])
        expect("what the change mends", (rules["alias"], rules["dmarc-policy"]),
               ("note", "note"))
        result = case.sluice("check", DOMAIN, "--json", "--rules",
                             "--rule", "ns")
        expect(f"name servers: {result.err}", result.code, 0)
        expect("alone", case.rules(result.json), {"ns": "pass"})
        result = case.sluice("check", DOMAIN, "--rules", "--rule", "nonsense")
        expect(f"unknown: {result.err}", result.code, DATA)


def test_refused_keys():
    with dns_case() as case:
        for key, text in [
                (Tsig(case.key.name), "BADSIG"),
                (Tsig("another"), "BADKEY")]:
            key.write(case.key_file)
            result = case.sluice("apply", DOMAIN, "--yes")
            expect(f"exit: {result.err}", result.code, CHECK)
            expect_true(f"{text} in {result.err}", text in result.err)
        os.chmod(case.key_file, 0o644)
        result = case.sluice("apply", DOMAIN, "--yes")
        expect_true(f"mode: {result.err}", result.code == 78
                    and "chmod 0600" in result.err)
        case.configure(more=f'server = "{case.first.server}"')
        result = case.sluice("apply", DOMAIN, "--yes")
        expect_true(f"no key: {result.err}", result.code == CHECK
                    and "refuses the update" in result.err)
        expect("nothing changed", case.first.live(DOMAIN, "MX"),
               [f"300 10 mx.old.{DOMAIN}."])


def test_a_command_instead():
    with dns_case() as case:
        script = os.path.join(case.directory, "apply")
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nexec knsupdate -t 1 -r 0 -k {case.key_file}.knot "
                       f"\"$1\"\n")
        with open(case.key_file + ".knot", "w", encoding="utf-8") as file:
            file.write(f"{case.key.algorithm}:{case.key.name}:"
                       f"{case.key.secret}\n")
        os.chmod(script, 0o755)
        case.configure(more=f'command = {{"{script}"}}')
        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        # No "server" line: knsupdate would ask port 53, which nobody serves.
        expect_true(f"its failure is said: {result.code} {result.err}",
                    result.code in (CHECK, AGAIN) and script in result.err)
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n(echo server 127.0.0.1 {case.port}; "
                       f"cat \"$1\") | knsupdate -k {case.key_file}.knot\n")
        case.follow(["@ 600 MX 10 mx1.new", "@ 600 MX 20 mx2.new",
                     "@ 600 TXT \"v=spf1 ip4:198.51.100.0/24 -all\"",
                     "@ 600 TXT \"site-verification=abc\"",
                     "_dmarc 600 TXT \"v=DMARC1; p=none\"",
                     "imap 600 CNAME mx1.new"])
        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "5")
        expect(f"exit: {result.err}", result.code, 0)
        expect("MX", len(case.first.live(DOMAIN, "MX")), 2)
        # One that takes the change, and whose servers show it later: the way back at once
        # does not say that there is nothing to do.
        case.alone()
        with open(script, encoding="utf-8") as file:
            works = file.read()
        with open(script, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\ncp \"$1\" {case.directory}/taken\n")
        result = case.sluice("apply", DOMAIN, "--yes", "--back", "--timeout", "1")
        expect(f"it lags: {result.err}", result.code, AGAIN)
        result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        expect_true(f"on its way: {result.out}{result.err}", result.code == AGAIN
                    and "name servers do not have it yet" in result.err)
        with open(script, "w", encoding="utf-8") as file:
            file.write(works)
        run(["sh", script, os.path.join(case.directory, "taken")])
        result = case.sluice("apply", DOMAIN, "--yes", "--back")
        expect(f"now it has come: {result.err}", result.code, 0)
        result = case.sluice("apply", DOMAIN, "--yes")
        expect(f"and there again: {result.err}", result.code, 0)
        result = case.sluice("apply", DOMAIN, "--yes")
        expect(f"nothing to do: {result.err}", result.code, 0)


def test_servers_in_trouble():
    with dns_case() as case:
        case.second.stop()
        document = case.check()
        expect("second", case.states(document)[(*MX, 1)], "no answer")
        expect("rule", case.rules(document)["ns"], "fail")
        case.first.stop()
        result = case.sluice("check", DOMAIN)
        expect(f"none: {result.err}", result.code, SERVICE)
        case.parent.stop()
        result = case.sluice("check", DOMAIN)
        expect(f"no parent: {result.err}", result.code, SERVICE)
        expect_true(result.err, "parent zone" in result.err)


def test_a_zone_delegated_to_nowhere():
    with dns_case() as case:
        case.parent.zone("test", ["other NS ns.other", "ns.other A 127.0.0.1"])
        case.parent.reload()
        result = case.sluice("check", DOMAIN)
        expect(f"exit: {result.err}", result.code, SERVICE)
        expect_true(result.err, "delegates it to nobody" in result.err)


def test_rules():
    wrong = """\
  record "MX" { name = "@" value = {"10 alias.example.test.", "20 gone.example.test."} }
  record "TXT" { name = "@" value = {"v= spf1 mx -all"} }
  record "TXT" { name = "s1._domainkey" value = {"v=DKIM1; k=rsa; p=MIGf"} }
  record "TXT" { name = "_dmarc" value = {"v=DMARC1; p=refuse"} }
"""
    with dns_case(plan=wrong, records=RECORDS + ["alias 300 CNAME imap"]) as case:
        document = case.check()
        rules = case.rules(document)
        for rule in ("mx-target", "spf-valid", "dkim-valid", "dmarc-valid"):
            expect(f"{rule} of {json.dumps(document['rules'], indent=1)}",
                   rules.get(rule), "fail")
        expect_true("each with its fix", all(
            row["fix"] for row in document["rules"] if row["result"] != "pass"))


def test_senders():
    with dns_case() as case:
        path = os.path.join(case.directory, "senders")
        with open(path, "w", encoding="utf-8") as file:
            file.write("198.51.100.7\n192.0.2.1 # the old one\n")
        document = case.sluice("check", DOMAIN, "--json", "--senders",
                               path).json
        rows = [row for row in document["rules"]
                if row["rule"] == "spf-senders"]
        expect("results", sorted(row["result"] for row in rows),
               ["fail", "note", "pass"])  # note: there is no Redis
        expect_true("which", any("192.0.2.1 sends as" in row["text"]
                                 for row in rows))


def test_known_senders():
    """Those whose mail sluice-milter saw, from Redis."""
    rows = [
        "198.51.100.7 example.test", "9 0 1700000000 1700000060 sp9dp9mp9 mx",
        "192.0.2.77 example.test", "3 0 1700000000 1700000060 sp3mp3 crm",
        "192.0.2.78 ", "2 0 1700000000 1700000060 sn2dp2mp2 list",
        "192.0.2.79 bulk.test", "2 0 1700000000 1700000060 sp2dp2mp2 bulk",
        "203.0.113.9 example.test", "5 5 1700000000 1700000060 sf5mf5 forger"]
    with dns_case() as case:
        redis = Redis(os.path.join(case.directory, "redis"), case.take_port())
        redis.start()
        try:
            case.configure(redis=redis.unix_url)
            redis.command("HSET", f"sluice:auth:{DOMAIN}", *rows)
            document = case.check()
        finally:
            redis.stop()
        found = {(row["rule"], row["result"]): row["text"]
                 for row in document["rules"] if row["rule"].startswith("spf-s")}
        expect("results", sorted(found), [
            ("spf-senders", "fail"), ("spf-senders", "note"),
            ("spf-senders", "pass"), ("spf-strangers", "note")])
        for key, text in [
                (("spf-senders", "fail"), "192.0.2.77 sends as"),
                (("spf-senders", "note"), "192.0.2.78 sends as"),
                (("spf-senders", "pass"), "1 known sender of"),
                (("spf-strangers", "note"), "1 host sent as")]:
            expect_true(f"{text!r} in {found[key]!r}", text in found[key])


def test_a_long_text():
    """Past 1232 bytes an answer comes by TCP; past 255 a text is split."""
    text = "v=spf1 " + " ".join(f"ip4:198.51.100.{n}" for n in range(120)) \
        + " -all"
    plan = f'  record "TXT" {{ name = "@" value = {{"{text}"}} }}\n'
    with dns_case(plan=plan) as case:
        case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        document = case.check()
        expect("state", case.states(document)[(*TXT, 0)], "as planned")
        answer = document["records"][0]["answers"][0]
        expect_true("whole", text in answer["values"])
        expect("valid", case.rules(document)["spf-valid"], "pass")


def test_the_zone_changes_meanwhile():
    """The update that was planned for another zone does nothing."""
    with dns_case() as case:
        diff = case.sluice("diff", DOMAIN, "--json").json["nsupdate"]
        batch = os.path.join(case.directory, "batch")
        with open(batch, "w", encoding="utf-8") as file:
            file.write(f"server 127.0.0.1 {case.port}\n{diff}")
        case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
        after = case.first.live(DOMAIN, "MX")
        with open(case.key_file + ".knot", "w", encoding="utf-8") as file:
            file.write(f"{case.key.algorithm}:{case.key.name}:"
                       f"{case.key.secret}\n")
        code, out, err = run(["knsupdate", "-k", case.key_file + ".knot",
                              batch], check=False)
        expect_true(f"refused: {out} {err}", "NXRRSET" in out + err
                    or code != 0)
        expect("untouched", case.first.live(DOMAIN, "MX"), after)


def test_usage():
    with dns_case() as case:
        for words, code, text in [
                (["check"], USAGE, "sluice dns snapshot|check"),
                (["chek", DOMAIN], USAGE, "sluice dns snapshot|check"),
                (["check", "nobody.test"], DATA, "is not a domain of"),
                (["check", DOMAIN, "--back"], USAGE, "for diff, apply and wait"),
                (["diff", DOMAIN, "--yes"], USAGE, "--yes is for apply"),
                (["apply", DOMAIN, "--senders", "x"], USAGE, "is for check"),
                (["diff", DOMAIN, "--back"], DATA, "nothing to go back to"),
                (["diff", DOMAIN, "--format", "xml"], USAGE, "nsupdate")]:
            result = case.sluice(*words)
            expect(f"exit of {words}: {result.err}", result.code, code)
            expect_true(f"{text!r} in {result.err!r}", text in result.err)
