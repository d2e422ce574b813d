"""The demo's account: every message, and where it was found.

Contract
  reconcile(...) compares what was sent with what is in the mailboxes of the
  new server and in both logs; a pure function of its arguments. The result is
  an Account: its lists name each message, its numbers are their lengths.

  lost         accepted, and missing from a mailbox that it was for
  duplicated   more than once in one mailbox
  bounced      refused for good, or returned to its sender, by either server
  into_locked  stored in the old mailbox after the copying of that mailbox
               had begun (as the sync command noted it), so after its lock
  unverified   from outside, and without exactly one Authentication-Results of
               each server that it passed, with DKIM and DMARC passed, and
               SPF at the first
"""

import re
from collections import Counter


class Account:
    def __init__(self):
        self.sent = []
        self.delivered = []
        self.floaters = []
        self.held_released = []
        self.lost = []
        self.duplicated = []
        self.bounced = []
        self.into_locked = []
        self.verified = []
        self.unverified = []
        self.paths = {}

    @property
    def clean(self):
        return not (self.lost or self.duplicated or self.bounced
                    or self.into_locked or self.unverified)


class LogFacts:
    """What a Postfix log says of each message, by the message's id."""

    def __init__(self, text):
        self.held = set()
        self.forwarded = set()
        self.bounced = set()
        ids = {}
        for line in text.splitlines():
            found = re.search(r"\]: (\w+): message-id=<(.*)@lab\.test>", line)
            if found:
                ids[found.group(1)] = found.group(2)
                continue
            found = re.search(r"\]: (\w+): ", line)
            if not found:
                continue
            id = ids.get(found.group(1), f"queue id {found.group(1)}")
            if ("milter-hold:" in line or "placed on hold" in line
                    or "relay=sluice-hold" in line):
                self.held.add(id)
            elif "/sluice-forward/" in line and "status=sent" in line:
                self.forwarded.add(id)
            elif ("status=bounced" in line or "status=expired" in line
                  or "sender non-delivery notification" in line):
                self.bounced.add(id)


def reconcile(sent, seeded, found, old_stored, copy_began, logs, notices):
    """sent: [traffic.Sent]; seeded: {mailbox: [id]} of the old mail;
    found: {mailbox: [id]} on the new server; old_stored: {mailbox:
    [(id, time)]}; copy_began: {mailbox: time}; logs: {"old": LogFacts,
    "new": LogFacts}; notices: bounce messages found by their receivers."""
    account = Account()
    counts = {box: Counter(ids) for box, ids in found.items()}
    accepted = [message for message in sent if message.accepted]
    duties = [(message.id, message.mailboxes) for message in accepted]
    duties += [(id, [box]) for box, ids in seeded.items() for id in ids]
    live = {message.id for message in accepted}
    for id, mailboxes in duties:
        missing = [box for box in mailboxes if not counts[box][id]]
        account.lost += [f"{id} for {box}" for box in missing]
        if id in live and not missing:
            account.delivered.append(id)
    account.sent = [message.id for message in accepted]
    account.paths = Counter(message.path for message in accepted)
    account.duplicated = [
        f"{id} {times} times in {box}" for box, ids in counts.items()
        for id, times in ids.items() if times > 1]
    account.into_locked = [
        f"{id} in {box}, {at - copy_began[box]:.3f} s after copying began"
        for box, stored in old_stored.items() if box in copy_began
        for id, at in stored if at > copy_began[box]]
    account.bounced = sorted(
        logs["old"].bounced | logs["new"].bounced
        | {message.id for message in sent if message.rejected_for_good})
    if len(notices) > len(account.bounced):
        account.bounced += notices[len(account.bounced):]
    account.floaters = sorted(logs["old"].forwarded & live)
    held = logs["old"].held | logs["new"].held
    account.held_released = sorted(held & set(account.delivered))
    return account


def check_verification(account, found, sent):
    """found: {mailbox: [Message]} on the new server; fills in `verified` (ids)
    and `unverified` of what came from outside."""
    outside = {message.id for message in sent if message.outside}
    wrong = {}
    seen = set()
    for box, messages in found.items():
        for message in messages:
            if message.id in outside:
                seen.add(message.id)
                fault = verification_fault(message.headers)
                if fault:
                    wrong[message.id] = f"{message.id} in {box}: {fault}"
    account.verified = sorted(seen - set(wrong))
    account.unverified = sorted(wrong.values())


def verification_fault(headers):
    """What is wrong with the Authentication-Results of one message, or ""."""
    passed = [found.group(1) for line in headers.get_all("Received", [])
              if (found := re.search(r"\bby (\S+\.lab\.test)\b", line))]
    first = passed[-1] if passed else None
    results = {}
    for line in headers.get_all("Authentication-Results", []):
        host, _, text = line.partition(";")
        results.setdefault(host.strip(), []).append(text)
    if not passed or {host: len(texts) for host, texts in results.items()} \
            != dict.fromkeys(passed, 1):
        return f"passed {passed}, has results {results}"
    for host, (text,) in results.items():
        methods = ("spf", "dkim", "dmarc") if host == first else \
            ("dkim", "dmarc")
        for method in methods:
            if not re.search(rf"\b{method}=pass\b", text):
                return f"{host} says {text!r}"
    return ""


def percentile(values, share):
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
