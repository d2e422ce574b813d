"""Live mail for the demo: several senders, every way that mail comes in.

Contract
  Traffic(lab, mailboxes, rate).start() sends until stop(), `rate` messages a
  second in all; prepare() first makes the aliases and forwards it uses.
  sent     every message as a Sent: its id (header X-Lab-Id, and Message-ID
           <id@lab.test>), the way it took, the mailboxes it must end in, and
           the server's answer. Only accepted messages create a duty; a
           recipient that the server refused is not among `mailboxes`.
  What comes over SMTP comes from outside (XCLIENT), with a DKIM signature.
"""

import random
import threading
import time

from lab import OUTSIDE, SENDER_DOMAIN

SENDERS = [f"sender{number}@{SENDER_DOMAIN}" for number in range(1, 6)]
ALIAS_MEMBERS = 2
FORWARDING_USERS = ("games", "news", "man")

MESSAGE = """\
From: {sender}
To: {to}
Subject: {path} {id}
Date: {date}
Message-ID: <{id}@lab.test>
X-Lab-Id: {id}

This message came by the way "{path}".
"""


class Sent:
    def __init__(self, id, path, mailboxes, reply):
        self.id = id
        self.path = path
        self.mailboxes = mailboxes
        self.reply = reply
        self.time = time.time()

    @property
    def accepted(self):
        return self.reply.accepted and bool(self.mailboxes)

    @property
    def outside(self):
        """It came over SMTP, so it was verified."""
        return not isinstance(self.reply, LocalReply)

    @property
    def rejected_for_good(self):
        return self.reply.code >= 500 or any(
            code >= 500 for code in self.reply.refused.values())


class LocalReply:
    """The answer of sendmail(1), in the terms of an SMTP reply."""

    def __init__(self, exit_code):
        self.code = 250 if exit_code == 0 else 450
        self.text = f"sendmail exit code {exit_code}"
        self.refused = {}

    @property
    def accepted(self):
        return self.code == 250


class Traffic:
    WORKERS = 6

    def __init__(self, lab, mailboxes, rate):
        self.sent = []
        self._lab = lab
        self._mailboxes = mailboxes
        self._rate = rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next = 0
        self._began = None
        self._threads = []
        self._aliases = {}
        self._forwards = {}
        self._ways = [
            (30, "single", self._single),
            (15, "mixed", self._mixed),
            (15, "sendmail", self._sendmail),
            (8, "alias", self._alias),
            (6, "virtual alias", self._virtual_alias),
            (8, "forward", self._forward),
            (8, "extension", self._extension),
            (6, "upper case", self._upper_case),
            (4, "early MX", self._early_mx),
        ]

    def prepare(self):
        """Aliases and .forward files on the old server, and the virtual
        aliases of the domain on both, as a migration would have them."""
        some = random.sample(self._mailboxes, min(12, len(self._mailboxes)))
        old, new = self._lab.old.postfix, self._lab.new.postfix
        for number in range(3):
            members = random.sample(some, min(ALIAS_MEMBERS, len(some)))
            old.alias(f"team{number}", *members)
            self._aliases[f"team{number}@{old.hostname}"] = members
            address = f"list{number}@example.com"
            for postfix in (old, new):
                postfix.virtual_alias(address, *members)
            self._aliases[address] = members
        for user in FORWARDING_USERS:
            target = random.choice(some)
            old.forward(user, target)
            self._forwards[f"{user}@localhost"] = target

    def start(self):
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._work, daemon=True)
                         for _ in range(self.WORKERS)]
        for thread in self._threads:
            thread.start()

    def stop(self):
        """Returns when the last message has been handed over."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self):
        while True:
            with self._lock:
                number = self._next
                self._next += 1
            due = self._began + number / self._rate
            if self._stop.wait(max(0, due - time.monotonic())):
                return
            self._send(number)

    def _send(self, number):
        weights = [weight for weight, _, _ in self._ways]
        _, path, way = random.choices(self._ways, weights)[0]
        sender = "" if number % 23 == 22 else random.choice(SENDERS)
        id = f"live-{number}"
        recipients, mailboxes, submit = way()
        message = MESSAGE.format(
            sender=sender or f"MAILER-DAEMON@{SENDER_DOMAIN}", to=", ".join(recipients),
            path=path, id=id,
            date=time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime()))
        reply = submit(sender, recipients, message)
        refused = {address.lower() for address in reply.refused}
        if path in ("single", "mixed"):
            mailboxes = [box for box in mailboxes if box not in refused]
        elif refused:
            mailboxes = []
        self.sent.append(Sent(id, path, mailboxes, reply))

    # the ways: (recipients, mailboxes, how to submit)

    def _smtp(self, sender, recipients, message):
        return self._submit(self._lab.old, sender, recipients, message)

    def _smtp_new(self, sender, recipients, message):
        return self._submit(self._lab.new, sender, recipients, message)

    def _submit(self, side, sender, recipients, message):
        signed = self._lab.keys[SENDER_DOMAIN].sign(message)
        return side.postfix.smtp(sender, recipients,
                                 signed.replace(b"\n", b"\r\n"),
                                 client=OUTSIDE)

    def _local(self, sender, recipients, message):
        return LocalReply(self._lab.old.postfix.sendmail(
            sender, recipients, message))

    def _single(self):
        box = random.choice(self._mailboxes)
        return [box], [box], self._smtp

    def _mixed(self):
        boxes = random.sample(self._mailboxes, min(3, len(self._mailboxes)))
        return boxes, boxes, self._smtp

    def _sendmail(self):
        boxes = random.sample(self._mailboxes, min(random.choice((1, 1, 2)),
                                                   len(self._mailboxes)))
        return boxes, boxes, self._local

    def _alias_named(self, wanted):
        address = random.choice(
            [name for name in self._aliases if wanted(name)])
        return [address], self._aliases[address]

    def _alias(self):
        submit = random.choice((self._smtp, self._local))
        return *self._alias_named(
            lambda name: not name.endswith("@example.com")), submit

    def _virtual_alias(self):
        return *self._alias_named(
            lambda name: name.endswith("@example.com")), self._smtp

    def _forward(self):
        address = random.choice(list(self._forwards))
        return [address], [self._forwards[address]], self._smtp

    def _extension(self):
        box = random.choice(self._mailboxes)
        return [box.replace("@", "+shop@")], [box], self._smtp

    def _upper_case(self):
        box = random.choice(self._mailboxes)
        return [box.upper()], [box], self._smtp

    def _early_mx(self):
        """To the new server before its time: MX may move first."""
        box = random.choice(self._mailboxes)
        return [box], [box], self._smtp_new
