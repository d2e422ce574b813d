"""A walk through a playbook on real servers: every step is killed and resumed, and
rolled back.

Contract
  walk = Walk(play, name, variant=None, ...)   takes a picture of the beginning; then the
      test starts the playbook
  walk.through()   goes through it once, in groups: some steps that only look, write or
      ask, and the one after them that changes something or has an undo. Of each group:
        - a picture before it
        - every step gets SIGKILL, it and its children, when it has begun, is resumed,
          and ends well; the one that changes something is killed at everything that can
          be seen to change as well. An acknowledgement is killed in its check.
        - rollback --to the group's first step, killed when it has begun and at the first
          change: the picture is that of before
        - again to the middle of the change, killed there, and rolled back from there:
          the picture is that of before
        - again, and on
      Behind a point of no return the rollback must be refused. Where there is none it
      goes back to the beginning at the end, else just before that point.
      The steps are those that the playbook has (show --json); one that was not killed,
      or not undone, fails the test.
  acks, undone   {step: function}: what the person does before each acknowledgement, of
      the step or of its undo
  more()         {what: value}, what else a rollback has to restore
  touched()      something that differs when this has changed; it is asked often
  to, boxes      whom the messages of a picture go to; [(side, address)] where they are
      looked for (default: the same on both sides)
  filter         a Filter that messages are sent through as well
  whole          whether it goes back to the beginning before a point of no return

A picture: the zone with its TTLs on both servers, the homes with their addresses, what
the maps of both Postfixes answer; before and after a change of routing also where real
messages to both servers arrive. None of those messages may be lost or be doubled in the
end. A mailbox that is locked on its way back (record letter r) counts as locked: for
mail it is the same.
"""

import json
import os
import re
import socket
import struct
import subprocess
import threading
import time

from harness import expect, expect_true, message, wait_until
from parts.process import run
from play_case import ACKS_MAX, BOXES, DOMAIN, RUN_S, Said, kill_tree

CHANGES_MAX = 4   # of one step at which it is killed
TRIES = 6         # to kill a step that has not ended yet
LOOK_S = 0.003
ARRIVE_S = 150
NO_MAIL = ("sync", "each", "notice-send", "command")   # their changes route nothing


