"""One MTA host with sluice-milter alone: the frame of test_milter_*.py.

Contract
  with milter_host(side="old") as host
      host.lab, host.redis, host.postfix, host.milter   parts of the lab
      host.home(address, state, new=, copy=, epoch=)    writes a record
      host.own(state)              the domain's own record (written at start)
      host.held()                  {queue id: record} of this host in Redis
      host.lines(queue_id)         the milter's lines about a message
      host.free_port()             a loopback port
      host.boxes(*addresses)       {address: [Message]} delivered here
  There is no policyd: the records are written as lib/home.h and lib/store.h
  describe them, and mail that the milter accepts is delivered here, whatever
  the verdict, so that a test sees what the milter made of it.
"""

import contextlib
import re
import time

from harness import address, plain_lab
from parts.process import Ports, wait_until

SENDER = "someone@senders.test"
DOMAIN = "example.com"
A, B, C = address(1), address(2), address(3)
EVENT_ID = "0123456789abcdef"
RECORD = {"old": "o", "locked": "l", "back": "r", "new": "n"}


class Host:
    def __init__(self, lab, side):
        self.lab = lab
        self.redis = lab.redis
        self.side = getattr(lab, side)
        self.postfix = self.side.postfix
        self.sluice = self.side.sluice
        self.milter = self.side.sluice.milter

    # the store

    def prepare_store(self):
        command = self.redis.command
        command("HSET", "sluice:chain", "epoch", "1", "floor", "1",
                "id", EVENT_ID, "1", EVENT_ID)
        command("SET", "sluice:secret", b"0123456789abcdef0123456789abcdef")
        command("SADD", "sluice:domains", DOMAIN)
        self.own("old")

    def own(self, state):
        self._put("", state, "", "", 1)

    def home(self, mailbox, state, new="", copy="", epoch=1):
        self._put(mailbox.partition("@")[0], state, new, copy, epoch)

    def _put(self, local, state, new, copy, epoch):
        record = f"{RECORD[state]}{epoch:x}.{int(time.time()):x}"
        record += f"\tn={new}" if new else ""
        record += f"\tc={copy}" if copy else ""
        self.redis.command("HSET", f"sluice:home:{DOMAIN}", local, record)

    def held(self):
        flat = self.redis.command(
            "HGETALL", f"sluice:held:{self.sluice.hostname}")
        return dict(zip(flat[::2], flat[1::2]))

    def commands(self):
        """How many commands Redis has served for others than the lab."""
        stats = self.redis.command("INFO", "commandstats")
        counts = dict(re.findall(r"cmdstat_([a-z|_]+):calls=(\d+)", stats))
        return sum(int(n) for name, n in counts.items()
                   if name not in ("info", "ping"))

    # the milter

    def lines(self, queue_id):
        return re.findall(rf"{queue_id}: (verdict=.*)", self.milter.log())

    def wait_lines(self, queue_id, count=1):
        return wait_until(lambda: len(self.lines(queue_id)) >= count and
                          self.lines(queue_id), 10,
                          f"{count} lines about {queue_id}")

    def free_port(self):
        ports = Ports()
        self._ports = ports  # keeps the reservation
        return ports.take()

    # the mail

    def boxes(self, *addresses):
        self.postfix.wait_empty()
        read = self.lab.read_old if self.side is self.lab.old \
            else self.lab.read_new
        return read(list(addresses))

    def queue_of(self, queue_id):
        """Name of the queue that the message is in, or None."""
        for entry in self.postfix.queue():
            if entry["queue_id"] == queue_id:
                return entry["queue_name"]
        return None


@contextlib.contextmanager
def milter_host(side="old", start=True, extra="", prepare=None):
    with plain_lab([A, B, C], start=False, chroot=True) as lab:
        host = Host(lab, side)
        lab.wire_sluice()
        # Without policyd: only the milter's gate.
        host.postfix.postconf(transport_maps="", smtpd_recipient_restrictions="",
                              virtual_alias_maps=f"hash:{host.postfix.config}"
                                                 "/virtual")
        host.sluice.domains[DOMAIN] = lab.domain_section(
            host.side, '  same-as = {"localhost"}\n'
            '  redirect-domains = {"senders.test"}\n' + extra)
        if prepare:
            prepare(host)
        lab.redis.start()
        host.prepare_store()
        host.side.dovecot.start()
        host.sluice.write_config()
        if start:
            host.milter.start()
        host.postfix.start()
        yield host
