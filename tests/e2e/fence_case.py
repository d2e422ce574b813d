"""What the tests of the fence and of the release share.

Contract
  with fence_lab(mailboxes) as lab    sluice on both sides, mailboxes imported;
      fence = reload unless another is named; milters=False leaves only the
      transport map between the senders and the mailboxes
  lock(lab, *words)                   `sluice lock`, must succeed
  class Command(lab, *words)          a sluice command in the background
  boxes(lab, address)                 sorted X-Lab-Ids in the old mailbox, read
      from the files
  host_state(lab)                     the old host's record in Redis, as text
  queued(lab, queue)                  ids in one queue of the old side
  Flow(lab, recipients)               mail to them every `pause` seconds, all
      from one sender, in the background; .sent are the ids accepted
"""

import contextlib
import os
import signal
import subprocess
import threading
import time

from harness import Timeout, message, sluice_lab, wait_until
from parts.mailbox import read_maildir
from parts.postfix import run
from parts.process import signal_group

SENDER = "someone@senders.test"
A, B, C = "a@example.com", "b@example.com", "c@example.com"
# Postfix keeps a resolved address for so long.
CACHE_S = 30


@contextlib.contextmanager
def fence_lab(mailboxes=(A, B), fence="reload", milters=True, prepare=None):
    def arrange(lab):
        for side in (lab.old, lab.new):
            side.sluice.fence = fence
            if not milters:
                side.postfix.postconf(smtpd_milters="", non_smtpd_milters="")
        if prepare:
            prepare(lab)

    with sluice_lab(list(mailboxes), arrange) as lab:
        yield lab


def lock(lab, *words):
    return lab.old.sluice.cli("lock", *words, check=True, timeout=240)


class Command:
    def __init__(self, lab, *words):
        self.process = subprocess.Popen(
            lab.old.sluice.argv(*words), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True)

    @property
    def running(self):
        return self.process.poll() is None

    def wait(self, timeout=200):
        """(exit code, output)"""
        try:
            out, _ = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            signal_group(self.process.pid, signal.SIGKILL)
            raise
        return self.process.returncode, out


def boxes(lab, address):
    """Also what was delivered twice is there twice."""
    path = lab.old.dovecot.maildir(address)
    if not os.path.isdir(path):
        return []
    return sorted(found.id for found in read_maildir(path))


def host_state(lab):
    record = lab.redis.command("HGET", "sluice:hosts",
                               lab.old.sluice.hostname) or ""
    return record


def wait_state(lab, text, timeout=60):
    try:
        wait_until(lambda: text in host_state(lab), timeout,
                   f"the old host says {text!r}", interval=0.1)
    except Timeout:
        print(f"the old host's record: {host_state(lab)!r}")
        raise


def queued(lab, queue):
    return [entry["queue_id"] for entry in lab.old.postfix.queue()
            if entry["queue_name"] == queue]


def home(lab, local):
    """The record of a mailbox in Redis, its first letter."""
    return (lab.redis.command("HGET", "sluice:home:example.com", local)
            or "-")[0]


def wait_home(lab, local, letter, timeout=60):
    wait_until(lambda: home(lab, local) == letter, timeout,
               f"{local} is {letter}")


def send(lab, ids, recipients, sender=SENDER):
    for one in ids:
        reply = lab.old.postfix.smtp(sender, recipients, message(one))
        if reply.code != 250 or reply.refused:
            raise AssertionError(f"message {one}: {reply}")


class Flow:
    def __init__(self, lab, recipients, pause=0.2, prefix="m", side=None):
        self.sent = []
        self._postfix = (side or lab.old).postfix
        self._recipients = recipients
        self._pause, self._prefix = pause, prefix
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        number = 0
        while not self._end.is_set():
            number += 1
            one = f"{self._prefix}{number}"
            reply = self._postfix.smtp(SENDER, self._recipients, message(one))
            if reply.code == 250:
                self.sent.append(one)
            self._end.wait(self._pause)

    def stop(self):
        self._end.set()
        self._thread.join(60)
        return sorted(self.sent)


def wait_delivered(lab, address, ids, timeout=90):
    """Until exactly these are in the mailbox (also: none of them twice)."""
    wanted = sorted(ids)
    try:
        wait_until(lambda: len(boxes(lab, address)) >= len(wanted), timeout,
                   f"{len(wanted)} messages in {address}", interval=0.2)
    finally:
        got = boxes(lab, address)
    if got != wanted:
        missing = sorted(set(wanted) - set(got))
        twice = sorted(one for one in set(got) if got.count(one) > 1)
        raise AssertionError(f"{address}: missing {missing}, twice {twice}, "
                             f"unknown {sorted(set(got) - set(wanted))}")


def children(pid):
    """Process ids of the children of a process."""
    _, out, _ = run(["ps", "-o", "pid=", "--ppid", str(pid)], check=False)
    return [int(word) for word in out.split()]


def settle(seconds):
    """Time in which something must not happen."""
    time.sleep(seconds)