class Walk:
    def __init__(self, play, name, *words, acks=None, undone=None, more=dict,
                 touched=lambda: None, to=BOXES[1:2], boxes=None, filter=None,
                 whole=True):
        self.play, self.name = play, " ".join((name, *words))
        self.acks, self.undone = acks or {}, undone or {}
        self.more, self._touched = more, touched
        self.to, self.filter, self.whole = to, filter, whole
        self.boxes = boxes or [(side, box) for side in ("old", "new") for box in to]
        self.plan = json.loads(play("show", name, *words, "--json").out)["steps"]
        self.ids = [step["id"] for step in self.plan]
        self.killed, self.taken_back, self.sent = set(), set(), {}
        self.kills = self.rollbacks = self.pictures = 0
        self._last, self._scanned = "0", 0
        self._began = time.monotonic()
        self.beginning = self.picture()

    def through(self):
        try:
            for group in self._groups():
                began = time.monotonic()
                self._group(group)
                print(f"{len(group):3} steps to {group[-1]['id']}: "
                      f"{time.monotonic() - began:.1f} s", flush=True)
            if not self._wall():
                self._back(None)
                self._same("the beginning", self.picture(), self.beginning)
            self._complete()
        finally:
            print(f"{self.name}: {len(self.killed)} of {len(self.ids)} steps walked, "
                  f"{self.kills} kills, {self.rollbacks} rollbacks, {self.pictures} "
                  f"pictures, {len(self.sent)} messages, "
                  f"{time.monotonic() - self._began:.0f} s", flush=True)

    # the steps

    def _groups(self):
        groups = [[]]
        for step in self.plan:
            groups[-1].append(step)
            if acts(step) or step["point_of_no_return"]:
                groups.append([])
        return [group for group in groups if group]

    def _wall(self):
        return next((step for step in self.plan if step["point_of_no_return"]), None)

    def _after(self, step):
        at = self.ids.index(step["id"]) + 1
        return self.ids[at] if at < len(self.ids) else None

    def _complete(self):
        expect("steps that were not killed", [
            id for id in self.ids if id not in self.killed], [])
        expect("steps that were not rolled back", [
            id for id in self.ids if id not in self.taken_back], [])
        found = {}
        for side in ("old", "new"):
            addresses = sorted({box for name, box in self.boxes if name == side})
            for box, read in self._read(side, addresses).items():
                for it in read:
                    found.setdefault(it.id, []).append((side, box))
        expect("lost", [id for id in self.sent if id not in found], [])
        expect("twice in a mailbox", [
            (id, places) for id, places in found.items()
            if id in self.sent and len(set(places)) < len(places)], [])

    def _group(self, group):
        last, first = group[-1], group[0]
        mail = acts(last) and last["action"] not in NO_MAIL
        before = self.picture(mail)
        if last["point_of_no_return"]:
            self._at_the_wall(group, before)
            return
        self._killed_at_beginnings(group, self._after(last) if last["kind"] == "person"
                                   or not acts(last) else last["id"])
        if last["kind"] == "change":
            self._killed_at_changes(last)
        self._go(self._after(last), killed=True)
        self._back(first["id"], killed=True)
        self._same(f"rolled back from behind {last['id']}", self.picture(mail), before)
        if acts(last) and last["undo"] != "nothing":
            self._go(last["id"])
            self._to_the_middle(last)
            self._back(last["id"])
            self._same(f"rolled back from the middle of {last['id']}",
                       self.picture(mail), before)
        self._go(self._after(last))

    def _at_the_wall(self, group, before):
        """Before it is acknowledged there is a way back, behind it there is none."""
        wall, first = group[-1]["id"], group[0]["id"]
        self._killed_at_beginnings(group, wall)
        self._killed_at_its_beginning(group[-1])
        said = self._run(self._after(group[-1]))
        expect(f"waits for the point of no return ({said})", said.waits, wall)
        self._back(None if self.whole else first)
        if self.whole:
            self._same("the beginning", self.picture(), self.beginning)
            self._go(first)
        self._same(f"before {first} again", self.picture(False), before)
        self._go(self._after(group[-1]), killed=True)
        self._refused(first, wall)

    def _refused(self, first, wall):
        states, seen = self._states(), self.seen()
        for words in ((), ("--to", first), ("--to", wall)):
            said = self.play("rollback", DOMAIN, *words)
            expect(f"rollback {words} is refused ({said})", said.code, 1)
            expect_true(f"with its reason: {said}", f"step {wall} " in said.err and
                        "point of no return" in said.err)
        expect("states", self._states(), states)
        self._same("after a refused rollback", self.seen(), seen)

    # forward

    def _run(self, to, *words):
        return self.play.run(*(("--to", to) if to else ()), *words)

    def _go(self, to, killed=False):
        """Until everything before that step is done, with the acknowledgements."""
        for _ in range(ACKS_MAX):
            said = self._run(to)
            if said.code == 0:
                return
            self._acknowledge(said, killed)
        raise AssertionError("it never ends")

    def _acknowledge(self, said, killed):
        expect_true(f"waits for a person: {said}", said.code == 75 and said.waits)
        self.acks.get(said.waits, lambda: None)()
        if killed:
            self._killed_in_its_check(said.waits)
        if self._states()[said.waits] != "d":
            said = self.play.ack(said.waits)
            expect(f"ack ({said})", said.code, 0)

    def _killed_at_beginnings(self, steps, to):
        """Each is killed when it has begun; the same command resumes it and goes on to
        the next. One that had ended before the kill came is tried again."""
        left = {step["id"]: step for step in steps if step["id"] != to}
        for _ in range(len(left) * TRIES):
            begun, said = self._watched(self._run_argv(to), lambda: next(
                filter(left.get, self._events("r")), None))
            if begun:
                if self._states()[begun] == "r" or not has_process(left[begun]):
                    self.killed.add(left.pop(begun)["id"])
                else:
                    self._back(begun)
            elif said.code == 0:
                break
            else:
                self._acknowledge(said, True)
        expect("steps that ended before every kill", list(left), [])

    def _killed_at_its_beginning(self, step):
        begun, said = self._watched(self._run_argv(self._after(step)),
                                    lambda: step["id"] in self._events("r"))
        expect_true(f"killed in {step['id']}: {said}", begun)
        self.killed.add(step["id"])

    def _killed_at_changes(self, step):
        self._killed_at_its_beginning(step)
        for _ in range(CHANGES_MAX):
            seen, said = self._watched(self._run_argv(self._after(step)), self._change())
            if not seen:
                expect(f"{step['id']} ends well ({said})", said.code, 0)
                return

    def _killed_in_its_check(self, step):
        path = os.path.join(self.play.directory(), f"{step}.log")

        def size():
            return os.path.getsize(path) if os.path.exists(path) else 0
        before = size()
        self._watched(self.play.argv("ack", DOMAIN, step, "--by", "test"),
                      lambda: size() != before)

    def _to_the_middle(self, step):
        """To a state between those before and after it; a person has done his part and
        not said so."""
        if step["kind"] == "person":
            said = self._run(self._after(step))
            expect(f"waits ({said})", said.waits, step["id"])
            self.acks.get(step["id"], lambda: None)()
            return
        for _ in range(TRIES):
            seen, said = self._watched(self._run_argv(self._after(step)), self._change())
            expect_true(f"{step['id']} is seen to change something: {said}", seen)
            if self._states()[step["id"]] == "r":
                return
            self._back(step["id"])
        raise AssertionError(f"{step['id']} has ended before every kill")

    def _run_argv(self, to):
        return self.play.argv("run", DOMAIN, "--wait", *(("--to", to) if to else ()))

    # back

    def _back(self, to, killed=False):
        words = ["rollback", DOMAIN] + (["--to", to] if to else [])
        if killed:
            argv = self.play.argv(*words)
            self._watched(argv, lambda: self._events("b"))
            self._watched(argv, self._change())
        for _ in range(ACKS_MAX):
            said = self.play(*words)
            if said.code == 0:
                break
            expect_true(f"rollback waits for a person: {said}",
                        said.code == 75 and said.waits)
            self.undone.get(said.waits, lambda: None)()
            said = self.play.ack(said.waits)
            expect(f"ack of an undo ({said})", said.code, 0)
        self.rollbacks += 1
        states = self._states()
        first = self.ids.index(to) if to else 0
        expect(f"after rollback to {to}", {
            id: states[id] for id in self.ids[first:] if states[id] not in ("u", "p")}, {})
        self.taken_back |= {id for id in self.ids if states[id] == "u"}

    def _states(self):
        """{step: letter of its record}"""
        flat = self.play.lab.redis.command("HGETALL", f"sluice:playbook:{DOMAIN}")
        found = dict(zip(flat[::2], flat[1::2]))
        return {id: found[id].split("\t")[1] if id in found else "p" for id in self.ids}

    # killing

    def _watched(self, argv, wanted):
        """Runs a command until wanted() says something; then it and its children get
        SIGKILL. (what, Said)"""
        self._events("")
        with subprocess.Popen(argv, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              env=self.play.env, start_new_session=True) as child:
            said, found = [], None
            reader = threading.Thread(
                target=lambda: said.extend(child.communicate()))
            reader.start()
            limit = time.monotonic() + RUN_S
            while not found and child.poll() is None and time.monotonic() < limit:
                found = wanted()
                if not found:
                    time.sleep(LOOK_S)
            if child.poll() is None:
                expect_true(f"within {RUN_S} s: {argv}", found)
                kill_tree(child.pid)
                self.kills += 1
            reader.join(RUN_S)
            return found or wanted(), Said(child.returncode, *said)

    def _events(self, letter):
        """Steps whose records became so since the last look."""
        command = self.play.lab.redis.command
        if self._last == "0":
            self._last = command("XREVRANGE", "sluice:events", "+", "-", "COUNT",
                                 "1")[0][0]
        found = command("XREAD", "COUNT", "1000", "STREAMS", "sluice:events", self._last)
        steps = []
        for id, fields in found[0][1] if found else []:
            self._last = id
            event = dict(zip(fields[::2], fields[1::2]))
            if event["op"] == "playbook":
                steps += [row[0] for row in (line.split("\t") for line in
                                             event["body"].split("\n"))
                          if len(row) > 3 and row[0] and row[2] == letter]
        return steps

    def _change(self):
        before = self._marks()
        return lambda: self._marks() != before

    def _marks(self):
        lab = self.play.lab
        return (lab.redis.command("HGETALL", f"sluice:home:{DOMAIN}"),
                [serial(server.port) for server in (self.play.first, self.play.second)],
                files(self.play.directory()), files(lab.sync_directory), self._touched())

    # pictures

    def picture(self, mail=True):
        self.pictures += 1
        return {**self.seen(), **({"mail": self._mail()} if mail else {})}

    def seen(self):
        sides = (self.play.lab.old, self.play.lab.new)
        return {"records": self.play.zone(), "homes": self._homes(),
                "maps": {side.name: answers(side.postfix) for side in sides},
                **self.more()}

    @staticmethod
    def _same(when, now, before):
        for what, value in before.items():
            expect(f"{when}: {what}", now[what], value)

    def _homes(self):
        flat = self.play.lab.redis.command("HGETALL", f"sluice:home:{DOMAIN}")
        return {local: [record[0].replace("r", "l")] + record.split("\t")[1:]
                for local, record in zip(flat[::2], flat[1::2])}

    def _servers(self):
        lab = self.play.lab
        return {"old": lab.old.postfix, "new": lab.new.postfix,
                **({"filter": self.filter.postfix} if self.filter else {})}

    def _mail(self):
        """Where messages to each server arrive, or by which they are held."""
        new, number = {}, self.pictures
        for server, postfix in self._servers().items():
            for box in self.to:
                id = f"picture-{number}-by-{server}-{box.split('@')[0]}"
                reply = postfix.smtp(f"{id}@senders.test", [box], message(id, to=box))
                expect_true(f"{id} is accepted: {reply}", reply.accepted)
                new[id] = f"by {server} to {box}"
        self.sent.update(new)
        found = wait_until(lambda: self._places(new), ARRIVE_S, f"{list(new)} arrive",
                           interval=0.15)
        return {new[id]: sorted(places) for id, places in found.items()}

    def _places(self, ids):
        """{id: places}, once nothing is on its way any more."""
        held = self._held(ids)
        found = {id: [] for id in ids}
        for side in ("old", "new"):
            addresses = [box for name, box in self.boxes if name == side]
            for box, read in self._read(side, addresses).items():
                for it in read:
                    if it.id in found:
                        found[it.id].append(f"{box} on {side}")
        if held is None or held != self._held(ids):
            return None
        for id, server in held:
            found[id].append(f"held by {server}")
        return found if all(found.values()) else None

    def _held(self, ids):
        """[(id, server)] of those on hold. None: one is on its way."""
        held = []
        for server, postfix in self._servers().items():
            if not postfix.queue_files("maildrop", "incoming", "active", "deferred",
                                       "hold"):
                continue
            for it in postfix.queue():
                id = it["sender"].split("@")[0]
                if id in ids and it["queue_name"] != "hold":
                    self._scan(postfix)
                    return None
                if id in ids:
                    held.append((id, server))
        return held

    def _scan(self, postfix):
        """A message that was under way when Postfix was reloaded lies in incoming for a
        minute, and then until something comes."""
        if time.monotonic() > self._scanned + 1:
            self._scanned = time.monotonic()
            postfix.scan_incoming()

    def _read(self, side, addresses):
        return self.play.boxes(getattr(self.play.lab, side), addresses) \
            if addresses else {}


