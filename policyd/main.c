/*
 * sluice-policyd: the policy service and the lookup tables of one MTA host, the
 * keeper of its locks (keeper.h), and the root part that handles its queue
 * (helper.h).
 *
 *     sluice-policyd [-c FILE] [-t] [-v]
 *
 * Order of the start: configuration; queue helper forked, while there is
 * nothing to inherit; sockets taken from the service manager or made;
 * privileges dropped; loop, lookups and keeper; ready.
 *
 * Signals: HUP reads the configuration again (a bad file keeps the old one and
 * says so; addresses, user, group and state-dir need a restart), TERM and INT
 * take no more requests, answer those at hand for at most DRAIN_S seconds, and
 * end.
 *
 * Exit: 0 ended by a signal or -t found nothing; 64 usage; 69 a socket or
 * another service cannot be had; 75 the queue helper died (to be started
 * again); 78 configuration.
 */
#include "config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <event2/event.h>

#include "conf.h"
#include "conn.h"
#include "daemon.h"
#include "helper.h"
#include "http.h"
#include "journal.h"
#include "keeper.h"
#include "listener.h"
#include "log.h"
#include "lookup.h"
#include "stats.h"
#include "systemd.h"

#define DRAIN_S       5
#define FIRST_PROBE_S 2
/* Besides clients: the status page's, journal, Redis, log, helper. */
#define FILES_RESERVE (HTTP_CLIENTS_MAX + 64)

enum { SERVICES = 2 };

/* One row for each socket. */
struct endpoint {
    const char *key;     /* in sluice.conf */
    const char *fd_name; /* of the service manager */
    const struct service *service;
    const struct conf_endpoint *at;
    int fd;
    bool made; /* by us: removed at the end */
    struct listener *listener;
};

struct daemon {
    struct conf *conf;
    struct helper *helper;
    struct endpoint endpoints[SERVICES];
    struct event_base *base;
    struct event *hup, *term, *interrupt, *alive, *failed, *patience;
    struct journal_reader *head;
    struct lookups *lookups;
    struct conns *conns;
    struct keeper *keeper;
    struct stats *stats;
    int http_fd; /* -1: none, or http's */
    bool http_made;
    struct http *http;
    bool stopping;
    int status;
};

/* ---- command line --------------------------------------------------------- */

static const char usage[] = "usage: sluice-policyd [-c FILE] [-t] [-v]\n"
                            "  -c, --config FILE  configuration (" CONF_DEFAULT_PATH ")\n"
                            "  -t, --test         test the configuration and exit\n"
                            "  -v, --verbose      debugging lines in the log\n"
                            "  -V, --version      print the version\n"
                            "  -h, --help         this text\n";

struct options {
    const char *conf_path;
    bool test;
};

