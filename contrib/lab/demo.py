"""sluice's demo: a cutover of a whole domain under live mail, accounted for.

An old and a new Postfix, each with Dovecot and sluice, and one Redis, all on
loopback in one private directory. Mail keeps coming in by every way that mail
does (traffic.py), `sluice cutover` moves the mailboxes with mbsync, senders
with stale DNS go on using the old server, and then every mailbox is read over
IMAP on the new server and compared, message by message (ledger.py).

Prints one table. Exit: 0 when nothing was lost, duplicated, bounced, or
delivered into a locked mailbox, and all mail from outside was verified (SPF,
DKIM, DMARC) on each server that it went through; 1 otherwise.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time

from lab import DOMAIN, Lab, stop_kept
from ledger import LogFacts, check_verification, percentile, reconcile
from parts.mailbox import read_maildir
from parts.process import CommandFailed, Timeout, wait_until
from traffic import SENDERS, Traffic

SEEDS = {"": 3, "Archive": 1}    # old messages in each mailbox, by folder
BEFORE_S = 4                     # live mail before the cutover begins
AFTER_S = 10                     # stale senders after it has ended
CUTOVER_LIMIT_S = 1800
AGAIN = 75                       # sluice's exit code for "not complete"
SHOWN = 10                       # messages named in the table's details


def main():
    options = parse_options()
    if options.stop:
        stop_kept(options.stop)
        return 0
    with Lab(bindir=options.bindir, auth=True) as lab:
        say(f"private directory {lab.directory}")
        try:
            clean = run_demo(lab, options)
        except (Timeout, CommandFailed) as error:
            say(str(error))
            clean = False
        if options.keep:
            explain(lab)
        elif not clean:
            lab.keep = True
            say(f"configuration, logs and mail are kept in {lab.directory}")
    return 0 if clean else 1


def run_demo(lab, options):
    """True when the cutover was done and every message is where it belongs."""
    began = time.monotonic()
    mailboxes = [f"user{number:04}@{DOMAIN}"
                 for number in range(1, options.mailboxes + 1)]
    seeded = provision(lab, mailboxes)
    code, summary, traffic = move(lab, mailboxes, options.rate)
    drained = drain(lab)
    account = take_account(lab, mailboxes, seeded, traffic)
    result = figures(lab, options, account, summary,
                     time.monotonic() - began)
    show(result, account)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
            file.write("\n")
    if code != 0:
        say(f"sluice cutover ended with exit code {code}")
    return code == 0 and drained and account.clean


def parse_options():
    parser = argparse.ArgumentParser(
        prog="contrib/lab/demo", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mailboxes", type=int, default=100, metavar="N")
    parser.add_argument("--rate", type=float, default=10,
                        metavar="MSGS_PER_S", help="default 10")
    parser.add_argument("--json", metavar="FILE",
                        help="write the figures there")
    parser.add_argument("--keep", action="store_true",
                        help="leave everything running, say how to use it")
    parser.add_argument("--stop", metavar="DIRECTORY",
                        help="end what --keep left running, remove it")
    parser.add_argument("--bindir", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mailboxes < 1 or options.rate <= 0:
        parser.error("--mailboxes and --rate must be positive")
    return options


def say(text):
    print(f"demo: {text}", file=sys.stderr, flush=True)


# the migration

def provision(lab, mailboxes):
    """Mailboxes on both servers, old mail on the old one."""
    say(f"{len(mailboxes)} mailboxes with old mail")
    lab.add_mailboxes(mailboxes)
    lab.add_mailboxes(SENDERS)
    seeded = {}
    for box in mailboxes:
        seeded[box] = []
        for folder, count in SEEDS.items():
            ids = [f"old-{folder or 'INBOX'}-{box}-{number}"
                   for number in range(count)]
            lab.old.dovecot.seed(box, [old_message(id) for id in ids], folder)
            seeded[box] += ids
    return seeded


def old_message(id):
    return (f"From: friend@senders.test\nSubject: old mail\n"
            f"Message-ID: <{id}@lab.test>\nX-Lab-Id: {id}\n\n"
            f"Here since before the move.\n").encode()


def move(lab, mailboxes, rate):
    """Starts all, runs the cutover under traffic; returns its exit code, its
    JSON summary and the traffic that was sent."""
    say("starting Redis, and an old and a new Postfix, Dovecot and sluice")
    traffic = Traffic(lab, mailboxes, rate)
    traffic.prepare()
    lab.start()
    lab.init()
    lab.import_mailboxes(mailboxes)
    say(f"live mail, {rate:g} messages a second")
    traffic.start()
    try:
        until(time.monotonic() + BEFORE_S)
        say(f"sluice cutover {DOMAIN}")
        began = time.monotonic()
        code, summary = cutover(lab.old.sluice)
        say(f"cutover took {time.monotonic() - began:.1f} s; "
            f"stale senders go on for {AFTER_S} s")
        until(time.monotonic() + AFTER_S)
    finally:
        traffic.stop()
    return code, summary, traffic


def until(moment):
    wait_until(lambda: time.monotonic() >= moment, 3600, "time passes")


def cutover(sluice):
    """Runs it with its progress on our stderr."""
    try:
        done = subprocess.run(sluice.argv("cutover", "--json", DOMAIN),
                              stdout=subprocess.PIPE, text=True, check=False,
                              timeout=CUTOVER_LIMIT_S)
    except subprocess.TimeoutExpired:
        say(f"sluice cutover was not done within {CUTOVER_LIMIT_S} s")
        return AGAIN, {}
    try:
        return done.returncode, json.loads(done.stdout)
    except ValueError:
        say(f"sluice cutover printed no JSON: {done.stdout!r}")
        return done.returncode, {}


def drain(lab):
    say("waiting until both queues are empty")
    try:
        lab.wait_drained(timeout=90)
        return True
    except Timeout as error:
        say(str(error))
        for side in (lab.old, lab.new):
            queue = side.postfix.queue()
            for message in queue[:3]:
                say(f"still queued on the {side.name} side: {message}")
            if len(queue) > 3:
                say(f"... and {len(queue) - 3} more on the {side.name} side")
        return False


# the account

def take_account(lab, mailboxes, seeded, traffic):
    say("reading every mailbox on the new server over IMAP")
    read = lab.read_new(mailboxes)
    found = {box: [message.id for message in messages]
             for box, messages in read.items()}
    old_stored = {
        box: [(message.id, message.delivered)
              for message in read_maildir(lab.old.dovecot.maildir(box))
              if not message.id.startswith("old-")]
        for box in mailboxes}
    logs = {side.name: LogFacts(side.postfix.log())
            for side in (lab.old, lab.new)}
    account = reconcile(traffic.sent, seeded, found, old_stored,
                        sync_began(lab, mailboxes), logs, notices(lab))
    check_verification(account, read, traffic.sent)
    return account


def sync_began(lab, mailboxes):
    """When the copying of each mailbox (last) began, by the sync command."""
    began = {}
    for box in mailboxes:
        path = os.path.join(lab.sync_directory, box, "times")
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as file:
            starts = [line.split()[1] for line in file
                      if line.startswith("start ")]
        began[box] = float(starts[-1])
    return began


def notices(lab):
    """Everything that reached a sender or a postmaster: bounces."""
    found = []
    for read in (lab.read_old, lab.read_new):
        for sender, messages in read(SENDERS).items():
            found += [f"notice to {sender}: {message.headers['Subject']}"
                      for message in messages]
    for side in (lab.old, lab.new):
        for name in os.listdir(side.postfix.spool):
            found.append(f"mail to {name} on the {side.name} server")
    return found


def hold_times(lab):
    """Seconds from lock to flip of each mailbox, by Redis' own events."""
    locked, held = {}, []
    for _, fields in lab.redis.command("XRANGE", "sluice:events", "-", "+"):
        event = dict(zip(fields[::2], fields[1::2]))
        for line in event["body"].splitlines():
            local = line.partition("\t")[0]
            if event["op"] == "lock":
                locked[local] = int(event["time"])
            elif event["op"] == "flip" and local in locked:
                held.append(int(event["time"]) - locked.pop(local))
    return held


