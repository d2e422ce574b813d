"""A complete private Postfix instance, laid out as Debian ships it.

Contract
  smtpd listens on 127.0.0.1:port. Its daemons run chrooted where Debian's
  do (chroot=False: nowhere). Log, queue, data, aliases, .forward files and
  local mailboxes all lie below the instance's directory, which must be
  reachable for every user. Times are short: a deferred message is tried
  again within seconds, unless postconf() says otherwise. Headers that come
  over SMTP stay as they are, as those from outside do on a real server.

  start() stop() kill() reload()         kill() is a crash of all its processes
  postconf(name="value") master(text)    edit the configuration (then reload)
  add_mailboxes() alias() virtual_alias() forward()   who receives mail
  smtp() sendmail()                      submit a message
  queue() log() wait_log() flush() postsuper() wait_empty()
  wire_sluice()                          connects sluice as its manual says

  Domains: example.com (virtual, delivered to Dovecot over LMTP), senders.test
  (the same; receives the bounces of the lab's senders), the instance's own
  hostname and localhost (local(8), system users).
"""

import json
import os
import pwd
import grp
import re
import shutil
import signal
import smtplib

from .process import (CommandFailed, accepts, group_alive, run, signal_group,
                      wait_until)

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
syslog_name = {syslog_name}
myhostname = {hostname}
mydestination = localhost, {hostname}
myorigin = $myhostname
mynetworks = 127.0.0.0/8
smtpd_authorized_xclient_hosts = 127.0.0.0/8
local_header_rewrite_clients =
inet_interfaces = loopback-only
inet_protocols = ipv4
enable_long_queue_ids = yes
recipient_delimiter = +
virtual_mailbox_domains = example.com, senders.test
virtual_mailbox_maps = hash:{config}/mailboxes
virtual_alias_maps = hash:{config}/virtual
virtual_transport = lmtp:inet:127.0.0.1:{lmtp_port}
alias_maps = hash:{config}/aliases
alias_database = hash:{config}/aliases
forward_path = {directory}/forward/$user/.forward
mail_spool_directory = {directory}/spool
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtpd_peername_lookup = no
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
milter_default_action = tempfail
biff = no
minimal_backoff_time = 3s
maximal_backoff_time = 6s
queue_run_delay = 3s
in_flow_delay = 0s
default_process_limit = 200
lmtp_destination_concurrency_limit = 50
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_error_sleep_time = 0
"""

# Debian's own table: y where Debian runs the daemon chrooted.
MASTER_CF = """\
127.0.0.1:{port} inet n - {y} - - smtpd
pickup    unix  n - {y} 60    1 pickup
cleanup   unix  n - {y} -     0 cleanup
qmgr      unix  n - n   300   1 qmgr
tlsmgr    unix  - - {y} 1000? 1 tlsmgr
rewrite   unix  - - {y} -     - trivial-rewrite
bounce    unix  - - {y} -     0 bounce
defer     unix  - - {y} -     0 bounce
trace     unix  - - {y} -     0 bounce
verify    unix  - - {y} -     1 verify
flush     unix  n - {y} 1000? 0 flush
proxymap  unix  - - n   -     - proxymap
proxywrite unix - - n   -     1 proxymap
smtp      unix  - - {y} -     - smtp
relay     unix  - - {y} -     - smtp
showq     unix  n - {y} -     - showq
error     unix  - - {y} -     - error
retry     unix  - - {y} -     - error
discard   unix  - - {y} -     - discard
local     unix  - n n   -     - local
virtual   unix  - n n   -     - virtual
lmtp      unix  - - {y} -     - lmtp
anvil     unix  - - {y} -     1 anvil
scache    unix  - - {y} -     1 scache
postlog   unix-dgram n - n -  1 postlogd
"""

SLUICE_MASTER_CF = """\
sluice-hold unix - n n - - pipe
  flags=Rq user=nobody argv={hold_program}
sluice-forward unix - - {y} - - smtp
  -o soft_bounce=yes
  -o syslog_name={syslog_name}/sluice-forward
