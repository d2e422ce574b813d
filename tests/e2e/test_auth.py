"""SPF, DKIM and DMARC through the real Postfix: what the header and the log say."""

import json
import signal

from auth_case import (A, CLIENT, HELO, OTHER_CLIENT, SENDER, SENDER_DOMAIN,
                       auth_host, auth_section, results_of, verdicts)
from dns_hostile import SERVFAIL, SILENT
from harness import address, expect, expect_true, sluice_lab, wait_until
from lab import DOMAIN, OUTSIDE
from milter_client import added
from milter_host import B, C


# ---- every result --------------------------------------------------------

def test_spf_results():
    wanted = {
        "pass": "v=spf1 ip4:192.0.2.25 -all",
        "fail": "v=spf1 ip4:203.0.113.1 -all",
        "softfail": "v=spf1 ~all",
        "neutral": "v=spf1 ?all",
        "none": "no SPF",
        "permerror": "v=spf1 ip4:300.1.1.1 -all",
        "temperror": SERVFAIL,
    }
    records = {(f"{name}.test", "TXT"): value for name, value in wanted.items()}
    with auth_host(records) as host:
        for name in wanted:
            host.send(name, sender=f"a@{name}.test", author=SENDER)
        host.send("helo", sender="", author=SENDER)
        found = host.delivered()
        expect("results", {id: found[id].verdicts["spf"] for id in wanted},
               {name: name for name in wanted})
        for name in wanted:
            mail_from, helo = found[name].of("spf")
            expect(f"{name}: smtp.mailfrom",
                   mail_from.properties["smtp.mailfrom"], f"a@{name}.test")
            expect(f"{name}: HELO", (helo.value, helo.properties["smtp.helo"]),
                   ("pass", HELO))
        expect("null sender: HELO alone",
               [(result.value, result.properties.get("smtp.mailfrom"),
                 result.properties.get("smtp.helo"))
                for result in found["helo"].of("spf")], [("pass", None, HELO)])
        (_, value), = added(host.socket, "2001:db8::25", HELO, SENDER)[0]
        expect("IPv6", verdicts(results_of(value))["spf"], "pass")
        log = host.milter.log()
        for name in wanted:
            expect_true(f"spf={name} in the log", f" spf={name} " in log)


def test_dkim_results():
    with auth_host() as host:
        weak = host.add_key(selector="weak", bits=512)
        old = host.add_key(selector="old", algorithm="rsa-sha1")
        edwards = host.add_key(selector="ed", algorithm="ed25519-sha256")
        untold = host.add_key(selector="ed2", algorithm="ed25519-sha256",
                              publish=False)
        host.dns.put(untold.name, "TXT", f"v=DKIM1; p={untold.public}")
        broken = host.add_key(selector="broken", publish=False)
        host.dns.put(broken.name, "TXT", "v=DKIM1; k=rsa; p=@@@@")
        absent = host.add_key(selector="absent", publish=False)
        late = host.add_key(selector="late", publish=False)
        host.dns.put(late.name, "TXT", SILENT)
        host.send("none")
        host.send("pass", key=host.key)
        host.send("simple", key=host.key, c="simple/simple")
        host.send("ed25519", key=edwards)
        host.send("fail", text=host.key.sign(
            "From: someone@senders.test\nX-Lab-Id: fail\n\nBefore.\n").decode()
            .replace("Before.", "After."))
        for id, key in {"weak": weak, "sha1": old, "no k": untold,
                        "broken": broken, "absent": absent,
                        "late": late}.items():
            host.send(id, key=key)
        host.send("neutral", extra="DKIM-Signature: v=1; a=rsa-sha256; d=;\n")
        host.send("two", text=host.key.sign(absent.sign(
            "From: someone@senders.test\nX-Lab-Id: two\n\nText.\n")).decode(),
            extra="DKIM-Signature: malformed\n")
        found = host.delivered()
        signed = found["pass"].of("dkim")[0].properties
        expect("properties", (signed["header.d"], signed["header.s"],
                              signed["header.a"]),
               (SENDER_DOMAIN, "lab", "rsa-sha256"))
        expect_true(f"header.b {signed}", len(signed["header.b"]) >= 8)
        values = {id: each.verdicts["dkim"] for id, each in found.items()}
        expect("results", values, {
            "none": "none", "pass": "pass", "simple": "pass",
            "ed25519": "pass", "fail": "fail", "weak": "policy",
            "sha1": "policy", "no k": values["no k"], "broken": "permerror",
            "absent": "permerror", "late": "temperror",
            "neutral": values["neutral"], "two": values["two"]})
        expect_true(f"an Ed25519 key without k= does not verify: {values}",
                    values["no k"] in ("fail", "permerror"))
        expect_true(f"malformed: {values}",
                    values["neutral"] in ("neutral", "permerror"))
        expect_true("a malformed one hides none of the others",
                    {"pass", "permerror"} <= {
                        result.value for result in found["two"].of("dkim")})