def figures(lab, options, account, summary, seconds):
    median, p99 = summary.get("hold_median_s"), summary.get("hold_p99_s")
    if median is None or p99 is None:
        held = hold_times(lab)
        median, p99 = percentile(held, 0.5), percentile(held, 0.99)
    return {
        "mailboxes": options.mailboxes,
        "sent": len(account.sent),
        "delivered": len(account.delivered),
        "floaters": len(account.floaters),
        "held_released": len(account.held_released),
        "lost": len(account.lost),
        "duplicated": len(account.duplicated),
        "bounced": len(account.bounced),
        "into_locked": len(account.into_locked),
        "verified": len(account.verified),
        "unverified": len(account.unverified),
        "hold_median_s": median,
        "hold_p99_s": p99,
        "seconds": round(seconds, 1),
    }


LABELS = {
    "mailboxes": "mailboxes moved",
    "sent": "messages sent during the move",
    "delivered": "  delivered on the new server",
    "floaters": "  floaters (forwarded by the old server)",
    "held_released": "  held while a mailbox was copied, then released",
    "lost": "lost",
    "duplicated": "duplicated",
    "bounced": "bounced",
    "into_locked": "delivered into a locked mailbox",
    "verified": "from outside, verified on every server it passed",
    "unverified": "from outside, and not so",
    "hold_median_s": "mail of a mailbox waited, median (s)",
    "hold_p99_s": "mail of a mailbox waited, p99 (s)",
    "seconds": "the whole demo took (s)",
}


def show(result, account):
    width = max(len(label) for label in LABELS.values())
    print()
    for key, label in LABELS.items():
        print(f"{label:{width}}  {result[key]!s:>8}")
    ways = ", ".join(f"{path} {count}"
                     for path, count in account.paths.most_common())
    print(f"\nby way: {ways}")
    for key in ("lost", "duplicated", "bounced", "into_locked",
                "unverified"):
        messages = getattr(account, key)
        for message in messages[:SHOWN]:
            print(f"{LABELS[key]}: {message}")
        if len(messages) > SHOWN:
            print(f"{LABELS[key]}: and {len(messages) - SHOWN} more")
    print("\nresult: " + ("nothing lost, doubled, bounced or misdelivered; "
                          "what came from outside verified"
                          if account.clean else "NOT CLEAN"), flush=True)


def explain(lab):
    lab.detach()
    sluice = " ".join(map(shlex.quote, lab.old.sluice.argv("status")))
    print(f"""
still running in {lab.directory}:
  {sluice}
  old: SMTP 127.0.0.1:{lab.old.postfix.port}  \
IMAP 127.0.0.1:{lab.old.dovecot.imap_port}  \
postfix -c {lab.old.postfix.config}
  new: SMTP 127.0.0.1:{lab.new.postfix.port}  \
IMAP 127.0.0.1:{lab.new.dovecot.imap_port}  \
postfix -c {lab.new.postfix.config}
  logs: {" ".join(lab.old.logs() + lab.new.logs())}
  every mailbox has the password "lab"
end it with: contrib/lab/demo --stop {lab.directory}""")


if __name__ == "__main__":
    sys.exit(main())
