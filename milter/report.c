/*
 * report: log lines.
 *
 *   QUEUEID: verdict=forward to=<a@example.com> home=new from=<s@x.org>
 *       client=[192.0.2.1] helo=mx.x.org auth=joe reason=... new=<...> copy=<...>
 *
 * (one line), and at its end, where mail is verified, spf=... dkim=... dmarc=...
 * header-from=... and origin=[...], the client of a trusted host in front. A
 * message for no managed mailbox has one line if it was verified, without to
 * and home, and verdict=none, quarantine or reject (enforce). verdict and home are what
 * was found; auth, reason, new and copy only where there is something to say.
 * verdict=later with a reason stands for every recipient of a message that is tried
 * later, verdict=hold reason=loop for every one of a message that is held as a loop;
 * verdict=hold without reason for a message on hold, with reason=transport for a
 * recipient that the transport map will hold while the message goes on to the others.
 * Values are escaped by log_value(), so no sender can forge a line or a key.
 *
 * reason=...:
 *   lookup-failed          Redis did not answer, or lost its history
 *   domain-not-registered  configured, but not in Redis: sluice init
 *   no-next-hop            verdict forward, but no old/new next hop configured
 *   no-trace-key           Redis has no key for the trace header
 *   not-recorded           the hold could not be recorded, so it was not made
 *   dmarc                  enforce = quarantine: on hold until a person looks
 *   forged-results         refused: more Authentication-Results fields in this host's
 *                          name than can be removed
 *   locked                 hold = defer: the sender keeps it
 *   too-many-recipients, no-memory, no-queue-id, no-token, mta-refused, loop,
 *   transport
 */
#include "config.h"

#include "report.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "log.h"

#define VALUE_MAX 1024
#define ID_MAX    128

/* Up to four characters in the log for each of the address. */
#define LOGGED_ADDRESS (4 * ADDR_TEXT_MAX + 1)

struct line {
    char client[128];
    char helo[VALUE_MAX];
    char auth[VALUE_MAX];
    char sender[VALUE_MAX];
    const char *words; /* of the verification; "" or with a space in front */
};

static const char *line_verdict(const struct plan *plan, const struct route *route)
{
    switch (plan->ending) {
    case ENDING_LATER:
        return verdict_name(VERDICT_LATER);
    case ENDING_LOOP:
    case ENDING_DMARC:
    case ENDING_HOLD:
        return verdict_name(VERDICT_HOLD);
    case ENDING_ACCEPT:
        break;
    }
    return verdict_name(route->verdict);
}

static const char *line_reason(const struct plan *plan, const struct route *route)
{
    if (plan->ending == ENDING_LATER)
        return plan->reason;
    if (plan->ending == ENDING_LOOP)
        return "loop";
    if (plan->ending == ENDING_DMARC)
        return "dmarc";
    if (plan->ending == ENDING_ACCEPT && route->verdict == VERDICT_HOLD)
        return "transport";
    return NULL;
}

static void print_address(FILE *out, const char *key, const char *address)
{
    char value[LOGGED_ADDRESS];
    fprintf(out, " %s=<%s>", key, log_value(address, value, sizeof(value)));
}

static void print_end(FILE *out, const struct plan *plan,
                      const struct recipient *recipient, const char *auth)
{
    const char *reason = line_reason(plan, &recipient->route);
    if (auth[0])
        fprintf(out, " auth=%s", auth);
    if (reason)
        fprintf(out, " reason=%s", reason);
    if (plan->ending == ENDING_ACCEPT && recipient->route.verdict == VERDICT_REDIRECT)
        print_address(out, "new", recipient->route.home.new_address);
    if (recipient->copied)
        print_address(out, "copy", recipient->route.home.copy);
}

static void report_recipient(const struct plan *plan, const struct line *line,
                             const struct recipient *recipient, const char *queue_id)
{
    const struct route *route = &recipient->route;
    char address[ADDR_TEXT_MAX + 1], to[LOGGED_ADDRESS];
    char end[3 * LOGGED_ADDRESS + VALUE_MAX] = "";
    FILE *out = fmemopen(end, sizeof(end), "w");
    if (out) {
        print_end(out, plan, recipient, line->auth);
        fclose(out);
    }
    route_address(route, address);
    log_info("%s: verdict=%s to=<%s> home=%s from=<%s> client=[%s] helo=%s%s%s", queue_id,
             line_verdict(plan, route), log_value(address, to, sizeof(to)),
             route->lookup == LOOKUP_FOUND ? home_state_name(route->home.state)
                                           : "unknown",
             line->sender, line->client, line->helo, end, line->words);
}

static void report_sender(const struct plan *plan, const struct session *session,
                          const struct line *line, const char *queue_id)
{
    const struct recipient *from = session->from;
    char end[2 * LOGGED_ADDRESS] = "";
    bool later = session->count == 0 && plan->ending == ENDING_LATER;
    if (!from || (!later && !from->copied))
        return;
    if (later)
        log_info("%s: verdict=later outbound=<%s> client=[%s] reason=%s", queue_id,
                 line->sender, line->client, plan->reason);
    else
        log_info("%s: verdict=copy outbound=<%s> client=[%s] copy=<%s>", queue_id,
                 line->sender, line->client,
                 log_value(from->route.home.copy, end, sizeof(end)));
}

static void report_loop(const struct plan *plan, const char *queue_id)
{
    char address[ADDR_TEXT_MAX + 1], to[LOGGED_ADDRESS];
    route_address(&plan->looping->route, address);
    log_alarm("%s: mail loop for <%s>: it was sent away before and came back; on hold "
              "until \"sluice held release %s\"",
              queue_id, log_value(address, to, sizeof(to)), queue_id);
}

static void begin_line(const struct session *session, const char *words,
                       const char *queue_id, struct line *line, char id[ID_MAX])
{
    log_value(queue_id ? queue_id : "NOQUEUE", id, ID_MAX);
    log_value(session->client, line->client, sizeof(line->client));
    log_value(session->helo, line->helo, sizeof(line->helo));
    log_value(session->auth, line->auth, sizeof(line->auth));
    log_value(session->sender ? session->sender : "", line->sender, sizeof(line->sender));
    line->words = words;
}

void report_verified(const struct session *session, const struct verified *verified,
                     const char *verdict, const char *reason, const char *queue_id)
{
    struct line line;
    char id[ID_MAX];
    begin_line(session, verified->words, queue_id, &line, id);
    log_info("%s: verdict=%s from=<%s> client=[%s] helo=%s%s%s%s", id, verdict,
             line.sender, line.client, line.helo, reason ? " reason=" : "",
             reason ? reason : "", line.words);
}

void report_message(const struct plan *plan, const struct session *session,
                    const char *words, const char *queue_id)
{
    struct line line;
    char id[ID_MAX];
    begin_line(session, words, queue_id, &line, id);
    for (size_t i = 0; i < session->count; i++)
        report_recipient(plan, &line, session->recipients[i], id);
    report_sender(plan, session, &line, id);
    if (plan->ending == ENDING_LOOP)
        report_loop(plan, id);
}

void report_store_trouble(const char *error)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char last[256];
    static time_t said;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    pthread_mutex_lock(&mutex);
    bool news = !last[0] || now.tv_sec - said >= 60 ||
                strncmp(last, error, sizeof(last) - 1) != 0;
    if (news) {
        snprintf(last, sizeof(last), "%.255s", error);
        said = now.tv_sec;
    }
    pthread_mutex_unlock(&mutex);
    if (news)
        log_warnx("mail for managed domains is tried later: %s", error);
}