def acts(step):
    """Whether it changes something, or has an undo."""
    return step["kind"] == "change" or bool(step["undo"])


def has_process(step):
    return step["kind"] != "person" and step["action"] not in ("timer", "nothing")


def files(top):
    """Names, sizes and times of what is below; logs say only that something began."""
    found = []
    for directory, _, names in os.walk(top):
        for name in names:
            try:
                info = os.stat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            if not name.endswith((".log", ".log.1", ".lock")):
                found.append((directory, name, info.st_size, info.st_mtime_ns))
    return sorted(found)


def serial(port):
    """The server's answer about the SOA record, without its id."""
    name = b"".join(bytes([len(label)]) + label.encode()
                    for label in DOMAIN.split(".")) + b"\0"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(2)
        udp.sendto(struct.pack(">6H", 1, 0, 1, 0, 0, 0) + name +
                   struct.pack(">2H", 6, 1), ("127.0.0.1", port))
        try:
            return udp.recv(4096)[2:]
        except TimeoutError:
            return None


def answers(postfix):
    """What its maps say of each mailbox, and of an address that is none."""
    asked = "".join(f"{address}\n" for address in [*BOXES, f"nobody@{DOMAIN}"])
    found = {}
    with open(os.path.join(postfix.config, "main.cf"), encoding="utf-8") as file:
        settings = dict(re.findall(r"^(transport_maps|virtual_alias_maps) *= *(.*)$",
                                   file.read(), re.MULTILINE))
    expect("maps", len(settings), 2)
    for name, value in settings.items():
        found[name] = value
        for table in value.split(", "):
            if table.startswith("socketmap:"):
                socket_map = table.replace("unix:", f"unix:{postfix.queue_directory}/")
                found[table] = wait_until(lambda: ask(postfix, socket_map, asked), 30,
                                          f"{table} answers", interval=0.2)
    return found


def ask(postfix, table, asked):
    """The answers, "nothing" too; None: try later, as on a busy machine."""
    _, out, err = run(["postmap", "-c", postfix.config, "-q", "-", table], input=asked,
                      check=False)
    return None if err else ["answers", *sorted(out.splitlines())]
