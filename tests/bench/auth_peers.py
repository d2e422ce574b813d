"""The filters that sluice-milter's verification is measured against.

Contract
  Opendkim + Opendmarc   in turn, as Debian ships them, the usual pair; opendmarc
                         checks SPF itself (libspf2)
  Rspamd                 as a milter by itself (rspamd_proxy, self_scan) with
                         nothing but spf, dkim and dmarc, as many workers as cores
  Null                   null_milter: a libmilter filter that does nothing
  Each Peer has socket (below the given directory), start(), stop(), pids(); all
  of them ask the DNS server that is given, on port 53, since the C library of
  opendmarc knows no other; it has a resolv.conf of its own (mount namespace).
  opendkim's libunbound asks no loopback address and knows better about test.
  (opendkim's ResolverConfiguration mends that, and crashes: the file is read for
  each message, by several threads at once, and libunbound's parser is not made
  for that). Hence
  private_network(*addresses)   a network of our own, in which these addresses
                                are this host's; for what is started within
  cpu_seconds(pids)      user and system time that processes have used so far
  resident(pid)          bytes of memory
"""

import contextlib
import ctypes
import os
import shutil

from parts.process import Child, accepts, run

CLONE_NEWNET = 0x40000000

START_LIMIT_S = 90
PLUGINS = "/usr/share/rspamd/plugins"
SUFFIXES = "/usr/share/publicsuffix/public_suffix_list.dat"
PACKAGES = {"opendkim": "opendkim", "opendmarc": "opendmarc",
            "rspamd": "rspamd"}
NOBODY_ELSE = "203.0.113.1"  # the only host whose mail they do not verify

OPENDKIM_CONF = """\
Mode v
Socket local:{socket}
Nameservers {dns}
Syslog no
UMask 000
AuthservID bench.test
InternalHosts {nobody}
Background no
"""

OPENDMARC_CONF = """\
Socket local:{socket}
Syslog no
UMask 000
AuthservID bench.test
TrustedAuthservIDs bench.test
IgnoreHosts {directory}/ignore
PublicSuffixList {suffixes}
SPFSelfValidate true
SPFIgnoreResults true
"""

RSPAMD_CONF = """\
options {{
  filters = "dkim";
  dns {{ nameserver = ["{dns}:53:1"]; timeout = 2s; }}
  local_addrs = [];
  control_socket = "{directory}/control.sock mode=0600";
  url_tld = "{directory}/tld";
  tempdir = "{directory}";
  hs_cache_dir = "{directory}";
  cache_file = "{directory}/symbols.cache";
  stats_file = "{directory}/stats.ucl";
  task_timeout = 20s;
}}
logging {{ type = "console"; level = "error"; }}
actions {{ reject = 1000; }}
worker "rspamd_proxy" {{
  bind_socket = "{socket} mode=0666";
  milter = yes;
  timeout = 60s;
  count = {workers};
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
modules {{ path = "{directory}/plugins/"; }}
spf {{ check_local = true; check_authed = true; }}
dkim {{ check_local = true; check_authed = true; trusted_only = false; }}
dmarc {{ check_local = true; check_authed = true; }}
milter_headers {{
  use = ["authentication-results"];
  skip_local = false;
  skip_authenticated = false;
}}
"""


class Peer:
    def __init__(self, name, directory):
        self.name = name
        self.directory = os.path.join(directory, name)
        os.makedirs(self.directory)
        os.chmod(self.directory, 0o755)
        self.socket = os.path.join(self.directory, "milter.sock")
        self._child = Child(name, os.path.join(self.directory, "log"))

    def write(self, file, text):
        path = os.path.join(self.directory, file)
        with open(path, "w", encoding="utf-8") as out:
            out.write(text)
        return path

    def start(self, argv):
        if not shutil.which(argv[0]):
            raise RuntimeError(f"{argv[0]} is missing: apt-get install "
                               f"{PACKAGES.get(argv[0], argv[0])}")
        self._child.start(argv)
        self._child.wait_ready(lambda: accepts(self.socket), START_LIMIT_S,
                               "accepts connections")

    def stop(self):
        self._child.end()

    def pids(self):
        return [self._child.pid, *_children(self._child.pid)]


class Null(Peer):
    def __init__(self, directory, bindir):
        super().__init__("null", directory)
        self._program = os.path.join(bindir, "tests", "bench", "null_milter")

    def start(self):
        super().start([self._program, self.socket])


class Opendkim(Peer):
    def __init__(self, directory, dns, name="opendkim"):
        super().__init__(name, directory)
        self._config = self.write("conf", OPENDKIM_CONF.format(
            socket=self.socket, dns=dns, nobody=NOBODY_ELSE))

    def start(self):
        super().start(["opendkim", "-f", "-x", self._config])


class Opendmarc(Peer):
    def __init__(self, directory, dns, name="opendmarc"):
        super().__init__(name, directory)
        self.write("ignore", f"{NOBODY_ELSE}\n")
        self._resolv = self.write("resolv.conf", f"nameserver {dns}\n")
        self._config = self.write("conf", OPENDMARC_CONF.format(
            socket=self.socket, directory=self.directory, suffixes=SUFFIXES))

    def start(self):
        super().start(["unshare", "--mount", "sh", "-c",
                       'mount --bind "$1" /etc/resolv.conf && '
                       'exec opendmarc -f -c "$2"', "sh", self._resolv,
                       self._config])


class Rspamd(Peer):
    def __init__(self, directory, dns):
        super().__init__("rspamd", directory)
        plugins = os.path.join(self.directory, "plugins")
        os.makedirs(plugins)
        for name in ("spf", "dmarc", "milter_headers"):
            os.symlink(os.path.join(PLUGINS, f"{name}.lua"),
                       os.path.join(plugins, f"{name}.lua"))
        self.write("tld", "com\nnet\norg\ntest\nexample\n")
        self._config = self.write("conf", RSPAMD_CONF.format(
            socket=self.socket, directory=self.directory, dns=dns,
            workers=os.cpu_count()))

    def start(self):
        super().start(["rspamd", "-f", "-i", "-c", self._config])


@contextlib.contextmanager
def private_network(*addresses):
    libc = ctypes.CDLL(None, use_errno=True)
    with open("/proc/self/ns/net", "rb") as outside:
        if libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "no network namespace of our own")
        try:
            run(["ip", "link", "set", "lo", "up"])
            for address in addresses:
                run(["ip", "address", "add", f"{address}/32", "dev", "lo"])
            yield
        finally:
            libc.setns(outside.fileno(), CLONE_NEWNET)


def _children(pid):
    """All processes below this one."""
    found = []
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as file:
            direct = [int(word) for word in file.read().split()]
    except OSError:
        return []
    for child in direct:
        found += [child, *_children(child)]
    return found


def cpu_seconds(pids):
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    raise RuntimeError(f"process {pid} has no memory")
