/*
 * sluice-milter: decides each message's fate at end of message. See
 * doc/sluice-milter.8.
 *
 *     sluice-milter [-c FILE] [-t] [-v]
 *
 * Runs in the foreground. SIGUSR1 reads the configuration again (a bad one is
 * named, and the old one stays; milter.listen, user, group and log need a
 * restart); SIGTERM and SIGINT end it: no new connections, messages at their
 * end are answered, idle connections are closed.
 *
 * Exit status: 0, 64 usage, 69 the socket or the privileges are not to be had,
 * 78 configuration.
 */
#include "config.h"

#include <libmilter/mfapi.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-daemon.h>
#endif

#include "callbacks.h"
#include "conf.h"
#include "daemon.h"
#include "figures.h"
#include "log.h"
#include "pool.h"
#include "start.h"
#include "store.h"

#define ERROR_SIZE 512
/* Longer than a command may take by default (command-timeout, 3 s). */
#define DRAIN_SECONDS 5

enum exit_status {
    EXIT_FINE = 0,
    EXIT_USAGE = 64,
    EXIT_NO_SERVICE = 69,
    EXIT_CONFIGURATION = 78
};

static const char *conf_path = CONF_DEFAULT_PATH;
static struct conf *conf_at_start; /* main() has the reference */

static void notify(const char *state)
{
#ifdef HAVE_SYSTEMD
    sd_notify(0, state);
#else
    (void)state;
#endif
}

static struct conf *load(char error[ERROR_SIZE])
{
    struct conf *conf = conf_at_start ? conf_reload(conf_at_start, error, ERROR_SIZE)
                                      : conf_load(conf_path, error, ERROR_SIZE);
    if (conf && !conf->milter_listen.text) {
        snprintf(error, ERROR_SIZE, "%s: milter { listen } is missing", conf_path);
        conf_unref(conf);
        return NULL;
    }
    return conf;
}

/* Takes over the reference to conf, also on failure. */
static struct pool *make_pool(struct conf *conf, char error[ERROR_SIZE])
{
    struct pool *pool = pool_new(conf, store_redis_new);
    if (!pool) {
        snprintf(error, ERROR_SIZE, "out of memory");
        return NULL;
    }
    if (!verifier_wanted(conf))
        return pool;
    char why[ERROR_SIZE - 64];
    struct verifier *verifier = verifier_new(conf, why, sizeof(why));
    if (!verifier) {
        snprintf(error, ERROR_SIZE, "auth: %s", why);
        pool_unref(pool);
        return NULL;
    }
    pool_set_verifier(pool, verifier);
    if (callbacks_start_tally())
        return pool;
    snprintf(error, ERROR_SIZE, "auth: no memory, or no threads");
    pool_unref(pool);
    return NULL;
}

static void reload(void)
{
    char error[ERROR_SIZE];
    struct conf *conf = load(error);
    if (!conf) {
        log_warnx("%s: the old configuration stays", error);
        return;
    }
    size_t domains = conf->domain_count;
    struct pool *pool = make_pool(conf, error);
    if (!pool) {
        log_warnx("%s: the old configuration stays", error);
        return;
    }
    callbacks_use(pool);
    log_info("configuration read again: %s, %zu domains", conf_path, domains);
}

/* libmilter has a thread of its own for SIGTERM, SIGINT and SIGHUP; they must
 * be blocked in all others. */
static void *wait_for_signals(void *context)
{
    sigset_t *signals = context;
    int number;
    while (sigwait(signals, &number) == 0) {
        notify("RELOADING=1");
        reload();
        notify("READY=1");
    }
    return NULL;
}

static bool start_reloader(void)
{
    static sigset_t reloading;
    sigset_t all;
    pthread_t thread;
    sigemptyset(&reloading);
    sigaddset(&reloading, SIGUSR1);
    all = reloading;
    sigaddset(&all, SIGTERM);
    sigaddset(&all, SIGINT);
    sigaddset(&all, SIGHUP);
    if (pthread_sigmask(SIG_BLOCK, &all, NULL) != 0 ||
        pthread_create(&thread, NULL, wait_for_signals, &reloading) != 0)
        return false;
    pthread_detach(thread);
    return true;
}