"""

HOLD_PROGRAM = """\
#!/bin/sh
echo "4.2.1 mailbox is being moved"
exit 75
"""


class Reply:
    """What the server answered: `code` and `text` of the last reply that
    decided, `refused` the recipients that were refused (address -> code)."""

    def __init__(self, code, text, refused):
        self.code = code
        self.text = text
        self.refused = refused

    @property
    def accepted(self):
        return self.code == 250

    @property
    def queue_id(self):
        found = re.search(r"queued as (\S+)", self.text)
        return found.group(1) if found else None

    def __repr__(self):
        return f"Reply({self.code}, {self.text!r}, refused={self.refused})"


class Postfix:
    def __init__(self, directory, name, port, lmtp_port, chroot=True):
        self.directory = directory
        self.name = name
        self.port = port
        self.hostname = f"{name}.lab.test"
        self.syslog_name = f"postfix-{name}"
        self.config = os.path.join(directory, "config")
        self.queue_directory = os.path.join(directory, "queue")
        self.log_path = os.path.join(directory, "mail.log")
        self.spool = os.path.join(directory, "spool")
        self._y = "y" if chroot else "n"
        self._lmtp_port = lmtp_port
        self._pid = None
        self._create()

    # configuration

    def _create(self):
        for part in ("config", "queue", "data", "forward", "spool"):
            os.makedirs(os.path.join(self.directory, part))
        os.chmod(self.spool, 0o1777)
        shutil.chown(os.path.join(self.directory, "data"), "postfix")
        values = {"directory": self.directory, "config": self.config,
                  "hostname": self.hostname, "port": self.port,
                  "lmtp_port": self._lmtp_port, "y": self._y,
                  "syslog_name": self.syslog_name}
        self._write("main.cf", MAIN_CF.format(**values))
        self._write("master.cf", MASTER_CF.format(**values))
        self._write("mailboxes", "")
        self._write("virtual", "")
        self._write("aliases", "postmaster: root\n")
        self._index()

    def _write(self, name, text, mode="w"):
        with open(os.path.join(self.config, name), mode,
                  encoding="utf-8") as file:
            file.write(text)

    def _index(self, *names):
        for name in names or ("mailboxes", "virtual", "aliases"):
            program = "postalias" if name == "aliases" else "postmap"
            run([program, "-c", self.config,
                 f"hash:{self.config}/{name}"])

    def postconf(self, **values):
        """Sets main.cf parameters; takes effect after reload()."""
        run(["postconf", "-c", self.config, "-e",
             *(f"{name}={value}" for name, value in values.items())])

    def value(self, name):
        """The value of a main.cf parameter, expanded."""
        return run(["postconf", "-c", self.config, "-xh", name])[1].strip()

    def master(self, text):
        """Appends services to master.cf; takes effect after reload()."""
        self._write("master.cf", text, mode="a")

    def add_mailboxes(self, addresses):
        """Addresses of the virtual domains that smtpd accepts."""
        self._write("mailboxes", "".join(
            f"{address.lower()} ok\n" for address in addresses), mode="a")
        self._index("mailboxes")

    def remove_mailbox(self, address):
        path = os.path.join(self.config, "mailboxes")
        with open(path, encoding="utf-8") as file:
            lines = file.readlines()
        self._write("mailboxes", "".join(
            line for line in lines if line.split()[0] != address.lower()))
        self._index("mailboxes")

    def alias(self, name, *targets):
        """An alias of local(8): name@hostname, name@localhost."""
        self._write("aliases", f"{name}: {', '.join(targets)}\n", mode="a")
        self._index("aliases")

    def virtual_alias(self, address, *targets):
        self._write("virtual", f"{address} {', '.join(targets)}\n", mode="a")
        self._index("virtual")

    def forward(self, user, *targets):
        """A .forward file of a system user, below the lab's directory."""
        owner = pwd.getpwnam(user)
        home = os.path.join(self.directory, "forward", user)
        path = os.path.join(home, ".forward")
        os.makedirs(home, exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write("".join(f"{target}\n" for target in targets))
        os.chown(path, owner.pw_uid, owner.pw_gid)
        os.chmod(path, 0o644)

    # life

    @property
    def running(self):
        return self._pid is not None and group_alive(self._pid)

    @property
    def pid(self):
        """The master process, leader of a process group with all daemons."""
        return self._pid

    def start(self):
        """Returns when smtpd accepts connections and the log is written."""
        run(["postfix", "-c", self.config, "start"])
        pid_path = os.path.join(self.queue_directory, "pid", "master.pid")
        with open(pid_path, encoding="utf-8") as pid:
            self._pid = int(pid.read())
        wait_until(lambda: accepts(("127.0.0.1", self.port)), 20,
                   f"{self.name}: smtpd accepts connections")

    def stop(self, timeout=20):
        self._end(signal.SIGTERM, timeout)

    def kill(self):
        self._end(signal.SIGKILL, 10)

    def _end(self, number, timeout):
        if self._pid is None:
            return
        if number == signal.SIGTERM:
            if group_alive(self._pid):
                os.kill(self._pid, number)
        else:
            signal_group(self._pid, number)
        try:
            wait_until(lambda: not group_alive(self._pid), timeout,
                       f"{self.name}: all of Postfix has ended")
        finally:
            signal_group(self._pid, signal.SIGKILL)
        self._pid = None

    def reload(self):
        run(["postfix", "-c", self.config, "reload"])

    # mail in

    def smtp(self, sender, recipients, message, timeout=30,
             helo="client.test", client=None, login=None):
        """One message in one SMTP session; returns a Reply.

        A message of which some recipients were refused is sent to the others.
        A connection that fails is a Reply with code 0. client: the address it
        seems to come from, login: who seems to have authenticated (XCLIENT);
        else it comes from 127.0.0.1.
        """
        try:
            with smtplib.SMTP("127.0.0.1", self.port, local_hostname=helo,
                              timeout=timeout) as session:
                if client or login:
                    _pretend(session, client, login)
                return transaction(session, sender, recipients, message)
        except (OSError, smtplib.SMTPException) as error:
            return Reply(0, str(error), {})

    def sendmail(self, sender, recipients, message, timeout=30):
        """Local submission; returns the exit code of sendmail(1)."""
        return run(["sendmail", "-C", self.config, "-i", "-f", sender, "--",
                    *recipients], input=message, check=False,
                   timeout=timeout)[0]

    # what became of it

    def queue(self):
        """The queue as `postqueue -j` gives it, a list of dicts."""
        _, out, _ = run(["postqueue", "-c", self.config, "-j"])
        return [json.loads(line) for line in out.splitlines()]

    def queue_files(self, *queues):
        """Ids in the named queue directories, read without a server."""
        ids = []
        for queue in queues:
            top = os.path.join(self.queue_directory, queue)
            for _, _, files in os.walk(top):
                ids += files
        return ids

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as text:
            return text.read()

    def wait_log(self, pattern, timeout=20, count=1):
        """Waits until the log has `count` matches; returns them."""
        def matches():
            found = list(re.finditer(pattern, self.log(), re.MULTILINE))
            return found if len(found) >= count else None
        return wait_until(matches, timeout,
                          f"{self.name}: /{pattern}/ {count} times in the log",
                          interval=0.1)

    def flush(self):
        run(["postqueue", "-c", self.config, "-f"])

    def scan_incoming(self):
        """Has qmgr look for new mail. What was in delivery during a reload
        lies in incoming, a minute in the future, and is otherwise not looked
        at before more mail comes in or the 300 s of master.cf are over."""
        self._kick("qmgr", "I")

    def wake_pickup(self):
        """Has pickup look for mail that `postsuper -r` put back; it looks by
        itself only once a minute."""
        self._kick("pickup", "W")

    def _kick(self, service, request):
        """postkick writes the request and then a NUL; a service that has read
        the request and closed by then ends postkick by SIGPIPE: done, too."""
        code, _, text = run(["postkick", "-c", self.config, "public", service,
                             request], check=False)
        if code not in (0, -signal.SIGPIPE):
            raise CommandFailed(f"postkick {service}: {code} {text}")

    def postsuper(self, *words, check=True):
        return run(["postsuper", "-c", self.config, *words], check=check)

    def wait_empty(self, timeout=60):
        """Waits until no message is in any queue."""
        wait_until(lambda: not self.queue() and not self.queue_files(
            "maildrop", "incoming", "active", "deferred", "hold"),
            timeout, f"{self.name}: the queue is empty", interval=0.2)

    # sluice

    def wire_sluice(self, hold_program):
        """Puts both gates of sluice into main.cf and master.cf.

        `hold_program` is the program of the sluice-hold transport, or None
        for a copy of the lab's own; it is copied below the lab's directory,
        where `nobody` can reach it. The socket directory lies below the queue
        directory so that chrooted daemons reach it, and is written relative
        to it, as all Postfix daemons have it as their current directory.
        """
        sockets = os.path.join(self.queue_directory, "sluice")
        os.makedirs(sockets, exist_ok=True)
        os.chmod(sockets, 0o750)
        shutil.chown(sockets, "daemon", grp.getgrnam("postfix").gr_gid)
        program = os.path.join(self.directory, "sluice-hold")
        if hold_program:
            shutil.copyfile(hold_program, program)
        else:
            with open(program, "w", encoding="utf-8") as file:
                file.write(HOLD_PROGRAM)
        os.chmod(program, 0o755)
        transport = self.value("transport_maps")
        aliases = self.value("virtual_alias_maps")
        self.postconf(
            transport_maps=_first(
                "socketmap:unix:sluice/map.sock:transport", transport),
            virtual_alias_maps=_first(
                "socketmap:unix:sluice/map.sock:virtual", aliases),
            smtpd_milters="unix:sluice/milter.sock",
            non_smtpd_milters="$smtpd_milters",
            smtpd_recipient_restrictions=(
                "check_policy_service unix:sluice/policy.sock"))
        self.master(SLUICE_MASTER_CF.format(
            hold_program=program, y=self._y, syslog_name=self.syslog_name))


def _first(entry, others):
    return f"{entry}, {others}" if others else entry


def _pretend(session, client, login):
    """XCLIENT; the session begins anew, with EHLO."""
    words = ["XCLIENT", "NAME=[UNAVAILABLE]"]
    if client:
        words.append("ADDR=" + ("IPV6:" if ":" in client else "") + client)
    if login:
        words.append(f"LOGIN={login}")
    session.ehlo()
    code, text = session.docmd(" ".join(words))
    if code != 220:
        raise smtplib.SMTPResponseException(code, text)


def transaction(client, sender, recipients, message):
    code, text = client.ehlo()
    if code == 250:
        code, text = client.mail(sender)
    refused = {}
    accepted = 0
    if code == 250:
        for recipient in recipients:
            code, text = client.rcpt(recipient)
            if code == 250:
                accepted += 1
            else:
                refused[recipient] = code
        if accepted:
            code, text = client.data(message)
    return Reply(code, text.decode(errors="replace"), refused)
