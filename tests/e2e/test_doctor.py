"""`sluice doctor`: every thing that can be wired wrongly, wired wrongly."""

import json
import os
import re

from harness import SOURCE, expect, expect_true, sluice_lab, wait_until
from srs_case import srs_section

from parts.process import run  # isort: skip

BOX = "a@example.com"


def checks(sluice):
    """(exit code, [(name, result, found, fixes)])"""
    code, out, err = sluice.cli("doctor", "--json")
    try:
        document = json.loads(out)
    except ValueError as error:
        raise AssertionError(f"no document: {out!r} {err!r}") from error
    return code, [(check["name"], check["result"], check["found"],
                   [f"{fix['where']}: {fix['line']}" for fix in check["fix"]])
                  for check in document["checks"]]


def bad(found):
    return [check for check in found if check[1] != "ok"]


def expect_finding(what, sluice, name, result, text, fix=None):
    code, found = checks(sluice)
    hits = [check for check in found if check[0] == name
            and check[1] == result and re.search(text, check[2])]
    expect_true(f"{what}: {result} {name} /{text}/ in {bad(found)}", hits)
    if fix is not None:
        expect_true(f"{what}: fix {fix!r} in {hits[0][3]}",
                    fix in hits[0][3])
    if result == "fail":
        expect(f"{what}: exit code", code, 1)


# What is changed in main.cf, and the finding that is expected of it.
MAIN_CF = [
    ({"smtpd_milters": ""}, "smtpd_milters", "fail", "not asked",
     "main.cf: smtpd_milters = unix:sluice/milter.sock"),
    ({"smtpd_milters": "unix:sluice/milter.sock, inet:127.0.0.1:1"},
     "smtpd_milters", "fail", "not the last",
     "main.cf: smtpd_milters = inet:127.0.0.1:1, unix:sluice/milter.sock"),
    ({"smtpd_milters": "unix:{sockets}/milter.sock"},
     "smtpd_milters", "fail", "chroot",
     "main.cf: smtpd_milters = unix:sluice/milter.sock"),
    ({"non_smtpd_milters": ""}, "non_smtpd_milters", "fail",
     "local submissions", "main.cf: non_smtpd_milters = $smtpd_milters"),
    ({"milter_default_action": "accept"}, "milter_default_action", "fail",
     "accept", "main.cf: milter_default_action = tempfail"),
    ({"smtpd_milters":
      "{{ unix:sluice/milter.sock, default_action=accept }}"},
     "milter_default_action", "fail", "accept", None),
    ({"milter_protocol": "4"}, "milter_protocol", "fail", "4", None),
    ({"transport_maps": ""}, "transport_maps", "fail", "not asked",
     "main.cf: transport_maps = socketmap:unix:sluice/map.sock:transport"),
    ({"transport_maps": "static:smtp:, "
      "socketmap:unix:sluice/map.sock:transport"}, "transport_maps", "fail",
     "static:smtp: stands before",
     "main.cf: transport_maps = socketmap:unix:sluice/map.sock:transport, "
     "static:smtp:"),
    ({"transport_maps": "inline:{{{{other.example = smtp:}}}}, "
      "socketmap:unix:sluice/map.sock:transport"}, "transport_maps", "warn",
     "1 maps stand before", None),
    ({"transport_maps": "socketmap:unix:/{sockets}/map.sock:transport"},
     "transport_maps", "fail", "chroot", None),
    ({"virtual_alias_maps": ""}, "virtual_alias_maps", "warn", "not asked",
     "main.cf: virtual_alias_maps = "
     "socketmap:unix:sluice/map.sock:virtual"),
    ({"smtpd_recipient_restrictions": ""}, "policy service", "warn",
     "does not ask it", None),
    ({"enable_long_queue_ids": "no"}, "enable_long_queue_ids", "fail", "no",
     "main.cf: enable_long_queue_ids = yes"),
    ({"content_filter": "scan:[127.0.0.1]:10025"}, "content_filter", "warn",
     "scan:", None),
    ({"mydestination": "localhost, example.com, other.example"},
     "mydestination", "fail", '"other.example"',
     'sluice.conf: domain "example.com" { same-as = '
     '{"other.example", "localhost"} }'),
    ({"mydestination": "localhost, example.com"}, "mydestination", "ok",
     "all local names", None),
    ({"recipient_delimiter": "-"}, "recipient_delimiter", "fail", "-", None),
    ({"maximal_queue_lifetime": "1h"}, "maximal_queue_lifetime", "warn",
     "1h", None),
    ({"bounce_queue_lifetime": "0"}, "bounce_queue_lifetime", "fail", "0",
     None),
]