def test_dmarc_results():
    policy = {"one.test": "v=DMARC1; p=reject; sp=quarantine",
              "strict.test": "v=DMARC1; p=reject; aspf=s; adkim=s",
              "broken.test": SERVFAIL}
    records = {(f"_dmarc.{name}", "TXT"): value
               for name, value in policy.items()}
    for name in (*policy, "sub.one.test", "sub.strict.test", "no.test"):
        records[name, "TXT"] = "v=spf1 ip4:192.0.2.25 -all"
    records["_dmarc.twice.test", "TXT"] = ["v=DMARC1; p=reject"] * 2
    with auth_host(records) as host:
        signer = host.add_key("one.test")
        host.send("by spf", sender="a@one.test")
        host.send("relaxed", sender="a@sub.one.test", author="a@one.test")
        host.send("by dkim", sender="a@no.test", author="a@one.test",
                  key=signer)
        host.send("strict", sender="a@sub.strict.test", author="a@strict.test")
        host.send("fail", sender="a@no.test", author="a@one.test")
        host.send("sp", sender="a@no.test", author="a@sub.one.test")
        host.send("none", sender="a@no.test")
        host.send("twice", sender="a@no.test", author="a@twice.test")
        host.send("temperror", sender="a@no.test", author="a@broken.test")
        host.send("several", sender="a@one.test",
                  author="a@one.test, b@other.test")
        host.send("two From", sender="a@one.test",
                  extra="From: a@one.test\n")
        host.send("no From", sender="a@one.test",
                  text="X-Lab-Id: no From\n\nText.\n")
        found = host.delivered()
        expect("results", {id: each.verdicts["dmarc"]
                           for id, each in found.items()}, {
            "by spf": "pass", "relaxed": "pass", "by dkim": "pass",
            "strict": "fail", "fail": "fail", "sp": "fail", "none": "none",
            "twice": "none", "temperror": "temperror",
            "several": found["several"].verdicts["dmarc"],
            "two From": found["two From"].verdicts["dmarc"],
            "no From": found["no From"].verdicts["dmarc"]})
        for id in ("several", "two From", "no From"):
            expect_true(f"{id} never passes",
                        found[id].verdicts["dmarc"] != "pass")
        expect("header.from",
               found["sp"].of("dmarc")[0].properties["header.from"],
               "sub.one.test")
        expect_true(f"sp applies: {found['sp'].of('dmarc')}",
                    "quarantine" in found["sp"].of("dmarc")[0].text)


# ---- forged fields -------------------------------------------------------

FORGED = (
    "{id}; spf=pass", "{ID}; dkim=pass", '"{id}"; dmarc=pass',
    "(a comment (nested)) {id} (another); spf=pass", "{id} 1; spf=pass",
    "{id}", "{id};", "{id}; none", "\n\t{id};\n\tspf=pass",
    "{id} spf=pass", "{id}/x; spf=pass", "{id}; spf=", '{id}; "unterminated',
    "{id}; (unterminated", "  {id} ; spf = pass")
KEPT = ("another.example; spf=pass", "x{id}; spf=pass",
        "{id}.elsewhere.example; spf=pass", "elsewhere.example; dkim=pass; x={id}")


