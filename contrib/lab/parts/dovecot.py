"""A private Dovecot: LMTP in, IMAP out, Maildir, both on loopback.

Contract
  Every user is a full address in lower case with the password PASSWORD;
  LMTP answers 550 for an address that add_users() was not told, ignores case
  and +extension. Nothing of the host's Dovecot configuration is read.
  doveadm(*words)        runs doveadm against this instance
  maildir(user)          the user's Maildir; seed() writes messages into it
      without a server, owned as Dovecot expects
"""

import os
import pwd
import time

from .process import Child, accepts, run, tail

PASSWORD = "lab"
MAIL_USER = "mail"

CONFIG = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols = imap lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_format = %Lu
recipient_delimiter = +
lmtp_save_to_detail_mailbox = no
mail_location = maildir:{directory}/mail/%Ld/%Ln
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
first_valid_gid = 1
mail_fsync = never
mail_max_userip_connections = 0
default_process_limit = 300
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%Lu {directory}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%Lu {directory}/users
}}
namespace inbox {{
  inbox = yes
}}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {imap_port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service auth {{
  client_limit = 4000
}}
service anvil {{
  client_limit = 4000
}}
service lmtp {{
  inet_listener lmtp {{
    port = {lmtp_port}
  }}
}}
{extra}
"""


class Dovecot:
    def __init__(self, directory, imap_port, lmtp_port):
        self.directory = directory
        self.imap_port = imap_port
        self.lmtp_port = lmtp_port
        self.extra = ""
        self.log_path = os.path.join(directory, "dovecot.log")
        self.users_path = os.path.join(directory, "users")
        self._config = os.path.join(directory, "dovecot.conf")
        self._owner = pwd.getpwnam(MAIL_USER)
        self._child = Child("dovecot", os.path.join(directory, "stderr"))
        self._sequence = 0
        os.makedirs(os.path.join(directory, "mail"))
        os.chown(os.path.join(directory, "mail"),
                 self._owner.pw_uid, self._owner.pw_gid)
        with open(self.users_path, "w", encoding="utf-8"):
            pass

    @property
    def config(self):
        return self._config

    @property
    def pid(self):
        return self._child.pid

    @property
    def running(self):
        return self._child.running

    def start(self):
        """`extra` (configuration text) is written anew at every start."""
        with open(self._config, "w", encoding="utf-8") as config:
            config.write(CONFIG.format(
                directory=self.directory, uid=self._owner.pw_uid,
                gid=self._owner.pw_gid, imap_port=self.imap_port,
                lmtp_port=self.lmtp_port, extra=self.extra))
        self._child.start(["dovecot", "-F", "-c", self._config])
        try:
            self._child.wait_ready(
                lambda: accepts(("127.0.0.1", self.imap_port))
                and accepts(("127.0.0.1", self.lmtp_port)),
                20, "IMAP and LMTP accept connections")
        except Exception as error:
            raise RuntimeError(f"{error}\n{tail(self.log_path)}") from error

    def stop(self):
        return self._child.end()

    def kill(self):
        self._child.kill()

    def doveadm(self, *words, check=True):
        return run(["doveadm", "-c", self._config, *words], check=check)

    def add_users(self, addresses):
        with open(self.users_path, "a", encoding="utf-8") as users:
            for address in addresses:
                users.write(f"{address.lower()}:{PASSWORD}::::::\n")

    def remove_user(self, address):
        with open(self.users_path, encoding="utf-8") as users:
            lines = users.readlines()
        with open(self.users_path, "w", encoding="utf-8") as users:
            users.writelines(line for line in lines
                             if not line.startswith(f"{address.lower()}:"))

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as text:
            return text.read()

    def maildir(self, user):
        local, _, domain = user.lower().rpartition("@")
        return os.path.join(self.directory, "mail", domain, local)

    def seed(self, user, messages, folder="", when=None):
        """Puts whole messages (bytes, LF lines) into the user's folder.

        `folder` is "" for INBOX, else a name without dots; `when` (unix s): when
        they came, if not now.
        """
        root = self.maildir(user)
        box = os.path.join(root, "." + folder) if folder else root
        created = [os.path.dirname(root), root, box]
        created += [os.path.join(box, part) for part in ("cur", "new", "tmp")]
        for path in created:
            os.makedirs(path, exist_ok=True)
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        for message in messages:
            self._sequence += 1
            name = f"{int(time.time())}.Q{self._sequence}.lab:2,S"
            path = os.path.join(box, "tmp", name)
            with open(path, "wb") as file:
                file.write(message)
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
            if when:
                os.utime(path, (when, when))
            os.rename(path, os.path.join(box, "cur", name))