# What is changed in master.cf (with postconf -M or -P).
MASTER_CF = [
    (["-P", "{smtpd}/smtpd_milters="], "smtpd_milters", "warn",
     "-o smtpd_milters=", None),
    (["-M", "submission/inet=submission inet n - y - - smtpd "
      "-o smtpd_milters=inet:127.0.0.1:1"], "smtpd_milters", "fail",
     "submission/inet",
     "master.cf: -o smtpd_milters = inet:127.0.0.1:1, "
     "unix:sluice/milter.sock"),
    (["-P", "rewrite/unix/transport_maps="], "transport_maps", "fail",
     "not asked", "master.cf: rewrite/unix: remove -o transport_maps"),
    (["-P", "{smtpd}/content_filter=scan:"], "content_filter", "warn",
     "scan:", None),
    (["-MX", "sluice-hold/unix"], "sluice-hold", "fail", "no such transport",
     "master.cf: sluice-hold unix - n n - - pipe"),
    (["-M", "sluice-hold/unix=sluice-hold unix - n n - - pipe "
      "user=nobody argv=/nonexistent/hold"], "sluice-hold", "fail",
     "cannot be executed", None),
    (["-MX", "sluice-forward/unix"], "sluice-forward", "fail",
     "no such transport", "master.cf:   -o soft_bounce=yes"),
    (["-P", "sluice-forward/unix/soft_bounce=no"], "sluice-forward", "fail",
     "would bounce", None),
]


def test_finds_what_is_wrong_in_main_cf():
    with sluice_lab([BOX]) as lab:
        postfix, sluice = lab.old.postfix, lab.old.sluice
        sluice.domains["example.com"] += '  same-as = {"localhost"}\n'
        sluice.write_config()
        expect("as wired", bad(checks(sluice)[1]), [])
        path = os.path.join(postfix.config, "main.cf")
        with open(path, encoding="utf-8") as file:
            good = file.read()
        for values, *finding in MAIN_CF:
            postfix.postconf(**{
                name: value.format(sockets=sluice.sockets)
                for name, value in values.items()})
            expect_finding(values, sluice, *finding)
            with open(path, "w", encoding="utf-8") as file:
                file.write(good)


SRS_WIRED = {
    "recipient_canonical_maps": "socketmap:unix:sluice/map.sock:srs",
    "recipient_canonical_classes": "envelope_recipient",
    "virtual_alias_domains": "inline:{{other.example=x}}, srs.example.com",
}
SRS_MAIN_CF = [
    ({"recipient_canonical_maps": "inline:{{a=b}}"},
     "recipient_canonical_maps", "fail", "not asked",
     "main.cf: recipient_canonical_maps = "
     "socketmap:unix:sluice/map.sock:srs, inline:{{a=b}}"),
    ({"recipient_canonical_maps": "socketmap:unix:/{sockets}/map.sock:srs"},
     "recipient_canonical_maps", "fail", "chroot", None),
    ({"recipient_canonical_classes": "header_recipient"},
     "recipient_canonical_classes", "fail", "not sent on",
     "main.cf: recipient_canonical_classes = envelope_recipient"),
    ({"recipient_canonical_classes": "envelope_recipient, header_recipient"},
     "recipient_canonical_classes", "warn", "signatures", None),
    ({"virtual_alias_domains": "other.example"}, "srs domain", "fail",
     "srs.example.com is no domain of this host",
     "main.cf: virtual_alias_domains = other.example, srs.example.com"),
    ({"virtual_alias_domains": "inline:{{srs.example.com=x}}"}, "srs domain",
     "ok", "virtual_alias_domains", None),
    ({"virtual_alias_domains": "", "relay_domains": "SRS.example.com"},
     "srs domain", "ok", "relay_domains", None),
]


def test_finds_what_is_wrong_with_rewritten_senders():
    with sluice_lab([BOX]) as lab:
        postfix, sluice = lab.old.postfix, lab.old.sluice
        sluice.extra = srs_section(sluice, "srs.example.com")
        sluice.write_config()
        postfix.postconf(**SRS_WIRED)
        expect("as wired", bad(checks(sluice)[1]), [])
        path = os.path.join(postfix.config, "main.cf")
        with open(path, encoding="utf-8") as file:
            good = file.read()
        for values, *finding in SRS_MAIN_CF:
            postfix.postconf(**{
                name: value.replace("{sockets}", sluice.sockets)
                for name, value in values.items()})
            expect_finding(values, sluice, *finding)
            with open(path, "w", encoding="utf-8") as file:
                file.write(good)


def test_finds_what_is_wrong_in_master_cf():
    with sluice_lab([BOX]) as lab:
        postfix, sluice = lab.old.postfix, lab.old.sluice
        path = os.path.join(postfix.config, "master.cf")
        with open(path, encoding="utf-8") as file:
            good = file.read()
        smtpd = f"127.0.0.1:{postfix.port}/inet"
        for words, *finding in MASTER_CF:
            run(["postconf", "-c", postfix.config] +
                    [word.format(smtpd=smtpd) for word in words])
            expect_finding(words, sluice, *finding)
            with open(path, "w", encoding="utf-8") as file:
                file.write(good)


