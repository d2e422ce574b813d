"""skyconnect from start to finish, with the document's mistakes made first: a TTL that
is too long, its sample SPF record, a user who is missing on the new side, the catch-all
that stays on."""

import contextlib

from parts.dns import txt
from play_case import (BOXES, DOMAIN, Services, expect, expect_true, message,
                       play_case)

ANN = BOXES[0]
HOSTED, SHOP = "192.0.2.25", "192.0.2.40"   # servers that send as the domain
OUTSIDE = "someone@senders.test"
SPF = f"v=spf1 ip4:{HOSTED} ip4:{SHOP} -all"
SAMPLE = f"v= spf1 ip4:{HOSTED} ip4:{SHOP} -all"   # as in the document
PLAN = """\
  record "MX" {{ name = "@" value = {{"1 mx1.example.com.", "1 mx2.example.com."}} ttl = 1 }}
  record "TXT" {{ name = "@" value = {{"{spf}"}} ttl = 1 }}
  record "TXT" {{ name = "lab._domainkey" value = {{"{key}"}} ttl = 1 }}
  record "TXT" {{ name = "_dmarc" value = {{"v=DMARC1; p=none; sp=none"}} ttl = 1 }}
  record "CNAME" {{ name = "web" value = {{"access.example.com."}} ttl = 1 }}
"""


def records(lab):
    return ["@ 3 MX 10 mx.old", "@ 3 TXT " + txt(f"v=spf1 mx ip4:{SHOP} ~all"),
            "lab._domainkey 3 TXT " + txt(lab.keys[DOMAIN].record),
            "_dmarc 3 TXT \"v=DMARC1; p=none\"", "web 3 CNAME mx.old",
            "mx.old 3 A 192.0.2.1", "mx1 3 A 198.51.100.1", "mx2 3 A 198.51.100.2",
            "access 3 A 127.0.0.1"]


def plan(play, spf):
    """What sluice.conf plans, with this SPF record."""
    lab = play.lab
    lab.old.sluice.domains[DOMAIN] = lab.domain_section(lab.old, PLAN.format(
        key=lab.keys[DOMAIN].record, spf=spf))
    lab.old.sluice.write_config()


def catch_all(postfix, on):
    values = postfix.value("virtual_mailbox_maps").split(", ")
    plain = [value for value in values if not value.startswith("inline:")]
    postfix.postconf(virtual_mailbox_maps=", ".join(
        plain + [f"inline:{{{{@{DOMAIN}=ok}}}}"] * on))
    postfix.reload()


def send_as_domain(play, client, id):
    signed = play.lab.keys[DOMAIN].sign(message(id, sender=f"info@{DOMAIN}", to=ANN))
    reply = play.lab.new.postfix.smtp(f"info@{DOMAIN}", [ANN], signed, client=client)
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def start(play, services, *words):
    lab = play.lab
    play.env["SSL_CERT_FILE"] = services.certificate
    play.start("skyconnect", *words, smtp=f"127.0.0.1:{lab.old.postfix.port}",
               maillog=lab.old.postfix.log_path, date="Friday at ten",
               web=f"web.{DOMAIN}:{services.web.port}", videos="https://help.test",
               ca=services.certificate,
               applications=play.file("apps.csv", f"name,address\nshop,{SHOP}\n"),
               **{"from": f"postmaster@{DOMAIN}"})


@contextlib.contextmanager
def case(spf=SPF):
    """(play, services); some mail has come from outside."""
    made = []

    def prepare(lab):
        made.append(Services(lab))
        lab.old.sluice.domains[DOMAIN] += PLAN.format(
            key=lab.keys[DOMAIN].record, spf=spf)

    with play_case(records, "", prepare=prepare, auth=True) as play:
        reply = play.lab.old.postfix.smtp(OUTSIDE, [ANN], message("every-day"))
        expect_true(f"mail comes in: {reply}", reply.accepted)
        yield play, made[0]


def test_skyconnect():
    with case(SAMPLE) as (play, services):
        lab = play.lab
        play.on_new_side(BOXES[2], False)
        start(play, services)
        play.stops("domain", BOXES[2])
        play.on_new_side(BOXES[2], True)
        play.go(to="class-applied")
        expect_true("classes", "skyconnectadmincos" in play.paper("class.csv"))
        expect_true("go-live.txt was sent", "help.test" in play.paper("tell-users.mbox"))
        catch_all(lab.new.postfix, True)
        play.acknowledge("class-applied")

        # Somebody has put the long TTL back meanwhile.
        play.record("@", 86400, "MX", "10 mx.old")
        play.stops("dns-change", "check before it", "TTL 86400 s")
        play.record("@", 1, "MX", "10 mx.old")
        play.stops("dns-change", "check before it", "no SPF record", "v=spf1")
        expect("nothing was changed", play.first.live(DOMAIN, "MX"),
               ["1 10 mx.old.example.com."])
        plan(play, SPF)
        play.go(to="web")
        page = services.web.pages["/"]
        services.web.pages["/"] = (503, {}, "not yet")
        play.refused("web", "HTTP status 503")
        services.web.pages["/"] = page
        play.go(to="applications")
        expect("MX, both, one priority", play.second.live(DOMAIN, "MX"),
               ["1 1 mx1.example.com.", "1 1 mx2.example.com."])
        for client, id in ((SHOP, "of-shop"), (HOSTED, "of-hosted")):
            send_as_domain(play, client, id)
        play.counted(SHOP, HOSTED)
        play.go(to="catchall")
        play.refused("catchall", "which nobody has: switch the catch-all off")
        catch_all(lab.new.postfix, False)
        play.go()
        expect("all moved", set(play.homes().values()), {"n"})
