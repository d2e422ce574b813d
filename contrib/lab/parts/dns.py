"""A private Knot DNS: the zones of the lab, on one loopback port, UDP and TCP.

Contract
  zone(name, records)    a zone with these records, each a line of a zone file
      ("@ 300 TXT \\"v=spf1 -all\\"", "mail A 192.0.2.1"); SOA and NS are added.
      The same zone again replaces it. Before start(), or followed by reload()
  start() stop() kill()  kill() is a crash; the zones are read from their files
  reload()               returns when the changed zones are served
  server                 "127.0.0.1:PORT", for auth { servers = {...} }
  knotc(*words)          Knot's control program on this instance
  txt(text)              a TXT record's data: quoted, in strings of 255 bytes
  also_listen            more of "ADDRESS@PORT", to be set before start()
  allow_updates(key)     RFC 2136 updates signed with this TSIG key, a Tsig();
      to be called before start(). What updates change is kept in a journal, not
      in the zone's file; set() changes one, too; live(name, type) is what is served now, dump(zone)
      all of it but the SOA (by zone transfer), sorted
  sign()                 from now on the zones are signed (DNSSEC), keys made by Knot;
      not with a zone() after it
  follow(primary, name)  a secondary: gets the zone by AXFR, and again whenever the
      primary notifies it; to be called before either starts. behind() keeps it
      from following, caught_up() ends that
  Only the zones are answered for, everything else is REFUSED; with the zone "."
  it does not exist.
"""

import base64
import os
import time

from .process import Child, run, wait_until

CONFIG = """\
server:
    rundir: {directory}/run
    listen: [ {listen} ]
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: {directory}/db
log:
  - target: stderr
    any: info
{remotes}{updates}template:
  - id: default
    semantic-checks: off
    zonefile-sync: -1
    zonefile-load: difference-no-serial
    journal-content: all
    dnssec-signing: {signing}
zone:
"""

ZONE = """\
$ORIGIN {origin}
$TTL 300
@ SOA ns hostmaster {serial} 3600 600 86400 300
@ NS ns
ns A 127.0.0.1
"""


def txt(text):
    """Data of a TXT record that holds this text (RFC 1035 5.1)."""
    quoted = []
    for at in range(0, max(1, len(text)), 255):
        part = text[at:at + 255].replace("\\", "\\\\").replace('"', '\\"')
        quoted.append(f'"{part}"')
    return " ".join(quoted)


