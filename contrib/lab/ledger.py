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
        self.paths = {}

    @property
    def clean(self):
        return not (self.lost or self.duplicated or self.bounced
                    or self.into_locked)


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


def percentile(values, share):
    """The nearest-rank percentile; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
