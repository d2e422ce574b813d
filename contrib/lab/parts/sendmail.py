"""A private Sendmail with its log: the daemon, the submission client and a real
rsyslogd, in a mount namespace of their own.

    server = Sendmail(directory, "old", port, lmtp_port, packages)
    server.mailbox("joe")
    server.route("new.example.com", "127.0.0.9", 2525, "mx.new.test")
    server.start()

Contract
  packages: a directory with Debian's sendmail-bin, sendmail-cf and rsyslog
      (contrib/lab/setup test unpacks them into lab-packages of the build
      directory: Debian cannot install Sendmail beside Postfix).
      unavailable(packages) says why it cannot run here, "" when it can
  Nothing of the host is changed: in its namespace /dev/log, /etc/passwd,
      /etc/group and /etc/hosts are files of its directory. Names are looked up in
      host(address, name) alone, never in DNS
  SMTP on 127.0.0.1:port, for the msp too. The daemon logs as sm-mta, sendmail(1)
      as sendmail, and the lines' host is `name`. log_level is 9 first, as
      Sendmail's own
  Local mail goes by LMTP to Dovecot (lmtp_port): mailbox(name) is a user of the
      system, with a home for forward(); local_domains are local
  route(domain, address, port, name)  mail for it goes to that server (mailertable);
      virtual(address, target), alias(name, *targets), access(key, value): the maps;
      these three may be changed while it runs
  milters=[(name, "local:/path"), ...]  INPUT_MAIL_FILTERs, in this order
  logins: {user: password} that SMTP AUTH takes; before start()
  extra: more lines of m4 for sendmail.mc; it, log_level and routes before start()
  log_path   lines as rsyslog's RSYSLOG_TraditionalFileFormat writes them,
  iso_path   the same as RSYSLOG_FileFormat; both are buffered until stop() or for
      a moment, so wait_log()
  smtp(), raw(), submit()  mail in; log(), wait_log(), start(), stop(), pid as
      parts.postfix has them
  queue(*words)   the ids of mailq; "-qQ": those in quarantine, which release() ends
  run_queue()     one run, in the foreground
"""

import glob
import os
import pwd
import re
import shutil
import signal
import smtplib
import socket
import struct
import threading

from .postfix import Postfix, Reply, transaction
from .process import Child, accepts, run

MSP_ID = 64990  # of smmsp in the namespace

# What a process sees instead of the host's own; $1 is the directory, $2 and $3
# are what it needs of /tmp, $4 where SASL has its plugins and its configuration.
# Sendmail trusts nothing below a directory that everybody may write to, so there
# is another /tmp with these two alone.
NAMESPACE = """\
set -e
mount -t tmpfs -o mode=755,size=64k none /mnt
mkdir /mnt/dev /mnt/lab /mnt/packages
for device in null zero full random urandom; do
    cp -a "/dev/$device" "/mnt/dev/$device"
done
ln -s "$1/log.sock" /mnt/dev/log
mount --rbind "$2" /mnt/lab
mount --rbind "$3" /mnt/packages
mount -t tmpfs -o mode=755,size=64k none /tmp
mkdir -p "$2" "$3"
mount --rbind /mnt/lab "$2"
mount --rbind /mnt/packages "$3"
mount --rbind /mnt/dev /dev
for file in passwd group hosts; do
    mount --bind "$1/etc/$file" "/etc/$file"
done
[ ! -d "$1/sasl2" ] || mount --bind "$1/sasl2" "$4"
shift 4
exec "$@"
"""

COMMON_MC = """\
divert(-1)
include(`{cf}/m4/cf.m4')
divert(0)dnl
VERSIONID(`lab')
OSTYPE(`linux')dnl
define(`confDOMAIN_NAME', `{hostname}')dnl
define(`confSERVICE_SWITCH_FILE', `{directory}/etc/service.switch')dnl
define(`confHOSTS_FILE', `{directory}/etc/hosts')dnl
define(`confTIME_ZONE', `USE_TZ')dnl
define(`confTO_IDENT', `0')dnl
define(`confTO_QUEUEWARN', `')dnl
define(`confMIN_QUEUE_AGE', `0')dnl
define(`confREFUSE_LA', `999')dnl
define(`confQUEUE_LA', `999')dnl
define(`confDELAY_LA', `0')dnl
define(`confDONT_PROBE_INTERFACES', `True')dnl
define(`confFORWARD_PATH', `$z/.forward')dnl
define(`STATUS_FILE', `{directory}/statistics')dnl
define(`HELP_FILE', `{directory}/etc/helpfile')dnl
FEATURE(`nouucp', `reject')dnl
"""

