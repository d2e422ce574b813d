/*
 * conf: sluice.conf (libConfuse), checked and immutable.
 *
 * A configuration is built anew, checked whole, and only then used; it is
 * counted, so that a reload never changes a message midway. Unknown keys, bad
 * values and missing files are one line "sluice.conf:12: ..." (file:line where
 * the parser knows one).  conf/sluice.conf explains every key to the admin,
 * doc/sluice.conf.5 is its reference; the table in conf.c is the truth.
 */
#ifndef SLUICE_CONF_H
#define SLUICE_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "dnsrecord.h"
#include "log.h"
#include "netaddr.h"
#include "verdict.h"

#define CONF_DEFAULT_PATH "/etc/sluice/sluice.conf"

/* One so far; policyd/queue.h has the table where another one would enter. */
enum conf_mta { MTA_POSTFIX };
enum conf_fence { FENCE_WAIT, FENCE_RELOAD };
enum conf_hold { HOLD_QUEUE, HOLD_DEFER };
enum conf_on_failure { ON_FAILURE_UNLOCK, ON_FAILURE_KEEP };
enum conf_enforce { ENFORCE_NONE, ENFORCE_QUARANTINE, ENFORCE_REJECT };
enum conf_discovery { DISCOVERY_PSL, DISCOVERY_TREEWALK }; /* RFC 7489, RFC 9989 */

/* A next hop as transport(5) writes it: "[host]:port" or "host:port". */
struct conf_hop {
    char *text;        /* as written; NULL: not configured */
    char *host;        /* without brackets */
    uint16_t port;     /* 25 when not given */
    bool lookup_mx;    /* no brackets: MX records apply */
};

/* "unix:/path", "tcp:host:port" (listen: also "host:port"). */
struct conf_endpoint {
    char *text;  /* as written; NULL: not configured */
    char *path;  /* unix socket path, else NULL */
    char *host;  /* else NULL */
    uint16_t port;
};

/* Planned records of one name and type; several sections of the same are one. */
struct conf_record {
    enum dns_type type;
    char *name;    /* canonical, full */
    char **values; /* canonical (dnsrecord.h); NULL-terminated, at least one */
    uint32_t ttl;  /* seconds */
};

struct conf_domain {
    char *name;            /* canonical */
    char **same_as;        /* canonical names; NULL-terminated */
    struct conf_hop old;   /* where the new side forwards */
    struct conf_hop new;   /* where the old side forwards */
    char *new_address;     /* "%l@tenant.example.net"; NULL: forward */
    char **redirect_domains; /* allowed domains of new and copy addresses,
                                that of new_address included */
    bool copy_outbound;    /* a managed sender's copy address too */
    int lock_deadline;     /* seconds after which a lock is an alarm; 0: never */
    struct conf_record *records;
    size_t record_count;
};

struct conf_sync {
    char **command;         /* argv; NULL when not configured */
    char **reverse_command; /* argv of the sync back, for rollback; or NULL */
    int jobs;
    int timeout;            /* seconds */
    enum conf_on_failure on_failure;
};

/* "192.0.2.1", "192.0.2.1:5353", "[2001:db8::1]:53". */
struct conf_server {
    struct netaddr address;
    uint16_t port; /* 53 when not given */
};

/* "example.test=127.0.0.1:5353": this server alone is asked about this zone. */
struct conf_stub {
    char *zone; /* canonical */
    struct conf_server server;
};

/* Without an auth section spf, dkim and dmarc are false; in one their default
 * is true. */
struct conf_auth {
    bool spf, dkim, dmarc;
    bool received_spf;          /* a Received-SPF header too */
    enum conf_enforce enforce;  /* what a DMARC policy may do at the most */
    enum conf_discovery discovery;
    char *authserv_id;          /* default: hostname */
    struct netblock *trusted;   /* default: 127.0.0.0/8 and ::1 */
    size_t trusted_count;
    struct conf_server *servers; /* none: those of /etc/resolv.conf */
    size_t server_count;
    struct conf_stub *stubs;
    size_t stub_count;
    char *trust_anchor;         /* file with DS or DNSKEY records; NULL: no DNSSEC */
    int query_timeout;          /* ms, for one DNS query */
    int message_timeout;        /* ms, for all of one message */
    int signatures;             /* DKIM signatures looked at in one message */
};

struct conf_dns {
    struct conf_server *resolvers; /* none: those of /etc/resolv.conf */
    size_t resolver_count;
    struct conf_server *parents; /* of the parent zone; none: they are looked for */
    size_t parent_count;
    struct conf_server server; /* takes updates; AF_UNSPEC: the zone's primary */
    uint16_t port;             /* of the authoritative servers */
    char *key_file;            /* TSIG key, read by sluice dns apply; or NULL */
    char **command;            /* applies changes instead of an update; or NULL */
    int timeout;               /* ms, for one query */
};

/* How a server is reached as a mail client reaches it. The files are read when the
 * server is asked: by sluice, never by the daemons. */