/* Redis may come later: then mail for managed domains is tried later, too. */
static void look_at_store(struct pool *pool)
{
    struct position position;
    struct store *store = pool_take(pool);
    if (!store)
        return;
    switch (store_position(store, &position)) {
    case LOOKUP_FOUND:
        if (pool_conf(pool)->redis_durable && store_durable(store) == COMMIT_REFUSED)
            log_alarm("%s", store_error(store));
        break;
    case LOOKUP_ABSENT:
        log_warnx("Redis knows of no domain: mail for managed domains is tried later "
                  "until \"sluice init\"");
        break;
    case LOOKUP_FAILED:
        log_warnx("mail for managed domains is tried later until Redis answers: %s",
                  store_error(store));
        break;
    }
    pool_give(pool, store);
}

static bool open_socket(const struct conf *conf, gid_t gid, char error[ERROR_SIZE])
{
    const struct conf_endpoint *listen = &conf->milter_listen;
    const char *trouble = NULL;
    static int lock_fd = -1; /* stays open: the claim ends with the process */
    if (listen->path && !start_claim_socket(listen->path, &lock_fd, error, ERROR_SIZE))
        return false;
    if (!callbacks_register(listen, &trouble)) {
        snprintf(error, ERROR_SIZE, "%s: %s", listen->text, trouble);
        return false;
    }
    umask(0117);
    bool opened = smfi_opensocket(false) == MI_SUCCESS;
    umask(0077);
    if (!opened) {
        snprintf(error, ERROR_SIZE,
                 "%s: cannot listen there (is another program "
                 "doing so?)",
                 listen->text);
        return false;
    }
    return !listen->path || start_open_socket(listen->path, gid, error, ERROR_SIZE);
}

static int serve(struct conf *conf)
{
    char error[ERROR_SIZE];
    struct daemon_identity identity;
    (void)daemon_raise_files();
    if (!daemon_identity(conf, &identity, error, sizeof(error)) ||
        !daemon_become(conf, &identity, error, sizeof(error)) ||
        !open_socket(conf, identity.gid, error)) {
        log_warnx("%s", error);
        return EXIT_NO_SERVICE;
    }
    /* Threads inherit the signal mask, so the reloader comes first. */
    if (!start_reloader()) {
        log_warnx("no threads");
        return EXIT_NO_SERVICE;
    }
    struct pool *pool = make_pool(conf_ref(conf), error);
    if (!pool) {
        log_warnx("%s", error);
        return EXIT_NO_SERVICE;
    }
    if (!figures_start(conf))
        log_warnx("no threads: no figures for sluice-policyd");
    look_at_store(pool);
    callbacks_use(pool);
    log_info("version %s, %s side, %zu domains, listening on %s", PACKAGE_VERSION,
             side_name(conf->side), conf->domain_count, conf->milter_listen.text);
    notify("READY=1");
    int result = smfi_main();
    notify("STOPPING=1");
    callbacks_drain(DRAIN_SECONDS);
    callbacks_end_tally();
    figures_end(conf);
    log_info("stopped");
    return result == MI_SUCCESS ? EXIT_FINE : EXIT_NO_SERVICE;
}

static int usage(FILE *out, int status)
{
    fprintf(out,
            "usage: sluice-milter [-c FILE] [-t] [-v]\n"
            "  -c FILE  configuration (default %s)\n"
            "  -t       test the configuration and exit\n"
            "  -v       debugging lines in the log\n"
            "  -V       print the version\n",
            CONF_DEFAULT_PATH);
    return status;
}

static int run(bool test)
{
    char error[ERROR_SIZE];
    struct conf *conf = load(error);
    if (!conf) {
        fprintf(stderr, "sluice-milter: %s\n", error);
        return EXIT_CONFIGURATION;
    }
    int status = EXIT_FINE;
    conf_at_start = conf;
    if (!test) {
        log_open("sluice-milter", conf->log);
        status = serve(conf);
    }
    conf_unref(conf);
    return status;
}

int main(int argc, char **argv)
{
    bool test = false;
    int option;
    while ((option = getopt(argc, argv, "c:tvVh")) != -1) {
        switch (option) {
        case 'c':
            conf_path = optarg;
            break;
        case 't':
            test = true;
            break;
        case 'v':
            log_verbose(true);
            break;
        case 'V':
            puts("sluice-milter " PACKAGE_VERSION);
            return EXIT_FINE;
        case 'h':
            return usage(stdout, EXIT_FINE);
        default:
            return usage(stderr, EXIT_USAGE);
        }
    }
    return optind == argc ? run(test) : usage(stderr, EXIT_USAGE);
}