DAEMON_MC = COMMON_MC + """\
define(`QUEUE_DIR', `{directory}/mqueue')dnl
define(`confPID_FILE', `{directory}/sendmail.pid')dnl
define(`ALIAS_FILE', `{directory}/etc/aliases')dnl
define(`confCW_FILE', `{directory}/etc/local-host-names')dnl
define(`confHOST_STATUS_DIRECTORY', `')dnl
define(`confDEF_USER_ID', `nobody')dnl
define(`confLOG_LEVEL', `{log_level}')dnl
DAEMON_OPTIONS(`Family=inet, Name=MTA-v4, Port={port}, Addr=127.0.0.1')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`use_cw_file')dnl
FEATURE(`access_db', `hash -T<TMPF> {directory}/etc/access')dnl
FEATURE(`mailertable', `hash {directory}/etc/mailertable')dnl
FEATURE(`virtusertable', `hash {directory}/etc/virtusertable')dnl
FEATURE(`local_lmtp', `[IPC]', `TCP 127.0.0.1 {lmtp_port}')dnl
FEATURE(`accept_unresolvable_domains')dnl
FEATURE(`accept_unqualified_senders')dnl
{milters}{extra}MAILER(`local')dnl
MAILER(`smtp')dnl
MAILER_DEFINITIONS
{mailers}"""

# As the mailer esmtp, but to another port.
MAILER = """\
Mto{port}, P=[IPC], F=mDFMuXa, S=EnvFromSMTP/HdrFromSMTP, R=EnvToSMTP, E=\\r\\n, L=990,
		T=DNS/RFC822/SMTP,
		A=TCP $h {port}
"""

SUBMIT_MC = COMMON_MC + """\
define(`confCF_VERSION', `Submit')dnl
define(`__OSTYPE__',`')dnl
define(`_USE_DECNET_SYNTAX_', `1')dnl
define(`confPID_FILE', `{directory}/msp.pid')dnl
define(`MSP_QUEUE_DIR', `{directory}/clientmqueue')dnl
define(`confUSE_MSP', `True')dnl
define(`confDONT_INIT_GROUPS', `True')dnl
define(`confBIND_OPTS', `')dnl
define(`RELAY_MAILER_ARGS', `TCP $h {port}')dnl
FEATURE(`msp', `[127.0.0.1]')dnl
"""

RSYSLOG = """\
module(load="imuxsock" SysSock.Name="{directory}/log.sock"
       SysSock.RateLimit.Interval="0")
global(workDirectory="{directory}" localHostname="{name}")
action(type="omfile" file="{log}" template="RSYSLOG_TraditionalFileFormat")
action(type="omfile" file="{iso}" template="RSYSLOG_FileFormat")
"""


def unavailable(packages):
    """Why Sendmail cannot run here; "" when it can."""
    if not os.path.exists(os.path.join(packages, "usr/libexec/sendmail",
                                       "sendmail")):
        return (f"no Sendmail in {packages}: `contrib/lab/setup test` "
                "unpacks it there")
    code, _, text = run(["unshare", "--mount", "--propagation", "private",
                         "mount", "-t", "tmpfs", "none", "/mnt"], check=False)
    return f"no mount namespace of its own: {text.strip()}" if code else ""


def _sasl_directory():
    return (glob.glob("/usr/lib/*-linux-gnu*/sasl2") or [""])[0]


def _top(path):
    """Of what is below /tmp, the directory there; with all of a lab in it."""
    words = path.split("/")
    return "/".join(words[:3]) if words[1] == "tmp" else path