def test_shipped_snippets_are_right():
    with sluice_lab([BOX]) as lab:
        postfix, sluice = lab.old.postfix, lab.old.sluice
        hold = os.path.join(postfix.directory, "sluice-hold")
        for name in ("sluice-hold", "sluice-forward"):
            run(["postconf", "-c", postfix.config, "-MX", f"{name}/unix"])
        for name in ("smtpd_milters", "non_smtpd_milters", "transport_maps",
                     "virtual_alias_maps", "smtpd_recipient_restrictions",
                     "milter_default_action", "enable_long_queue_ids"):
            run(["postconf", "-c", postfix.config, "-X", name])
        expect("unwired: exit code", checks(sluice)[0], 1)
        for name in ("main.cf", "master.cf"):
            with open(os.path.join(SOURCE, "conf", "postfix", name),
                      encoding="utf-8") as file:
                text = file.read().replace(
                    "/usr/local/libexec/sluice/sluice-hold", hold)
            with open(os.path.join(postfix.config, name), "a",
                      encoding="utf-8") as file:
                file.write("\n" + text)
        expect("findings", bad(checks(sluice)[1]), [])
        run(["postfix", "-c", postfix.config, "check"])


def test_finds_what_does_not_run():
    with sluice_lab([BOX]) as lab:
        sluice = lab.old.sluice
        sluice.milter.stop()
        expect_finding("milter down", sluice, "milter socket", "fail", "",
                       "shell: systemctl start sluice-milter")
        expect_finding("milter down, for postfix", sluice, "smtpd_milters",
                       "fail", "user postfix")
        sluice.milter.start()
        os.chmod(os.path.join(sluice.sockets, "map.sock"), 0o600)
        expect_finding("map socket for root alone", sluice, "transport_maps",
                       "fail", "user postfix .* chrooted.*: Permission")
        sluice.policyd.kill()
        expect_finding("policyd down", sluice, "map socket", "fail", "")
        sluice.policyd.start()
        lab.new.sluice.policyd.kill()
        wait_until(lambda: "no sign of life" in str(checks(sluice)[1]), 30,
                   "the new side is silent")
        expect_finding("other host", sluice, "hosts", "fail", "new.lab.test")
        lab.new.postfix.stop()
        expect_finding("new server down", sluice, "next hop", "fail",
                       f"{lab.new.postfix.port}.*refused")


def test_finds_what_is_wrong_with_redis():
    with sluice_lab([BOX]) as lab:
        sluice = lab.old.sluice
        lab.redis.command("CONFIG", "SET", "appendonly", "no")
        expect_finding("no AOF", sluice, "durable", "fail", "append")
        lab.redis.command("CONFIG", "SET", "appendonly", "yes")
        lab.redis.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        expect_finding("eviction", sluice, "durable", "fail", "noeviction")
        lab.redis.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        sluice.domains["example.org"] = '  new = "[127.0.0.1]:1"'
        sluice.write_config()
        expect_finding("not registered", sluice, "domains", "fail",
                       "example.org", "shell: sluice init")
        lab.redis.command("FLUSHALL")
        expect_finding("emptied", sluice, "redis", "fail",
                       "holds no data|lost|history")
        lab.redis.kill()
        expect_finding("down", sluice, "redis", "fail", "redis.sock")


def test_postfix_that_cannot_be_read():
    with sluice_lab([BOX]) as lab:
        sluice = lab.old.sluice
        sluice.extra = 'postfix-commands = "/nonexistent"'
        sluice.write_config()
        expect_finding("no postconf", sluice, "postfix", "fail",
                       "/nonexistent/postconf.*cannot be executed")


def test_finds_what_is_wrong_with_verification():
    with sluice_lab([BOX], auth=True) as lab:
        sluice = lab.old.sluice
        expect("as wired", bad(checks(sluice)[1]), [])
        expect_finding("all of it", sluice, "authentication", "ok",
                       "SPF DKIM DMARC.*enforce = none")
        expect_finding("DNS", sluice, "DNS", "ok", "1 of 1 servers")
        sluice.auth = ('dkim = false  servers = {"127.0.0.1:1"}\n'
                       'trusted = {"192.0.2.0/24"}')
        sluice.write_config()
        expect_finding("half", sluice, "authentication", "warn",
                       "without DKIM")
        expect_finding("no DNS", sluice, "DNS", "warn",
                       "127.0.0.1 port 1: Connection refused.*mail flows")
        expect_finding("the other side", sluice, "trusted", "warn",
                       "example.com: mail that .* fails SPF",
                       'sluice.conf: auth { trusted += {"127.0.0.1"} }')
        sluice.auth = None
        sluice.write_config()
        expect_finding("off", sluice, "authentication", "ok",
                       "nothing is verified")
