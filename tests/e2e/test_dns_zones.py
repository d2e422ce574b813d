"""sluice dns and zones as they are found: wildcards, texts of several strings, signed
zones, names of other zones, two domains in one, a hidden primary."""

import os

from dns_case import DOMAIN, PLAN, RECORDS, dns_case
from harness import expect, expect_true
from parts.dns import Dns

CHECK, SERVICE, AGAIN = 1, 69, 75


ODD = RECORDS[:-1] + [
    # Of wildcards: what is asked for is answered, and is not in the zone.
    "* 300 A 192.0.2.50", "* 300 TXT \"wild\"",
    # Strings as they are, bytes that are no ASCII, none at all.
    "@ 300 TXT \"foo=1\" \"bar=2\"", "@ 300 TXT \"b\\255\\000\\\"q\\\\x\" \"\"",
    "s1._domainkey 300 TXT \"v=DKIM1; \" \"p=AAAA\"",
    "@ 300 MX 20 MX3.Old", "mx3.old 300 A 192.0.2.3", "pop 300 A 192.0.2.1"]
ODD_PLAN = PLAN + """\
  record "TXT" { name = "s1._domainkey" value = {"v=DKIM1; p="} }
  record "CNAME" { name = "pop" value = {"mx1.new.example.test."} }
"""


def test_odd_zones():
    """There and back leave a zone as it was: wildcards, texts of several strings, bytes,
    upper case; and where the server signs it."""
    def zone(case):
        return [row for row in case.first.dump(DOMAIN) if row.split()[3] not in
                ("RRSIG", "NSEC", "NSEC3", "NSEC3PARAM", "DNSKEY", "CDS", "CDNSKEY")]
    with dns_case(records=ODD, plan=ODD_PLAN) as case:
        case.alone()
        case.configure(timeout=5000, plan=ODD_PLAN)
        before = zone(case)
        for how in ("plain", "signed"):
            if how == "signed":
                case.first.sign()
            result = case.sluice("apply", DOMAIN, "--yes", "--json", "--timeout",
                                 "5")
            expect(f"{how}: {result.err}", result.code, 0)
            expect(f"{how}: what is of a wildcard is not removed", [
                row["before"]["values"] for row in result.json["changes"]
                if row["name"] in ("imap." + DOMAIN, "_dmarc." + DOMAIN)], [[], []])
            expect(f"{how}: others' texts", [row for row in case.first.live(
                DOMAIN, "TXT") if "bar" in row or "255" in row],
                ['600 "b\\255\\000\\"q\\\\x" ""', '600 "foo=1" "bar=2"'])
            expect(f"{how}: in the place of an address", case.first.live(
                "pop." + DOMAIN, "CNAME"), [f"600 mx1.new.{DOMAIN}."])
            result = case.sluice("check", DOMAIN, "--json")
            expect(f"{how}: as planned: {result.err}", result.json["as_planned"], True)
            result = case.sluice("apply", DOMAIN, "--yes", "--back", "--timeout",
                                 "5")
            expect(f"{how}, back: {result.err}", result.code, 0)
            expect(f"{how}: as it was", zone(case), before)


def test_a_wildcard_is_in_caches_too():
    records = RECORDS[:-1] + ["* 86400 A 192.0.2.50"]
    with dns_case(records=records) as case:
        case.alone()
        case.configure(timeout=5000)
        result = case.sluice("check", DOMAIN, "--rules", "--rule", "ttl")
        expect_true(f"its TTL is too long: {result.err}", result.code == CHECK and
                    f"imap.{DOMAIN} A is made by a wildcard" in result.err)
        expect("apply", case.sluice("apply", DOMAIN, "--yes").code, 0)
        result = case.sluice("wait", DOMAIN, "--dry-run", "--json")
        expect(f"what is waited for: {result.err}", result.json["old_ttl"], 86400)


def test_names_of_other_zones():
    plan = PLAN.replace("ip4:198.51.100.0/24", "a:cdn.example.test "
                        "include:spf.example.test a:pop.example.test") + """\
  record "CNAME" { name = "s1._domainkey" value = {"k.example.test."} }
  record "CNAME" { name = "pop" value = {"cdn.example.test."} }
"""
    records = RECORDS + ["cdn CNAME web.other.", "spf CNAME spf.other.",
                         "k CNAME k.other.", "_domains NS ns.other."]
    with dns_case(records=records, plan=plan) as case:
        # What a server of the zone does not follow, the resolver does.
        case.first.zone("other", ["web A 192.0.2.200",
                                  'spf TXT "v=spf1 ip4:192.0.2.77 -all"',
                                  'k TXT "v=DKIM1; p="'])
        case.first.reload()
        case.alone()
        senders = os.path.join(case.directory, "senders")
        with open(senders, "w", encoding="utf-8") as file:
            file.write("192.0.2.200\n192.0.2.77\n")
        case.configure(timeout=5000, plan=plan)
        document = case.sluice("check", DOMAIN, "--rules", "--json", "--senders",
                               senders).json
        found = {(row["rule"], row["result"]): row["text"] for row in document["rules"]}
        expect_true(f"SPF behind CNAMEs: {found}", "3 of 10 DNS lookups, 0 of 2 void" in
                    found.get(("spf-lookups", "pass"), "")
                    and "2 known senders" in found.get(("spf-senders", "pass"), ""))
        expect_true(f"the key behind two: {found}", "is revoked" in
                    found.get(("dkim-valid", "fail"), ""))
        case.configure(timeout=5000, plan=PLAN + '  record "TXT" { name = "a._domains" '
                       'value = {"x"} }\n')
        result = case.sluice("check", DOMAIN)
        expect_true(f"in another zone: {result.err}", result.code == SERVICE and
                    f"is in another zone, _domains.{DOMAIN}" in result.err)
        case.configure(timeout=5000)
        case.by_hand(f"delete imap.{DOMAIN}. A",
                f"add imap.{DOMAIN}. 60 CAA 0 issue \"ca.test\"")
        result = case.sluice("apply", DOMAIN, "--yes")
        expect_true(f"a type that it does not ask for: {result.err}", result.code == AGAIN
                    and "records of another type (as CAA)" in result.err)
        expect("nothing half", case.first.live(DOMAIN, "MX"),
               [f"300 10 mx.old.{DOMAIN}."])