def test_forged_results_are_removed():
    with auth_host() as host:
        id = host.postfix.hostname
        lines = []
        for number in range(max(len(FORGED), len(KEPT))):
            for kind in (FORGED, KEPT):
                if number < len(kind):
                    lines.append(kind[number].format(id=id, ID=id.upper()))
        fields = "".join(f"{name}:{'' if line[0] == chr(10) else ' '}{line}\n"
                         for line, name in zip(lines, (
                             "Authentication-Results",
                             "AUTHENTICATION-RESULTS") * len(lines)))
        host.send("forged", extra=fields)
        host.send("inside", client=None, extra=fields)
        host.send("login", login="someone", extra=fields)
        kept = [line.format(id=id) for line in KEPT]
        for name, found in host.delivered().items():
            expect(f"{name}: those of others",
                   [field.strip() for field in found.fields
                    if field not in found.own], kept)
            expect(f"{name}: ours", len(found.own),
                   1 if name == "forged" else 0)
            if name == "forged":
                expect("it is true", found.verdicts["spf"], "pass")
                expect("and stands first", found.fields[0], found.own[0])


# ---- who is verified -----------------------------------------------------

RECEIVED = ("Received: from {helo} ({helo} [{client}])\n"
            "\tby filter.test (Postfix) with {protocol} id 4X1\n"
            "\tfor <u1@example.com>; Sun, 22 Nov 2026 05:59:00 +0000\n")
# postsuper -r, by which held mail is released, or a process of that host
REQUEUED = ("Received: by filter.test (Postfix, from userid 102)\n"
            "\tid 4X2; Sun, 22 Nov 2026 06:00:00 +0000\n")


def test_the_client_behind_a_trusted_filter():
    def received(client, protocol="ESMTPS"):
        return RECEIVED.format(helo=HELO, client=client, protocol=protocol)

    with auth_host() as host:
        host.send("good", client="10.1.2.3", helo="filter.test",
                  extra=received(CLIENT))
        host.send("bad", client="10.1.2.3", helo="filter.test",
                  extra=received(OTHER_CLIENT))
        host.send("two filters", client="10.1.2.3", helo="filter.test",
                  extra=received("10.1.9.9") + received(CLIENT))
        host.send("not trusted", client=OTHER_CLIENT, extra=received(CLIENT))
        host.send("its own", client="10.1.2.3", helo="filter.test")
        host.send("its user", client="10.1.2.3", helo="filter.test",
                  extra=received(CLIENT, "ESMTPSA"))
        host.send("requeued", client="10.1.2.3", helo="filter.test",
                  key=host.key, extra=REQUEUED + received(CLIENT))
        host.send("its program", client="10.1.2.3", helo="filter.test",
                  extra=REQUEUED)
        host.send("illegible", client="10.1.2.3", helo="filter.test",
                  key=host.key, extra="Received: (nobody knows)\n")
        found = host.delivered()
        expect("SPF", {id: each.verdicts["spf"] for id, each in found.items()
                       if each.results is not None},
               {"good": "pass", "bad": "fail", "two filters": "pass",
                "not trusted": "fail", "illegible": "none",
                "requeued": "none"})
        for id in ("illegible", "requeued"):
            expect(f"{id}: DKIM needs no client",
                   found[id].verdicts["dkim"], "pass")
        for id in ("its own", "its user", "its program"):
            expect(f"{id}: not verified", found[id].fields, [])
        helo = found["good"].of("spf")[1]
        expect("HELO was said to the filter", helo.properties["smtp.helo"],
               HELO)
        expect_true("the log tells the origin",
                    f"origin=[{CLIENT}]" in host.milter.log())


def test_own_mail_is_not_verified():
    with auth_host() as host:
        host.send("login", login="someone", key=host.key)
        host.send("loopback", client=None, key=host.key)
        host.postfix.sendmail(SENDER, [A], "X-Lab-Id: sendmail\n\nText.\n")
        host.send("outside", key=host.key)
        found = host.delivered()
        expect("fields", {id: len(each.fields) for id, each in found.items()},
               {"login": 0, "loopback": 0, "sendmail": 0, "outside": 1})
        expect("questions for the first three", sum(host.dns.asked[
            SENDER_DOMAIN, kind] for kind in ("TXT", "A")), 1)