/* -1: go on; else the exit code. */
static int parse_options(int argc, char **argv, struct options *out)
{
    static const struct option known[] = {
        { "config", required_argument, NULL, 'c' }, { "test", no_argument, NULL, 't' },
        { "verbose", no_argument, NULL, 'v' },      { "version", no_argument, NULL, 'V' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    int option;
    *out = (struct options){ .conf_path = CONF_DEFAULT_PATH };
    while ((option = getopt_long(argc, argv, "c:tvVh", known, NULL)) != -1) {
        switch (option) {
        case 'c':
            out->conf_path = optarg;
            break;
        case 't':
            out->test = true;
            break;
        case 'v':
            log_verbose(true);
            break;
        case 'h':
            fputs(usage, stdout);
            return EX_OK;
        case 'V':
            puts("sluice-policyd " PACKAGE_VERSION);
            return EX_OK;
        default:
            fputs(usage, stderr);
            return EX_USAGE;
        }
    }
    if (optind == argc)
        return -1;
    fprintf(stderr, "sluice-policyd: unexpected argument: %s\n%s", argv[optind], usage);
    return EX_USAGE;
}

/* ---- privileges ----------------------------------------------------------- */

static bool drop_privileges(const struct conf *conf,
                            const struct daemon_identity *identity)
{
    char error[512];
    if (geteuid() != 0)
        log_warnx("not started as root: no queue helper, so fences are refused and "
                  "nothing is released here");
    if (daemon_become(conf, identity, error, sizeof(error)))
        return true;
    log_warnx("%s", error);
    return false;
}

/* ---- sockets -------------------------------------------------------------- */

static void name_endpoints(struct daemon *d)
{
    const struct endpoint rows[SERVICES] = {
        { .key = "policyd.policy",
          .fd_name = "policy",
          .service = &service_policy,
          .at = &d->conf->policy_listen,
          .fd = -1 },
        { .key = "policyd.map",
          .fd_name = "map",
          .service = &service_map,
          .at = &d->conf->map_listen,
          .fd = -1 },
    };
    memcpy(d->endpoints, rows, sizeof(rows));
}

static bool open_http(struct daemon *d, const struct daemon_identity *identity)
{
    const struct conf_endpoint *at = &d->conf->http.listen;
    char error[512];
    d->http_fd = systemd_socket("http");
    if (d->http_fd >= 0 && !at->text) {
        log_warnx("the service manager has a socket \"http\", and policyd.http is not "
                  "set: set it to the same address");
        return false;
    }
    if (!at->text)
        return true;
    if (d->http_fd < 0) {
        d->http_fd =
            listener_socket(at, "policyd.http", identity->gid, error, sizeof(error));
        d->http_made = d->http_fd >= 0;
        if (!d->http_made)
            log_warnx("%s", error);
    }
    /* The service manager's socket, or a name, may be another address than the one
     * that the configuration was checked for. */
    if (d->http_fd >= 0 && !d->conf->http.password && !listener_is_local(d->http_fd)) {
        log_warnx("policyd.http: the socket is not on a loopback address, so it needs "
                  "an http-password-file");
        return false;
    }
    return d->http_fd >= 0;
}

static bool open_sockets(struct daemon *d, const struct daemon_identity *identity)
{
    char error[512];
    for (int i = 0; i < SERVICES; i++) {
        struct endpoint *e = &d->endpoints[i];
        e->fd = systemd_socket(e->fd_name);
        if (e->fd >= 0)
            continue;
        e->fd = listener_socket(e->at, e->key, identity->gid, error, sizeof(error));
        if (e->fd < 0) {
            log_warnx("%s", error);
            return false;
        }
        e->made = true;
    }
    return open_http(d, identity);
}

static void close_http(struct daemon *d)
{
    if (d->http_made && d->conf->http.listen.path)
        (void)unlink(d->conf->http.listen.path);
    d->http_made = false;
    http_free(d->http);
    d->http = NULL;
    if (d->http_fd >= 0)
        close(d->http_fd);
    d->http_fd = -1;
}

static void close_sockets(struct daemon *d)
{
    close_http(d);
    for (int i = 0; i < SERVICES; i++) {
        struct endpoint *e = &d->endpoints[i];
        /* While we listen, nobody else takes the path. Its directory may not be
         * ours to write in: then the next start removes it. */
        if (e->fd >= 0 && e->made && e->at->path)
            (void)unlink(e->at->path);
        if (e->listener)
            listener_free(e->listener);
        else if (e->fd >= 0)
            close(e->fd);
        e->listener = NULL;
        e->fd = -1;
    }
}

/* How many clients fit into the open files. */
static size_t clients_max(void)
{
    size_t files = daemon_raise_files();
    return files > 2 * FILES_RESERVE ? files - FILES_RESERVE : FILES_RESERVE;
}

/* ---- signals and timers ---------------------------------------------------- */

static bool same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static void warn_of_restart(const struct conf *old, const struct conf *new)
{
    const struct {
        const char *key, *old, *new;
    } fixed[] = {
        { "policyd.policy", old->policy_listen.text, new->policy_listen.text },
        { "policyd.map", old->map_listen.text, new->map_listen.text },
        { "policyd.http", old->http.listen.text, new->http.listen.text },
        { "user", old->user, new->user },
        { "group", old->group, new->group },
        { "postfix-config", old->postfix_config, new->postfix_config },
        { "postfix-commands", old->postfix_commands, new->postfix_commands },
    };
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
        if (!same(fixed[i].old, fixed[i].new))
            log_warnx("%s: %s has changed: restart sluice-policyd to use it", new->path,
                      fixed[i].key);
}

static void on_hup(evutil_socket_t signal_number, short what, void *context)
{
    (void)signal_number, (void)what;
    struct daemon *d = context;
    char error[512];
    systemd_reloading();
    struct conf *conf = conf_reload(d->conf, error, sizeof(error));
    if (!conf) {
        log_warnx("%s: the configuration stays as it was", error);
    } else {
        warn_of_restart(d->conf, conf);
        /* The gates first: the fence tests what they have loaded. */
        conns_reload(d->conns, conf);
        lookups_reload(d->lookups, conf);
        keeper_reload(d->keeper, conf);
        stats_reload(d->stats, conf);
        if (d->http)
            http_reload(d->http, conf);
        log_info("%s: read again", conf->path);
        conf_unref(d->conf);
        d->conf = conf;
    }
    systemd_ready();
}

static void stop_loop(void *context)
{
    struct daemon *d = context;
    event_base_loopbreak(d->base);
}

static void on_patience_lost(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct daemon *d = context;
    log_warnx("ending with %zu connections unanswered", conns_count(d->conns));
    stop_loop(d);
}

static void begin_stop(struct daemon *d, int status)
{
    static const struct timeval patience = { .tv_sec = DRAIN_S };
    if (d->stopping) {
        stop_loop(d); /* asked a second time */
        return;
    }
    d->stopping = true;
    d->status = status;
    systemd_stopping();
    close_sockets(d);
    event_add(d->patience, &patience);
    conns_drain(d->conns, stop_loop, d);
}

static void on_term(evutil_socket_t signal_number, short what, void *context)
{
    (void)signal_number, (void)what;
    begin_stop(context, EX_OK);
}

static void on_keeper_failed(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    struct daemon *d = context;
    log_alarm("the queue helper has died: ending, to be started again");
    event_del(d->failed);
    begin_stop(d, EX_TEMPFAIL);
}

static void on_alive(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what, (void)context;
    systemd_alive();
}

static bool watch_signals(struct daemon *d)
{
    d->hup = evsignal_new(d->base, SIGHUP, on_hup, d);
    d->term = evsignal_new(d->base, SIGTERM, on_term, d);
    d->interrupt = evsignal_new(d->base, SIGINT, on_term, d);
    d->patience = evtimer_new(d->base, on_patience_lost, d);
    d->alive = event_new(d->base, -1, EV_PERSIST, on_alive, d);
    if (!d->hup || !d->term || !d->interrupt || !d->patience || !d->alive ||
        event_add(d->hup, NULL) != 0 || event_add(d->term, NULL) != 0 ||
        event_add(d->interrupt, NULL) != 0)
        return false;
    uint64_t usec = systemd_watchdog() / 2;
    struct timeval every = { .tv_sec = (time_t)(usec / 1000000),
                             .tv_usec = (suseconds_t)(usec % 1000000) };
    return !usec || event_add(d->alive, &every) == 0;
}

static void free_event(struct event *event)
{
    if (event)
        event_free(event);
}

/* ---- the run --------------------------------------------------------------- */

/* Changes of the event set are collected and given to epoll once a turn. */
static struct event_base *new_base(void)
{
    struct event_config *config = event_config_new();
    if (!config)
        return NULL;
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

static void set_flag(evutil_socket_t fd, short what, void *context)
{
    (void)fd, (void)what;
    *(bool *)context = true;
}

/* The first clients should not be told "try later" only because they came
 * before the connection to Redis did: smtpd remembers that. */
static bool await_lookups(struct daemon *d)
{
    static const struct timeval limit = { .tv_sec = FIRST_PROBE_S };
    bool late = false;
    struct event *timer = evtimer_new(d->base, set_flag, &late);
    if (!timer || event_add(timer, &limit) != 0) {
        free_event(timer);
        return false;
    }
    while (!d->stopping && !late && !lookups_tried(d->lookups))
        event_base_loop(d->base, EVLOOP_ONCE);
    event_free(timer);
    return true;
}

static bool start_listeners(struct daemon *d)
{
    size_t max = clients_max();
    for (int i = 0; i < SERVICES; i++) {
        struct endpoint *e = &d->endpoints[i];
        e->listener = listener_new(d->base, d->conns, e->service, e->fd, max);
        if (!e->listener)
            return false;
    }
    return true;
}

/* The threads leave signals to this one. */
static bool start_threads(struct daemon *d)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    d->keeper = keeper_start(d->conf, d->helper, d->lookups);
    d->stats = stats_start(d->conf, d->lookups);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return d->keeper && d->stats;
}

static bool watch_keeper(struct daemon *d)
{
    int fd = keeper_failed_fd(d->keeper);
    if (fd < 0)
        return true;
    d->failed = event_new(d->base, fd, EV_READ, on_keeper_failed, d);
    return d->failed && event_add(d->failed, NULL) == 0;
}

static bool start_http(struct daemon *d)
{
    if (d->http_fd < 0)
        return true;
    d->http = http_new(d->base, d->conf, d->stats, d->lookups, d->http_fd);
    d->http_fd = -1;
    return d->http != NULL;
}

static bool start(struct daemon *d)
{
    char journal[4096];
    conf_journal_path(d->conf, journal, sizeof(journal));
    d->base = new_base();
    d->head = journal_reader_new(journal);
    if (!d->base || !d->head || !watch_signals(d))
        return false;
    d->lookups = lookups_new(d->base, d->conf, d->head);
    if (!d->lookups)
        return false;
    d->conns = conns_new(d->base, d->conf, d->lookups);
    return d->conns && start_threads(d) && watch_keeper(d) && await_lookups(d) &&
           (d->stopping || (start_listeners(d) && start_http(d)));
}

static void end(struct daemon *d)
{
    close_sockets(d);
    free_event(d->failed);
    conns_free(d->conns);
    if (d->keeper)
        keeper_stop(d->keeper);
    stats_stop(d->stats);
    lookups_free(d->lookups);
    if (d->head)
        journal_reader_free(d->head);
    free_event(d->hup);
    free_event(d->term);
    free_event(d->interrupt);
    free_event(d->patience);
    free_event(d->alive);
    if (d->base)
        event_base_free(d->base);
    if (d->helper)
        helper_close(d->helper);
}

static int run(struct daemon *d)
{
    struct daemon_identity identity;
    char error[512];
    if (!daemon_identity(d->conf, &identity, error, sizeof(error))) {
        log_warnx("%s", error);
        return EX_CONFIG;
    }
    d->helper = helper_fork(d->conf);
    if (!d->helper) {
        log_warn("cannot start the queue helper");
        return EX_OSERR;
    }
    name_endpoints(d);
    if (!open_sockets(d, &identity) || !drop_privileges(d->conf, &identity))
        return EX_UNAVAILABLE;
    if (!start(d)) {
        log_warnx("cannot start");
        return EX_UNAVAILABLE;
    }
    if (d->stopping)
        return d->status;
    log_info("%s ready: side %s, %zu domains", d->conf->hostname,
             side_name(d->conf->side), d->conf->domain_count);
    systemd_ready();
    event_base_dispatch(d->base);
    return d->status;
}

int main(int argc, char **argv)
{
    struct options options;
    struct daemon d = { .endpoints = { { .fd = -1 }, { .fd = -1 } }, .http_fd = -1 };
    char error[512];

    int status = parse_options(argc, argv, &options);
    if (status >= 0)
        return status;
    d.conf = conf_load(options.conf_path, error, sizeof(error));
    if (!d.conf) {
        fprintf(stderr, "sluice-policyd: %s\n", error);
        return EX_CONFIG;
    }
    if (options.test) {
        printf("%s: good\n", options.conf_path);
        conf_unref(d.conf);
        return EX_OK;
    }
    log_open("sluice-policyd", d.conf->log);
    signal(SIGPIPE, SIG_IGN);
    status = run(&d);
    end(&d);
    log_info("ended");
    conf_unref(d.conf);
    return status;
}
