"""bystar from start to finish, to an own server and to a hosted one: IMAP and
submission of the old server are really switched off, mailboxes are locked, copied,
forwarded and unlocked, and the old MTA goes when nothing was forwarded for a while."""

import os
import subprocess

from parts.dkim import DkimKey
from parts.process import accepts
from play_case import (BOXES, DOMAIN, PASSWORD, Services, expect, expect_true, message,
                       play_case)

PLAN = """\
  record "MX" {{ name = "@" value = {{"10 mx.new.example.com."}} ttl = 1 }}
  record "TXT" {{ name = "@" value = {{"v=spf1 ip4:198.51.100.0/24 -all"}} ttl = 1 }}
  record "TXT" {{ name = "new._domainkey" value = {{"{key}"}} ttl = 1 }}
  record "A" {{ name = "imap" value = {{"198.51.100.1"}} ttl = 1 }}
  record "CNAME" {{ name = "submit" value = {{"mx.new.example.com."}} ttl = 1 }}
"""
RECORDS = ["@ 3 MX 10 mx.old", "@ 3 TXT \"v=spf1 mx ~all\"",
           "new._domainkey 3 TXT \"v=DKIM1; p=\"",
           "imap 3 A 192.0.2.1", "submit 3 CNAME mx.old",
           "mx.old 3 A 192.0.2.1", "mx.new 3 A 198.51.100.1"]
ANN = BOXES[0]
# A Maildir as it is, by its address.
BACKUP = """\
#!/bin/sh
set -eu
echo "$SLUICE_MAILBOX" >>"$1/backed-up"
mkdir -p {place}/"$SLUICE_MAILBOX"
[ ! -e {mail}/"${{SLUICE_MAILBOX%@*}}" ] ||
  cp -a {mail}/"${{SLUICE_MAILBOX%@*}}"/. {place}/"$SLUICE_MAILBOX"
"""


def ping(lab):
    """A mail ping to the old server, found in the new mailbox."""
    password = f"{lab.directory}/imap.password"
    with open(password, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(PASSWORD + "\n")
    return (f'mailbox "new" {{\n imap = "127.0.0.1:{lab.new.dovecot.imap_port}"\n'
            f' user = "{ANN}"\n password-file = "{password}"\n tls = none\n}}\n'
            f'ping "by-old" {{\n smtp = "127.0.0.1:{lab.old.postfix.port}"\n'
            f' to = "{ANN}"\n mailboxes = {{"new"}}\n}}\n')


def case():
    state = {}

    def prepare(lab):
        state["services"] = Services(lab)
        key = DkimKey(f"{lab.directory}/dkim", DOMAIN)
        lab.old.sluice.domains[DOMAIN] += PLAN.format(key=key.record)
        lab.old.sluice.extra += ping(lab)
    return play_case(RECORDS, "", prepare=prepare), state


def start(play, services, *words):
    """A rehearsal to its end and back, and then the run."""
    rehearse(play, services, *words)
    begin(play, services, *words)


def rehearse(play, services, *words):
    begin(play, services, *words, "--rehearse", ANN)
    play.go()
    play.rollback()


def begin(play, services, *words):
    lab = play.lab
    play.env["SSL_CERT_FILE"] = services.certificate
    place = play.path("backup.d")
    backup = play.file("backup", BACKUP.format(
        place=place, mail=os.path.dirname(lab.old.dovecot.maildir(ANN))), 0o755)
    play.start("bystar", *words, **services.settings(), backup=backup, quiet="2s",
               backup_place=place,
               smtp=f"127.0.0.1:{lab.old.postfix.port}",
               old_log=lab.old.postfix.log_path, new_log=lab.new.postfix.log_path,
               date="Friday at ten", **{"from": f"postmaster@{DOMAIN}"})


def send(postfix, id):
    reply = postfix.smtp("someone@senders.test", [ANN], message(id))
    expect_true(f"{id} is accepted: {reply}", reply.accepted)


def expect_moved(play, services):
    lab = play.lab
    expect("all moved", set(play.homes().values()), {"n"})
    for port in (services.old_imap, services.old_submission):
        expect_true("a service of the old server is off",
                    not accepts(("127.0.0.1", port)))
    expect("IMAP record", play.second.live(f"imap.{DOMAIN}", "A"), ["1 198.51.100.1"])
    expect("submission", play.second.live(f"submit.{DOMAIN}", "CNAME"),
           ["1 mx.new.example.com."])
    found = [it.id for it in play.boxes(lab.new, [ANN])[ANN] if it.id]
    expect("its mail", sorted(found), ["during", "of-old"])


def test_bystar_to_an_own_server():
    context, state = case()
    with context as play:
        lab, services = play.lab, state["services"]
        lab.old.dovecot.seed(ANN, [message("of-old").encode()])
        begin(play, services)
        play.stops("rehearsed", "not rehearsed on this domain so far")
        begin(play, services, "--replace", "--rehearse", ANN)
        play.go()
        expect("the pilot alone has moved", play.homes(),
               {"": "o", "ann": "n", "bob": "o", "cleo": "o"})
        play.rollback()
        begin(play, services)
        play.go(to="backup-seen")
        kept = os.path.join(play.path("backup.d"), ANN)
        os.rename(kept, f"{kept}.away")
        play.refused("backup-seen", f"the backup of {ANN}: it is not in")
        os.rename(f"{kept}.away", kept)
        play.go(to="told-done", before={
            "told": lambda: send(lab.old.postfix, "during")})
        expect_true("who rehearsed", "on 1 mailbox by " in play.note("rehearsed"))
        expect_true("backed up", play.paper("backed-up"))
        play.go(before={"mtas-off": lab.old.postfix.stop})
        expect_moved(play, services)


def copy_as_the_provider_does(lab):
    for box in BOXES:
        subprocess.run(lab.old.sluice.sync, check=True, timeout=60,
                       env={**os.environ, "SLUICE_MAILBOX": box})


def test_bystar_to_a_hosted_one():
    context, state = case()
    with context as play:
        lab, services = play.lab, state["services"]
        lab.old.dovecot.seed(ANN, [message("of-old").encode()])
        start(play, services, "--variant", "hosted")
        play.go(to="guide")
        expect("locked", set(play.homes().values()), {"l"})
        send(lab.old.postfix, "during")
        play.acknowledge("guide", lambda: copy_as_the_provider_does(lab))
        play.go(before={"mtas-off": lab.old.postfix.stop})
        lab.new.postfix.flush()
        expect_moved(play, services)