def test_header_forms():
    """Values that must be quoted, Received-SPF, and a signed field that must
    not be added to."""
    with auth_host({("odd.test", "TXT"): "v=spf1 ~all"},
                   auth="  received-spf = true") as host:
        host.send("quoted", sender='"a b;c"@odd.test', helo="[192.0.2.25]")
        host.send("oversigned", key=host.key, headers=(
            "From", "Subject", "Authentication-Results", "Received-SPF"))
        found = host.delivered()
        expect("quoted", found["quoted"].of("spf")[0].properties[
            "smtp.mailfrom"], '"a b;c"@odd.test')
        received_spf = found["quoted"].headers["Received-SPF"]
        expect("Received-SPF", received_spf.split()[0].lower(), "softfail")
        expect_true(f"its client: {received_spf}",
                    f"client-ip={CLIENT}" in received_spf)
        expect("no field that would break the signature",
               (found["oversigned"].fields,
                found["oversigned"].headers["Received-SPF"]), ([], None))
        expect_true("the log has the result",
                    " dkim=pass " in host.milter.log())


# ---- faults, switches ----------------------------------------------------

def test_dns_down():
    """temperror in the header; mail flows, holds and forwards as ever."""
    with auth_host() as host:
        host.dns.stop()
        host.home(B, "locked")
        host.home(C, "new")
        host.send("deliver", key=host.key)
        held = host.send("hold", key=host.key, to=B)
        forwarded = host.send("forward", key=host.key, to=C)
        expect("hold", host.queue_of(held), "hold")
        expect("recorded", list(host.held()), [held])
        for queue_id, verdict in ((held, "hold"), (forwarded, "forward")):
            expect_true(f"{verdict}: {host.lines(queue_id)}",
                        f"verdict={verdict}" in host.wait_lines(queue_id)[0])
        host.postfix.postsuper("-d", held, "hold")
        found = host.delivered()["deliver"]
        expect("results", (found.verdicts["spf"], found.verdicts["dkim"],
                           found.verdicts["dmarc"]), ("temperror",) * 3)
        host.dns.start()
        wait_until(lambda: _again(host) == "pass", 90,
                   "DNS that is back is used", interval=1)


def _again(host):
    host.again = getattr(host, "again", 0) + 1
    id = f"again-{host.again}"
    host.send(id, key=host.key)
    return host.delivered()[id].verdicts["dkim"]


ENFORCED = {("_dmarc.reject.test", "TXT"): "v=DMARC1; p=reject",
            ("_dmarc.quarantine.test", "TXT"): "v=DMARC1; p=quarantine",
            ("_dmarc.nothing.test", "TXT"): "v=DMARC1; p=none",
            ("_dmarc.late.test", "TXT"): SERVFAIL}


def _enforce(host, domain, **options):
    """What becomes of a message that does not pass."""
    queue_id = host.submit(domain, author=f"a@{domain}.test", **options)
    if host.reply.code != 250:
        return host.reply.code
    return "hold" if host.queue_of(queue_id) == "hold" else "taken"


def test_enforce_reject():
    with auth_host(ENFORCED, auth="  enforce = reject") as host:
        expect("outside", {domain: _enforce(host, domain) for domain in (
            "reject", "quarantine", "nothing", "late", "unknown")},
            {"reject": 550, "quarantine": "hold", "nothing": "taken",
             "late": "taken", "unknown": "taken"})
        expect("exempt", [_enforce(host, "reject", **who) for who in (
            {"client": None}, {"login": "someone"},
            {"client": "10.1.2.3", "extra": RECEIVED.format(
                helo=HELO, client=CLIENT, protocol="ESMTP")})],
            ["taken"] * 3)
        host.submit("both", author=f"{SENDER}, a@reject.test")
        expect("another author beside it", host.reply.code, 550)
        host.submit("reject", author="a@reject.test", to="someone@senders.test")
        expect("to others too", (host.reply.code, "DMARC" in host.reply.text),
               (550, True))
        expect("records of what is quarantined", len(host.held()), 1)