class Sendmail:
    def __init__(self, directory, name, port, lmtp_port, packages,
                 milters=(), local_domains=("example.com",)):
        self.directory = directory
        self.name = name
        self.port = port
        self.hostname = f"{name}.lab.test"
        self.milters = list(milters)
        self.local_domains = list(local_domains)
        self.extra = ""
        self.logins = {}
        self._saslauthd = None
        self.log_level = 9     # Sendmail's own default
        self.queue_interval = "2s"
        self.log_path = os.path.join(directory, "mail.log")
        self.iso_path = os.path.join(directory, "mail-iso.log")
        self._lmtp_port = lmtp_port
        self._packages = packages
        self._mailers = {}
        self._maps = {"mailertable": [], "virtusertable": [], "access": []}
        self._aliases = ["postmaster: root", "MAILER-DAEMON: postmaster"]
        self._child = Child("sendmail", os.path.join(directory, "stderr"))
        self._syslog = Child("rsyslogd", os.path.join(directory, "stderr"))
        self._create()

    # configuration

    def _path(self, *words):
        return os.path.join(self.directory, *words)

    def _program(self, *words):
        return os.path.join(self._packages, *words)

    def _create(self):
        for part, mode in (("etc", 0o755), ("home", 0o755),
                           ("mqueue", 0o700), ("clientmqueue", 0o700)):
            os.makedirs(self._path(part))
            os.chmod(self._path(part), mode)
        for name, line in (("passwd", f"smmsp:x:{MSP_ID}:{MSP_ID}::/:/bin/false\n"),
                           ("group", f"smmsp:x:{MSP_ID}:\n")):
            with open(f"/etc/{name}", encoding="utf-8") as file:
                self._write(name, file.read().rstrip("\n") + "\n" + line)
        os.chmod(self._path("clientmqueue"), 0o770)
        os.chown(self._path("clientmqueue"), MSP_ID, MSP_ID)
        self._write("hosts", f"127.0.0.1 localhost\n127.0.0.1 {self.hostname}\n")
        self._write("service.switch", "hosts files\naliases files\n")
        self._write("local-host-names", "\n".join(
            [self.hostname, "localhost", *self.local_domains, ""]))
        shutil.copyfile(self._program("etc/mail/helpfile"),
                        self._path("etc", "helpfile"))
        self.access("Connect:127", "RELAY")

    def _write(self, name, text, mode="w"):
        with open(self._path("etc", name), mode, encoding="utf-8") as file:
            file.write(text)

    def mailbox(self, name):
        """A user of the system: NAME at each local domain."""
        owner = pwd.getpwnam("mail")
        home = self._path("home", name)
        os.makedirs(home)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        self._write("passwd", f"{name}:x:{owner.pw_uid}:{owner.pw_gid}::"
                    f"{home}:/bin/sh\n", mode="a")

    def forward(self, name, *targets):
        path = self._path("home", name, ".forward")
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{target}\n" for target in targets))
        owner = pwd.getpwnam("mail")
        os.chown(path, owner.pw_uid, owner.pw_gid)
        os.chmod(path, 0o644)

    def host(self, address, name):
        """The name of an address, as DNS would have it."""
        self._write("hosts", f"{address} {name}\n", mode="a")

    def route(self, domain, address, port, name=None):
        """Mail for the domain goes to that server. A new port is known after
        restart(); else from now on."""
        if name:
            self.host(address, name)
        self._mailers[port] = MAILER.format(port=port)
        self._put("mailertable", domain, f"to{port}:[{name or address}]")

    def virtual(self, address, target):
        self._put("virtusertable", address, target)

    def access(self, key, value):
        self._put("access", key, value)

    def _put(self, name, key, value):
        """One entry; None removes it."""
        kept = [pair for pair in self._maps[name] if pair[0] != key]
        self._maps[name] = kept + ([(key, value)] if value else [])
        if self.running:
            self._index(name)

    def _index(self, name):
        run([self._program("usr/libexec/sendmail/makemap"), "-C",
             self._path("etc", "sendmail.cf"), "hash", self._path("etc", name)], input="".join(
                 f"{key}\t{value}\n" for key, value in self._maps[name]))

    def alias(self, name, *targets):
        self._aliases.append(f"{name}: {', '.join(targets)}")
        if self.running:
            self.newaliases()

    def newaliases(self):
        self._write("aliases", "\n".join([*self._aliases, ""]))
        self._sendmail("-bi")

    def _configure(self):
        filters = "".join(
            f"INPUT_MAIL_FILTER(`{name}', `S={path}, F=T, "
            f"T=C:30s;S:30s;R:30s;E:2m')dnl\n" for name, path in self.milters)
        for name, text in (("sendmail", DAEMON_MC), ("submit", SUBMIT_MC)):
            self._write(name + ".mc", text.format(
                cf=self._program("usr/share/sendmail/cf"),
                directory=self.directory, hostname=self.hostname,
                port=self.port, lmtp_port=self._lmtp_port,
                log_level=self.log_level, milters=filters, extra=self.extra,
                mailers="".join(self._mailers.values())))
            _, text, _ = run(["m4", "-D",
                              f"_CF_DIR_={self._program('usr/share/sendmail/cf')}/",
                              self._path("etc", name + ".mc")])
            self._write(name + ".cf", text)
        self._write("rsyslog.conf", RSYSLOG.format(
            directory=self.directory, name=self.name, log=self.log_path,
            iso=self.iso_path))

    def _take_logins(self):
        """SASL's plugins with a configuration of ours, and a saslauthd."""
        shutil.copytree(_sasl_directory(), self._path("sasl2"), symlinks=True)
        with open(self._path("sasl2", "Sendmail.conf"), "w",
                  encoding="utf-8") as file:
            file.write("pwcheck_method: saslauthd\nmech_list: PLAIN LOGIN\n"
                       f"saslauthd_path: {self._path('auth.sock')}\n")
        self.extra += ("define(`confAUTH_MECHANISMS', `PLAIN LOGIN')dnl\n"
                       "TRUST_AUTH_MECH(`PLAIN LOGIN')dnl\n")
        self._saslauthd = socket.socket(socket.AF_UNIX)
        self._saslauthd.bind(self._path("auth.sock"))
        self._saslauthd.listen(5)
        threading.Thread(target=self._answer_logins, daemon=True).start()

    def _answer_logins(self):
        """saslauthd's protocol: user, password, service and realm, each
        behind its length; "OK" or "NO"."""
        while True:
            client, _ = self._saslauthd.accept()
            with client, client.makefile("rb") as file:
                words = []
                for _ in range(4):
                    size, = struct.unpack(">H", file.read(2))
                    words.append(file.read(size).decode())
                good = self.logins.get(words[0]) == words[1]
                client.sendall(struct.pack(">H", 2) + (b"OK" if good else b"NO"))

    # programs

    def _inside(self, *words):
        """argv that runs in the namespace."""
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c",
                NAMESPACE, "sh", self.directory, _top(self.directory),
                self._packages, _sasl_directory(), *words]

    def _argv(self, *words, config="sendmail"):
        return self._inside(
            self._program("usr/libexec/sendmail/sendmail"),
            "-C", self._path("etc", config + ".cf"), *words)

    def _sendmail(self, *words, config="sendmail", input=None, check=True,
                  timeout=60):
        return run(self._argv(*words, config=config), input=input,
                   check=check, timeout=timeout)

    # life

    @property
    def running(self):
        return self._child.running

    @property
    def pid(self):
        return self._child.pid

    def start(self):
        """Returns when it accepts connections; the log is written from the
        first line on."""
        if self.logins and not self._saslauthd:
            self._take_logins()
        self._configure()
        libraries = glob.glob(self._program("usr/lib/*-linux-gnu*"))[0]
        if not self._syslog.running:
            self._syslog.start(
                [self._program("usr/sbin/rsyslogd"), "-n", "-i", "NONE",
                 "-f", self._path("etc", "rsyslog.conf"),
                 "-M", os.path.join(libraries, "rsyslog")],
                env={**os.environ, "LD_LIBRARY_PATH": libraries})
            self._syslog.wait_ready(
                lambda: os.path.exists(self._path("log.sock")), 20,
                "has its socket")
        for name in self._maps:
            self._index(name)
        self.newaliases()
        self._child.start(self._argv("-L", "sm-mta", "-bD",
                                     f"-q{self.queue_interval}"))
        self._child.wait_ready(lambda: accepts(("127.0.0.1", self.port)), 20,
                               "accepts connections")

    def stop(self, timeout=20):
        self._child.end(signal.SIGTERM, timeout)
        self._syslog.end(signal.SIGTERM, timeout)

    # mail in, and what became of it

    def smtp(self, sender, recipients, message, timeout=30,
             helo="client.test", client="127.0.0.1", login=None):
        """One message in one SMTP session from that address of loopback, after
        the login of one of `logins`; returns a Reply."""
        try:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname=helo,
                              timeout=timeout,
                              source_address=(client, 0)) as session:
                if login:
                    session.login(login, self.logins[login])
                return transaction(session, sender, recipients, message)
        except (OSError, smtplib.SMTPException) as error:
            return Reply(0, str(error), {})

    def submit(self, sender, recipients, message, timeout=30):
        """sendmail(1), by the msp; returns its exit code. Without recipients
        those of the header (-t)."""
        return self._sendmail("-Ac", "-i", "-f", sender,
                              *(["--", *recipients] if recipients else ["-t"]),
                              config="submit", input=message, check=False,
                              timeout=timeout)[0]

    def raw(self, mail, rcpt, message, helo="client.test"):
        """A message with these arguments of MAIL and RCPT as they stand; its
        queue id, or None when it was refused."""
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname=helo,
                          timeout=30) as session:
            session.ehlo()
            if (session.docmd("MAIL FROM:" + mail)[0] != 250 or
                    session.docmd("RCPT TO:" + rcpt)[0] != 250):
                return None
            code, text = session.data(message)
            return text.decode().split()[1] if code == 250 else None

    def queue(self, *words):
        text = self._sendmail("-bp", *words)[1]
        return re.findall(r"^(\w{14})[*X-]? +\d", text, re.MULTILINE)

    def run_queue(self):
        self._sendmail("-q", timeout=60)

    def release(self):
        """Everything out of the quarantine."""
        self._sendmail("-qQ", "-Q")

    log = Postfix.log
    wait_log = Postfix.wait_log