class Tsig:
    """A TSIG key; write(path) makes the file that tsig-keygen makes."""

    def __init__(self, name, secret=None, algorithm="hmac-sha256"):
        self.name, self.algorithm = name, algorithm
        self.secret = secret or base64.b64encode(os.urandom(32)).decode()

    def write(self, path):
        with open(path, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(f'key "{self.name}" {{\n\talgorithm {self.algorithm};\n'
                       f'\tsecret "{self.secret}";\n}};\n')


class Dns:
    def __init__(self, directory, port):
        self.directory = directory
        self.port = port
        self.log_path = os.path.join(directory, "knot.log")
        self._config = os.path.join(directory, "knot.conf")
        self.also_listen = []
        self._tsig = None
        self._signing = "off"
        self._primaries = {}    # zone -> the Dns that it is transferred from
        self._secondaries = []  # (zone, Dns)
        self._serials = {}
        self._serial = int(time.time())
        self._child = Child("knotd", self.log_path)
        for part in ("run", "db", "zones"):
            os.makedirs(os.path.join(directory, part))

    @property
    def server(self):
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self._child.pid

    @property
    def running(self):
        return self._child.running

    def zone(self, name, records):
        self._serial += 1
        with open(self._path(name), "w", encoding="utf-8") as file:
            file.write(ZONE.format(origin=_origin(name), serial=self._serial))
            file.write("".join(f"{record}\n" for record in records))
        self._serials[name] = self._serial
        self._write_config()

    def _path(self, name):
        name = "root" if name == "." else name
        return os.path.join(self.directory, "zones", f"{name}.zone")

    def allow_updates(self, key):
        self._tsig = key

    def live(self, name, type):
        """The records of this name and type, as "TTL DATA" lines, sorted."""
        _, out, _ = run(["kdig", "+noall", "+answer", "+tcp", "+nocrypto",
                         "@127.0.0.1", "-p", str(self.port), _origin(name),
                         type], check=False)
        rows = [line.split(None, 4) for line in out.splitlines()
                if line and not line.startswith(";")]
        return sorted(f"{row[1]} {row[4]}" for row in rows
                      if len(row) == 5 and row[0] == _origin(name)
                      and row[3] == type)

    def dump(self, zone):
        _, out, _ = run(["kdig", "+noall", "+answer", "+nocrypto", "@127.0.0.1",
                         "-p", str(self.port), _origin(zone), "AXFR"])
        rows = [line.split() for line in out.splitlines()
                if line and not line.startswith(";")]
        return sorted(" ".join(row) for row in rows if row[3] != "SOA")

    def sign(self):
        self._signing = "on"
        self._write_config()
        self.knotc("reload")
        for zone in self._serials:
            wait_until(lambda zone=zone: self.live(zone, "DNSKEY"), 20,
                       f"{zone} is signed")

    def set(self, zone, owner, ttl, type, data):
        """One record instead of those of its name and type."""
        zone = _origin(zone)
        for words in (["zone-begin", zone], ["zone-unset", zone, owner, type],
                      ["zone-set", zone, owner, str(ttl), type, data],
                      ["zone-commit", zone]):
            self.knotc(*words)

    def follow(self, primary, name):
        self._primaries[name] = primary
        primary._secondaries.append((name, self))
        primary._write_config()
        self._write_config()

    def behind(self):
        """Takes over no change from here on."""
        for name in self._primaries:
            self.knotc("zone-freeze", _origin(name))

    def caught_up(self):
        for name, primary in self._primaries.items():
            self.knotc("zone-thaw", _origin(name))
            self.knotc("zone-refresh", _origin(name))
            wait_until(lambda: self.live(name, "SOA") == primary.live(
                name, "SOA"), 20, f"{name} is transferred")

    def _write_config(self):
        listen = [f"127.0.0.1@{self.port}", *self.also_listen]
        with open(self._config, "w", encoding="utf-8") as config:
            config.write(CONFIG.format(directory=self.directory,
                                       listen=", ".join(listen),
                                       remotes=self._remotes(),
                                       updates=self._updates(),
                                       signing=self._signing))
            for name in self._serials:
                config.write(f"  - domain: {_origin(name)}\n"
                             f"    file: {self._path(name)}\n"
                             + self._rights(name))
            for name in self._primaries:
                config.write(f"  - domain: {_origin(name)}\n"
                             "    master: primary\n    acl: [ notify, copy ]\n")

    def _rights(self, name):
        """Who may change and copy a zone, and who is told."""
        told = any(name == zone for zone, _ in self._secondaries)
        acls = ["copy"] + ["updates"] * bool(self._tsig)
        return f"    acl: [ {', '.join(acls)} ]\n" + (
            "    notify: secondary\n" if told else "")

    def _remotes(self):
        text = ""
        for id, servers in (("primary", list(self._primaries.values())),
                            ("secondary", [it for _, it in self._secondaries])):
            for server in servers[:1]:
                address = (server.also_listen or [f"127.0.0.1@{server.port}"])[0]
                text += f"  - id: {id}\n    address: {address}\n"
        return f"remote:\n{text}" if text else ""

    def _updates(self):
        acls = "".join(f"  - id: {id}\n    address: 127.0.0.0/8\n"
                       f"    action: {action}\n" for id, action in (
                           ("copy", "transfer"), ("notify", "notify")))
        if not self._tsig:
            return f"acl:\n{acls}"
        return (f"key:\n  - id: {self._tsig.name}\n"
                f"    algorithm: {self._tsig.algorithm}\n"
                f"    secret: {self._tsig.secret}\n"
                f"acl:\n{acls}  - id: updates\n    key: {self._tsig.name}\n"
                f"    action: update\n")

    def start(self):
        self._write_config()
        self._child.start(["knotd", "-c", self._config])
        self._child.wait_ready(self._serves, 20, "answers for every zone")

    def stop(self):
        return self._child.end()

    def kill(self):
        self._child.kill()

    def knotc(self, *words, check=True):
        return run(["knotc", "-c", self._config, *words], check=check)

    def reload(self):
        self.knotc("reload")
        wait_until(self._serves, 20, "Knot serves the changed zones")

    def _serves(self):
        """Whether each zone's serial is that of its file."""
        code, out, _ = self.knotc("zone-status", check=False)
        return code == 0 and all(
            any(line.startswith(f"[{_origin(name)}]")
                and f"serial: {serial}" in line for line in out.splitlines())
            for name, serial in self._serials.items()) and all(
                self.live(name, "SOA") for name in self._primaries)


def _origin(name):
    return name.rstrip(".") + "."