def test_enforce_quarantine():
    with auth_host(ENFORCED, auth="  enforce = quarantine") as host:
        expect("outside", {domain: _enforce(host, domain) for domain in (
            "reject", "quarantine", "nothing")},
            {"reject": "hold", "quarantine": "hold", "nothing": "taken"})


def test_auth_off_and_on():
    """Without the section nothing is asked and nothing added; SIGUSR1 turns it
    on, for connections from then on."""
    def off(host):
        host.sluice.auth = None

    with auth_host(prepare=off) as host:
        host.send("off", key=host.key)
        host.sluice.auth = auth_section(host.postfix.hostname, host.dns.server)
        host.sluice.write_config()
        host.milter.send(signal.SIGUSR1)
        wait_until(lambda: "configuration" in host.milter.log()
                   or "read again" in host.milter.log(), 10, "it was re-read")
        expect("questions", sum(host.dns.asked.values()), 0)
        host.send("on", key=host.key)
        found = host.delivered()
        expect("off", found["off"].fields, [])
        expect("on", found["on"].verdicts["dkim"], "pass")


def test_report():
    """The figures of a managed domain: who would fail under -all."""
    records = {(DOMAIN, "TXT"): "v=spf1 ip4:192.0.2.25 ~all"}
    with auth_host(records) as host:
        for number in range(3):
            host.send(f"good{number}", sender=f"b@{DOMAIN}")
        host.send("bad", sender=f"b@{DOMAIN}", client=OTHER_CLIENT)
        rows = wait_until(lambda: _report(host, 4), 20, "four are counted")
        expect("rows", {row["client"]: (row["messages"], row["would_fail"],
                                        row["spf"]["pass"],
                                        row["spf"]["softfail"])
                        for row in rows},
               {CLIENT: (3, 0, 3, 0), OTHER_CLIENT: (1, 1, 0, 1)})


def _report(host, wanted):
    code, out, _ = host.sluice.cli("auth", "report", DOMAIN, "--json")
    document = json.loads(out) if code == 0 else {}
    return document.get("messages") == wanted and document["senders"]


# ---- two sides -----------------------------------------------------------

def test_floaters_verify_on_the_new_side():
    """What the old side adds breaks no signature, in whatever way the message
    comes to the new one."""
    box = address(1)
    with sluice_lab([box], auth=True) as lab:
        lab.old.postfix.virtual_alias("list@example.com", box)
        lab.old.postfix.alias("team", box)
        lab.redis.command("HSET", "sluice:home:example.com", "u1",
                          lab.redis.command("HGET", "sluice:home:example.com",
                                            "u1").replace("o", "n", 1))
        key = lab.keys[SENDER_DOMAIN]
        for id, to in (("direct", box), ("virtual", "list@example.com"),
                       ("alias", f"team@{lab.old.postfix.hostname}")):
            text = key.sign(f"From: {SENDER}\nTo: {to}\nSubject: {id}\n"
                            f"Date: Sun, 22 Nov 2026 06:00:00 +0000\n"
                            f"X-Lab-Id: {id}\n\nThe text.\n")
            reply = lab.old.postfix.smtp(SENDER, [to],
                                         text.replace(b"\n", b"\r\n"),
                                         client=OUTSIDE)
            expect(f"{id} is accepted", reply.code, 250)
        lab.wait_drained()
        messages = lab.read_new([box])[box]
        expect("arrived", sorted(each.id for each in messages),
               ["alias", "direct", "virtual"])
        for each in messages:
            found = {}
            for field in each.headers.get_all("Authentication-Results", []):
                host = field.partition(";")[0].strip()
                expect(f"{each.id}: once from {host}", host in found, False)
                found[host] = verdicts(results_of(field))
            expect(f"{each.id}: both hosts' results",
                   {host: (values.get("dkim"), values.get("dmarc"))
                    for host, values in found.items()},
                   {side.postfix.hostname: ("pass", "pass")
                    for side in (lab.old, lab.new)})
