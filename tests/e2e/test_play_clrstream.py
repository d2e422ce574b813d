"""clrstream from start to finish: a filter in front of a server that keeps its
mailboxes. SPF is judged at the hop before the filter; with continuity every message,
in and out, reaches a secondary mailbox."""

import os

from parts.dns import txt
from parts.dovecot import PASSWORD
from play_case import (BOXES, DOMAIN, expect, expect_true, message, play_case,
                       wait_until)

ANN = BOXES[0]
OWN, SHOP = "192.0.2.25", "192.0.2.40"   # servers that send as the domain
OUTSIDE = "someone@senders.test"
SECOND = "ann@backup.test"
PLAN = """\
  record "MX" {{ name = "@" value = {{"0 in.filter.example.com."}} ttl = 1 }}
  record "TXT" {{ name = "@" value = {{"{spf}"}} ttl = 1 }}
  record "TXT" {{ name = "lab._domainkey" value = {{"{key}"}} ttl = 1 }}
  record "TXT" {{ name = "_dmarc" value = {{"v=DMARC1; p=none; sp=none"}} ttl = 1 }}
"""
SPF = f"v=spf1 ip4:{OWN} ip4:{SHOP} -all"


def records(key):
    return ["@ 3 MX 10 mx.old", "@ 3 TXT " + txt(f"v=spf1 ip4:{OWN} ~all"),
            "lab._domainkey 3 TXT " + txt(key.record),
            "_dmarc 3 TXT \"v=DMARC1; p=none\"", "mx.old 3 A 192.0.2.1",
            "in.filter 3 A 203.0.113.9"]


def case(prepare=lambda lab: None, extra="", spf=SPF):
    def prepare_all(lab):
        plan = PLAN.format(key=lab.keys[DOMAIN].record, spf=spf)
        lab.old.sluice.domains[DOMAIN] += plan
        prepare(lab)
    return play_case(lambda lab: records(lab.keys[DOMAIN]), "", prepare=prepare_all,
                     extra=extra, auth=True)


def start(play, filter, *words):
    lab = play.lab
    reply = lab.old.postfix.smtp(OUTSIDE, [ANN], message("every-day"))
    expect_true(f"mail comes in: {reply}", reply.accepted)
    if "continuity" in words:
        more = {"copies": play.file("copies.csv", f"address,copy\n{ANN},{SECOND}\n")}
    else:
        more = {}
    play.start("clrstream", *words, **more, filter_smtp=filter.smtp,
               imap=f"127.0.0.1:{lab.old.dovecot.imap_port}",
               smtp=f"127.0.0.1:{lab.old.postfix.port}",
               maillog=lab.old.postfix.log_path, date="Friday at ten",
               applications=play.file("apps.csv", f"name,address\nshop,{SHOP}\n"))


def send_as_domain(play, postfix, client, id):
    """What a server of the domain sends, signed, from that address."""
    signed = play.lab.keys[DOMAIN].sign(message(id, sender=f"info@{DOMAIN}", to=ANN))
    reply = postfix.smtp(f"info@{DOMAIN}", [ANN], signed, client=client)
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def arrived(play, id):
    def found():
        return next((it for it in play.boxes(play.lab.old, [ANN])[ANN]
                     if it.id == id), None)
    return wait_until(found, 30, f"{id} arrives", interval=0.2)


def test_clrstream():
    with case() as play:
        lab = play.lab
        filter = play.filter(lab.old)
        start(play, filter)
        play.go(to="applications")
        expect("MX", play.second.live(DOMAIN, "MX"), ["1 0 in.filter.example.com."])
        play.refused("applications", "shop", "has not sent")
        for client, id in ((SHOP, "of-shop"), (OWN, "of-own")):
            send_as_domain(play, filter.postfix, client, id)
            results = str(arrived(play, id).headers["Authentication-Results"])
            expect_true(f"SPF judges the hop before the filter: {results}",
                        "spf=pass" in results)
        play.counted(SHOP, OWN)
        play.go()
        expect("mailboxes stay", set(play.homes().values()), {"o"})


def continuity(lab):
    """The secondary mailbox is on the other server, a domain of its own there."""
    old, new = lab.old, lab.new
    new.postfix.postconf(virtual_mailbox_domains="example.com, senders.test, backup.test")
    for side in (old, new):
        side.dovecot.add_users([SECOND])
    new.postfix.add_mailboxes([SECOND])
    # No DNS here: what is for backup.test goes to the new server.
    old.postfix.postconf(smtp_fallback_relay=f"[127.0.0.1]:{new.postfix.port}")
    password = f"{lab.directory}/imap.password"
    with open(password, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(PASSWORD + "\n")
    lab.old.sluice.extra += "".join(
        f'mailbox "{name}" {{\n imap = "127.0.0.1:{side.dovecot.imap_port}"\n'
        f' user = "{user}"\n password-file = "{password}"\n tls = none\n}}\n'
        for name, side, user in (("own", old, ANN), ("outside", old, OUTSIDE),
                                 ("secondary", new, SECOND)))
    lab.old.sluice.extra += "".join(
        f'ping "{name}" {{\n smtp = "127.0.0.1:{old.postfix.port}"\n from = "{sender}"\n'
        f' to = "{to}"\n mailboxes = {{"{box}", "secondary"}}\n}}\n'
        for name, sender, to, box in (("continuity-in", OUTSIDE, ANN, "own"),
                                      ("continuity-out", ANN, OUTSIDE, "outside")))


COPIES = '  redirect-domains = {"backup.test"}\n  copy-outbound = true\n'


def test_clrstream_continuity():
    with case(continuity, COPIES) as play:
        lab = play.lab
        filter = play.filter(lab.old)
        start(play, filter, "--variant", "continuity")
        play.go(to="applications")
        for client, id in ((SHOP, "of-shop"), (OWN, "of-own")):
            send_as_domain(play, filter.postfix, client, id)
            arrived(play, id)
        play.counted(SHOP, OWN)
        play.go()
        expect("continuity", play.states()["continuity"], "done")
