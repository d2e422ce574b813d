/*
 * milter_case: what the tests of the milter's parts share: a configuration and
 * sessions from one line of text.
 *
 *     "a@example.com=l b@example.com=n,c=copy@arch.test x@other.test"
 *
 * is a message to two managed recipients (the first locked, the second at the
 * new side, with a copy address) and one that is not managed.  After "=" comes
 * the letter of the record (home.h), or f (the lookup failed) or b (not
 * registered); ",n=" gives the new address, ",c=" the copy address.  A word
 * that starts with "from:" is the sender.
 */
#ifndef SLUICE_TESTS_MILTER_CASE_H
#define SLUICE_TESTS_MILTER_CASE_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../milter/session.h"
#include "state_dir.h"
#include "unit.h"

#define CASE_EPOCH 7

static const char case_conf_text[] =
    "side = %s\n"
    "hostname = \"mx.lab.test\"\n"
    "state-dir = \"%s\"\n"
    "redis = \"unix:/nonexistent/redis.sock\"\n"
    "mta = postfix\n"
    "hold = %s\n"
    "recipient-delimiter = \"+\"\n"
    "command-timeout = 300\n"
    "milter { listen = \"unix:/nonexistent/milter.sock\" }\n"
    "policyd { policy = \"unix:/nonexistent/policy.sock\"\n"
    "          map = \"unix:/nonexistent/map.sock\" }\n"
    "domain \"example.com\" {\n"
    "  same-as = {\"localhost\"}\n"
    "  old = \"[127.0.0.1]:2501\"\n"
    "  new = \"[127.0.0.1]:2502\"\n"
    "  redirect-domains = {\"new.test\", \"arch.test\"}\n"
    "  copy-outbound = %s\n"
    "}\n";

static inline struct conf *case_conf(const char *side, const char *hold,
                                     const char *copy_outbound)
{
    char path[] = "/tmp/sluice-unit.XXXXXX", error[512] = "";
    int fd = mkstemp(path);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out)
        return NULL;
    fprintf(out, case_conf_text, side, state_dir(), hold, copy_outbound);
    fclose(out);
    struct conf *conf = conf_load(path, error, sizeof(error));
    unlink(path);
    if (!conf)
        printf("\n  %s\n", error);
    return conf;
}

static inline void case_home(const struct conf *conf, struct route *route,
                             const char *spec)
{
    route->lookup = LOOKUP_FOUND;
    route->home = (struct home){ .epoch = CASE_EPOCH, .since = 1, .listed = true };
    if (*spec == 'f')
        route->lookup = LOOKUP_FAILED;
    else if (*spec == 'b')
        route->lookup = LOOKUP_ABSENT;
    else
        CU_ASSERT(home_from_letter(*spec, &route->home.state, &route->home.rollback));
    const char *new = strstr(spec, ",n="), *copy = strstr(spec, ",c=");
    if (new)
        snprintf(route->home.new_address, sizeof(route->home.new_address), "%.*s",
                 (int)strcspn(new + 3, ","), new + 3);
    if (copy)
        snprintf(route->home.copy, sizeof(route->home.copy), "%.*s",
                 (int)strcspn(copy + 3, ","), copy + 3);
    route_finish(conf, route);
}

static inline void case_word(struct session *session, const char *word)
{
    char text[512];
    const char *spec = strchr(word, '=');
    snprintf(text, sizeof(text), "<%.*s>", spec ? (int)(spec - word) : 500, word);
    size_t before = session->count;
    session_rcpt(session, text, NULL);
    CU_ASSERT((session->count > before) == (spec != NULL));
    if (session->count > before && spec)
        case_home(session->conf, &session->recipients[before]->route, spec + 1);
}

/* The caller frees it with session_free(). */
static inline struct session *case_session(const struct conf *conf, const char *words)
{
    struct session *session = session_new();
    char copy[2048], *save = NULL;
    snprintf(copy, sizeof(copy), "%s", words);
    const char *sender = "<s@x.test>", *spec = NULL;
    char *word = strtok_r(copy, " ", &save);
    if (word && strncmp(word, "from:", 5) == 0) {
        sender = word + 5;
        char *equals = strchr(word, '=');
        if (equals) {
            *equals = '\0';
            spec = equals + 1;
        }
        word = strtok_r(NULL, " ", &save);
    }
    session_mail(session, conf, sender, NULL);
    if (session->from)
        case_home(conf, &session->from->route, spec ? spec : "o");
    for (; word; word = strtok_r(NULL, " ", &save))
        case_word(session, word);
    return session;
}

#endif