enum conf_tls { CONF_TLS_NONE, CONF_TLS_STARTTLS, CONF_TLS_ALWAYS };
struct conf_access {
    char *host; /* without brackets */
    uint16_t port;
    enum conf_tls tls;
    char *tls_name;      /* that the certificate must have; NULL: host */
    char *ca_file;       /* NULL: the system's authorities */
    char *pin;           /* of the server's key, instead of both; NULL */
    char *user;          /* NULL: no login */
    char *password_file; /* must be 0600; NULL when user is */
};

struct conf_mailbox {
    char *name;
    struct conf_access imap;
    char **folders; /* NULL-terminated; mail belongs in the first one */
};

#define CONF_PING_MAX           32 /* ping sections */
#define CONF_PING_MAILBOXES_MAX 8  /* of one */
struct conf_ping {
    char *name;
    struct conf_access smtp;
    char *from; /* canonical; "" is the null sender */
    char *to;   /* canonical */
    const struct conf_mailbox
        *mailboxes[CONF_PING_MAILBOXES_MAX]; /* where it must arrive */
    size_t mailbox_count;
    int warning, critical; /* seconds to its arrival */
};

struct conf_srs {
    char *domain;      /* canonical; NULL: no rewriting */
    char *secret_file; /* must be 0600; a secret on each line, the first one signs */
    char **secrets;    /* NULL-terminated; NULL when domain is */
};

/* policyd's status page. */
struct conf_http {
    struct conf_endpoint listen; /* text NULL: none */
    char *password_file; /* must be 0600; or NULL */
    char *password;      /* read from the file, or NULL: nobody is asked */
    char **hosts;        /* more names that it is reached by; NULL-terminated */
};

struct conf {
    char *path;
    enum side side;
    char *hostname;
    struct conf_endpoint redis;
    char *redis_user;          /* NULL: none */
    char *redis_password_file; /* NULL: none; must be 0600 */
    char *redis_password;      /* read from the file, or NULL */
    int redis_replicas;        /* WAIT for so many; 0: do not */
    bool redis_durable;        /* refuse a Redis that would forget locks */
    int lookup_timeout;        /* milliseconds, for one lookup round trip */
    int command_timeout;       /* milliseconds, for anything else */
    enum conf_mta mta;
    char *postfix_config;      /* -c of every Postfix command */
    char *postfix_commands;    /* directory of postsuper, postqueue, ... */
    enum conf_fence fence;
    enum conf_hold hold;
    char *user;                /* what the daemons run as */
    char *group;               /* group of the sockets (Postfix must reach) */
    char *state_dir;
    char *playbooks;           /* directory of the playbooks */
    enum log_target log;
    char *recipient_delimiter; /* as in main.cf; "": none */
    struct conf_endpoint milter_listen;
    struct conf_endpoint policy_listen;
    struct conf_endpoint map_listen;
    struct conf_http http;
    char **alarm_command;      /* argv; NULL when not configured */
    int lock_deadline;         /* as in struct conf_domain: of most domains */
    struct conf_sync sync;
    struct conf_auth auth;
    struct conf_srs srs;
    struct conf_dns dns;
    struct conf_mailbox *mailboxes;
    size_t mailbox_count;
    struct conf_ping *pings;
    size_t ping_count;
    struct conf_domain *domains;
    size_t domain_count;
    /* private: this host's address literals, names to domains, and the reference
     * count */
    char **literals;
    struct conf_index *managed;
    struct conf_index *redirects;
    int refs;
};

/* NULL: error is one line. The caller holds one reference. */
struct conf *conf_load(const char *path, char *error, size_t error_size);
/* The file of present, read again for a running daemon. NULL (and error) also
 * when it names another host, side or state-dir: held records, the journal and
 * the fence belong to these, and only a restart takes them up. */
struct conf *conf_reload(const struct conf *present, char *error, size_t error_size);
struct conf *conf_ref(struct conf *conf); /* thread-safe */
void conf_unref(struct conf *conf);       /* thread-safe; NULL is fine */

/* The managed domain that a canonical domain name stands for, itself or by
 * same-as; NULL: not managed. The addresses of this host's interfaces, as literals,
 * stand for the domain that "localhost" or this host's own name stands for: that
 * is the one whose mailboxes the MTA delivers to itself. Constant time, no I/O. */
const struct conf_domain *conf_managed(const struct conf *conf,
                                       const char *domain);
/* Whether mail to this canonical domain goes out by sluice-forward: the
 * domain of a new or a copy address. */
bool conf_redirects_to(const struct conf *conf, const char *domain);

/* The password in a file of conf_access: one line, in a file that only root, this
 * process or conf's user may read. NULL: error is one line. */
char *conf_password(const struct conf *conf, const char *path, char *error,
                    size_t error_size);
void conf_password_free(char *password); /* wiped first; NULL is fine */

/* state-dir/journal. */
void conf_journal_path(const struct conf *conf, char *out, size_t size);

#endif