def test_an_international_domain():
    """In sluice.conf and on the command line as people write it."""
    ascii_name = "xn--bcher-kva.test"
    with dns_case() as case:
        case.first.zone(ascii_name, RECORDS)
        case.first.reload()
        case.parent.zone("test", ["xn--bcher-kva NS ns.xn--bcher-kva",
                                  "ns.xn--bcher-kva A 127.0.0.1"])
        case.parent.reload()
        case.configure(timeout=5000, plan=PLAN.replace("new.example.test",
                                                       f"new.{ascii_name}"))
        with open(case.config, encoding="utf-8") as file:
            text = file.read()
        with open(case.config, "w", encoding="utf-8") as file:
            file.write(text.replace('domain "example.test"', 'domain "bücher.test"'))
        for name in ("bücher.test", "BÜCHER.test", ascii_name):
            result = case.sluice("diff", name, "--json")
            expect(f"{name}: {result.err}", result.code, 0)
            expect(f"{name}: zone", result.json["zone"], ascii_name)
        result = case.sluice("apply", "bücher.test", "--yes")
        expect(f"apply: {result.err}", result.code, 0)
        result = case.sluice("check", "bücher.test", "--json")
        expect(f"check: {result.err}", result.json["as_planned"], True)


SUB = '}\ndomain "sub.example.test" {\n  new = "[198.51.100.1]:25"\n'


def test_two_domains_of_a_zone():
    """And the parent's server has the zone, too; a resolver finds it."""
    sub = "sub." + DOMAIN
    with dns_case(records=RECORDS + ["sub 300 MX 10 mx.old"]) as case:
        case.second.stop()
        case.first.zone(DOMAIN, case.records)  # its one name server is this one
        case.first.zone("test", ["example NS ns.example", "ns.example A 127.0.0.1"])
        case.first.reload()
        case.configure(timeout=5000, plan=PLAN + SUB + PLAN, parent="")
        before = case.first.dump(DOMAIN)
        for domain, other in ((DOMAIN, sub), (sub, DOMAIN)):
            kept = case.first.live(other, "MX")
            result = case.sluice("apply", domain, "--yes", "--json")
            expect(f"{domain}: {result.err}", (result.code, result.json["zone"]),
                   (0, DOMAIN))
            expect(f"{domain} is changed", len(case.first.live(domain, "MX")), 2)
            expect(f"{other} is not", case.first.live(other, "MX"), kept)
        for domain in (DOMAIN, sub):
            result = case.sluice("apply", domain, "--yes", "--back")
            expect(f"{domain} back: {result.err}", result.code, 0)
        expect("as it was", case.first.dump(DOMAIN), before)


def test_a_hidden_primary():
    """Updates go to a server that is not in the delegation."""
    with dns_case() as case:
        case.second.stop()
        case.first.stop()
        shown = Dns(os.path.join(case.directory, "shown"), case.take_port())
        shown.also_listen = [f"127.0.0.2@{case.port}"]
        shown.follow(case.first, DOMAIN)
        case.parent.zone("test", ["example NS ns2.example", "ns2.example A 127.0.0.2"])
        case.parent.reload()
        case.first.start()
        shown.start()
        case.configure(timeout=5000)
        try:
            before = shown.dump(DOMAIN)
            result = case.sluice("apply", DOMAIN, "--yes")
            expect(f"there: {result.err}", result.code, 0)
            shown.behind()
            result = case.sluice("apply", DOMAIN, "--yes", "--back", "--timeout", "1")
            expect_true(f"it lags: {result.err}", result.code == AGAIN and
                        "has not taken it over yet: look" in result.err)
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            expect_true(f"so what it says is old: {result.err}", result.code == AGAIN
                        and "lag behind it" in result.err)
            shown.caught_up()
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            expect(f"back: {result.err}", result.code, 0)
            expect("as it was", shown.dump(DOMAIN), before)
            # There, and back at once: those that are shown have not even begun.
            shown.behind()
            result = case.sluice("apply", DOMAIN, "--yes", "--timeout", "1")
            expect(f"it lags: {result.err}", result.code, AGAIN)
            result = case.sluice("apply", DOMAIN, "--yes", "--back", "--timeout", "1")
            expect_true(f"the way back is not done: {result.out}{result.err}",
                        result.code == AGAIN and "lag behind it" in result.err)
            shown.caught_up()
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            expect(f"back: {result.err}", result.code, 0)
            expect("as it was", shown.dump(DOMAIN), before)
            serial = case.first.live(DOMAIN, "SOA")
            result = case.sluice("apply", DOMAIN, "--yes", "--back")
            expect(f"again: {result.err}", result.code, 0)
            expect("asking changes nothing", case.first.live(DOMAIN, "SOA"), serial)
        finally:
            shown.stop()
