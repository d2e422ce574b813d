"""Processes, ports and waiting: what every part of the lab stands on.

Contract
  wait_until(condition, timeout, what)  polls; returns the first true value,
      raises Timeout (naming `what`) when the deadline passes. It is the only
      place in the lab that sleeps.
  Ports        hands out loopback ports below the kernel's ephemeral range, so
      that no outgoing connection takes one first. A port is reserved against
      other labs on this machine by an abstract unix socket of its number,
      which the kernel frees when this process ends.
  Child        a process in the foreground with its output in a file, in a
      session of its own, ended by its process id (group), never by name.
  run(argv)    a command with a time limit; raises CommandFailed with both
      outputs when it fails and check is true.
"""

import os
import random
import signal
import socket
import subprocess
import time


class Timeout(Exception):
    """A condition did not come true in time."""


class CommandFailed(Exception):
    """A command ended with another code than 0."""


def wait_until(condition, timeout, what, interval=0.02):
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise Timeout(f"not within {timeout:g} s: {what}")
        time.sleep(interval)


def run(argv, check=True, timeout=60, input=None, env=None):
    """Runs a command; returns (exit code, stdout, stderr), text.

    A command that outlives its time limit is killed; a negative code is the
    signal that ended it, as in subprocess.
    """
    process = subprocess.Popen(
        [str(word) for word in argv], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env=env)
    data = input.encode() if isinstance(input, str) else input
    try:
        out, err = process.communicate(data, timeout)
    except BaseException as error:
        signal_group(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Timeout(f"not within {timeout:g} s: {argv}") from None
        raise
    out, err = out.decode(errors="replace"), err.decode(errors="replace")
    if check and process.returncode != 0:
        raise CommandFailed(
            f"{argv}: exit code {process.returncode}\n{out}{err}")
    return process.returncode, out, err


def signal_group(pid, number):
    """Signals the process group `pid`; false when it is gone."""
    try:
        os.killpg(pid, number)
        return True
    except (ProcessLookupError, PermissionError):
        return False


def group_alive(pid):
    """Whether the process group has a member that is not a zombie."""
    if not signal_group(pid, 0):
        return False
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8") as stat:
                fields = stat.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == pid and fields[0] != "Z":
            return True
    return False


def accepts(address):
    """Whether a connection to ("host", port) or a unix path is accepted."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(address)
            return True
        except OSError:
            return False


def tail(path, lines=20):
    try:
        with open(path, encoding="utf-8", errors="replace") as text:
            return "".join(text.readlines()[-lines:])
    except FileNotFoundError:
        return "(no such file)\n"


class Ports:
    FIRST, LAST = 10240, 32000

    def __init__(self):
        self._reservations = []

    def take(self):
        while True:
            port = random.randint(self.FIRST, self.LAST)
            reservation = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                reservation.bind(f"\0sluice-lab-port-{port}")
            except OSError:
                reservation.close()
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    reservation.close()
                    continue
            self._reservations.append(reservation)
            return port

    def release(self):
        for reservation in self._reservations:
            reservation.close()
        self._reservations = []


class Child:
    """A foreground process of the lab. `path` receives both its outputs."""

    def __init__(self, name, path):
        self.name = name
        self.path = path
        self.process = None

    @property
    def pid(self):
        return self.process.pid if self.process else None

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    def start(self, argv, env=None):
        if self.running:
            raise RuntimeError(f"{self.name} is already running")
        with open(self.path, "ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in argv], stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True,
                env=env)

    def wait_ready(self, condition, timeout, what):
        """Waits for the condition; a process that ended first is an error."""
        def ready():
            if not self.running:
                raise CommandFailed(
                    f"{self.name} ended with {self.process.returncode} "
                    f"while starting:\n{tail(self.path)}")
            return condition()
        wait_until(ready, timeout, f"{self.name}: {what}")

    def send(self, number):
        if self.running:
            os.kill(self.pid, number)

    def end(self, number=signal.SIGTERM, timeout=20):
        """Ends the process, then whatever it left in its process group.

        Returns the exit code (negative: the signal), None if never started.
        """
        if self.process is None:
            return None
        if self.running:
            signal_group(self.pid, signal.SIGCONT)
            os.kill(self.pid, number)
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                signal_group(self.pid, signal.SIGKILL)
                self.process.wait()
        signal_group(self.pid, signal.SIGKILL)
        return self.process.returncode

    def kill(self):
        """SIGKILL to the process and its group at once, as a crash."""
        if self.process is not None:
            signal_group(self.pid, signal.SIGKILL)
            self.process.wait()
