/*
 * doctor_postfix: both gates in main.cf and master.cf. See doctor.h.
 *
 * The milter is the front gate, the transport map the delivery gate; each can be
 * missing, stand in the wrong place, be overridden for one service by -o, or be
 * out of reach of a chrooted daemon. What is read is what postconf(1) shows, not
 * what a Postfix that was not reloaded still runs with.
 */
#include "config.h"

#include "doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "capture.h"
#include "postconf.h"

#define ITEM_MAX 1024
#define SAMPLE   20 /* mailboxes asked for in a map that stands before ours */

struct wiring {
    struct doctor *doctor;
    const struct conf *conf;
    struct postconf *pc;
    const char *queue;
};

static const char *value_of(const struct wiring *w, const char *name)
{
    return postconf_value(w->pc, name);
}

static bool in_list(const char *list, const char *name)
{
    char item[ITEM_MAX];
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));)
        if (strcasecmp(item, name) == 0)
            return true;
    return false;
}

/* ---- one endpoint, one service ------------------------------------------------------
 */

enum place { PLACE_RIGHT, PLACE_OTHER_ROOT, PLACE_NOWHERE };

/* Where text leads a daemon that is chrooted or not. */
static enum place place_of(const struct wiring *w, const char *text, bool chrooted,
                           const struct conf_endpoint *endpoint)
{
    if (postconf_same_endpoint(text, w->queue, chrooted, endpoint))
        return PLACE_RIGHT;
    if (postconf_same_endpoint(text, w->queue, !chrooted, endpoint))
        return PLACE_OTHER_ROOT;
    return PLACE_NOWHERE;
}

static void fix_location(struct wiring *w, const struct conf_endpoint *endpoint,
                         const char *key)
{
    const char *name = endpoint->path ? strrchr(endpoint->path, '/') : NULL;
    if (name)
        doctor_fix(w->doctor, "sluice.conf", "%s = \"unix:%s/sluice%s\"", key, w->queue,
                   name);
}

/* Whether user postfix reaches the socket from where the daemon lives. */
static void check_reach(struct wiring *w, const char *name,
                        const struct postconf_service *service,
                        const struct conf_endpoint *endpoint, const char *key)
{
    char error[256];
    size_t len = strlen(w->queue);
    if (endpoint->path == NULL)
        return;
    const char *path = endpoint->path;
    if (service->chroot) {
        if (strncmp(path, w->queue, len) != 0 || path[len] != '/') {
            doctor_say(w->doctor, FINDING_FAIL, name,
                       "%s lies outside of %s, where %s is "
                       "chrooted",
                       path, w->queue, service->name);
            fix_location(w, endpoint, key);
            return;
        }
        path += len;
    }
    doctor_connect(path, value_of(w, "mail_owner"), service->chroot ? w->queue : NULL,
                   error, sizeof(error));
    if (error[0] == '\0')
        return;
    doctor_say(w->doctor, FINDING_FAIL, name, "%s: user %s (%s%s) cannot connect: %s",
               endpoint->path, value_of(w, "mail_owner"), service->name,
               service->chroot ? ", chrooted" : "", error);
    doctor_fix(w->doctor, "shell",
               "chgrp %s on the directory, mode 0750 or more; is the daemon "
               "running?",
               w->conf->group);
}

/* ---- milters -------------------------------------------------------------------------
 */

struct chain {
    bool found, other_root, last;
    char entry[ITEM_MAX]; /* ours */
};

static struct chain read_chain(const struct wiring *w, const char *list, bool chrooted)
{
    struct chain chain = { 0 };
    char item[ITEM_MAX];
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));) {
        enum place place = place_of(w, item, chrooted, &w->conf->milter_listen);
        chain.last = place != PLACE_NOWHERE;
        if (place == PLACE_NOWHERE)
            continue;
        chain.found = true;
        chain.other_root = place == PLACE_OTHER_ROOT;
        memcpy(chain.entry, item, sizeof(item));
    }
    return chain;
}

/* The list with ours at its end. */
static void fix_chain(struct wiring *w, const char *where, const char *name,
                      const char *list)
{
    char text[ITEM_MAX], item[ITEM_MAX], whole[4096] = "";
    size_t n = 0;
    postconf_endpoint_text(&w->conf->milter_listen, w->queue, text, sizeof(text));
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));) {
        if (place_of(w, item, false, &w->conf->milter_listen) != PLACE_NOWHERE)
            continue;
        bool braces = strpbrk(item, ", ") != NULL;
        int len = snprintf(whole + n, sizeof(whole) - n, "%s%s%s, ", braces ? "{ " : "",
                           item, braces ? " }" : "");
        n += len > 0 && (size_t)len < sizeof(whole) - n ? (size_t)len : 0;
    }
    doctor_fix(w->doctor, where, "%s = %s%s", name, whole, text);
}

static void say_chain(struct wiring *w, const char *name, const char *list,
                      const struct chain *chain, const char *who)
{
    if (!chain->found) {
        doctor_say(w->doctor, FINDING_FAIL, name, "sluice-milter is not asked (%s)", who);
        fix_chain(w, "main.cf", name, list);
    } else if (chain->other_root) {
        doctor_say(w->doctor, FINDING_FAIL, name, "%s means another path for %s (chroot)",
                   chain->entry, who);
        fix_chain(w, "main.cf", name, list);
    } else if (!chain->last) {
        doctor_say(w->doctor, FINDING_FAIL, name,
                   "sluice-milter is not the last: a milter after "
                   "it does not see the end of what is held");
        fix_chain(w, "main.cf", name, list);
    } else {
        doctor_say(w->doctor, FINDING_OK, name, "%s, last", chain->entry);
    }
}

static bool on_loopback(const char *service)
{
    return strncmp(service, "127.", 4) == 0 || strncmp(service, "localhost:", 10) == 0 ||
           strncmp(service, "[::1]:", 6) == 0;
}

/* An smtpd whose -o options go around us. */
static void check_smtpd_override(struct wiring *w, const struct postconf_service *service,
                                 const char *list)
{
    struct chain chain = read_chain(w, list, service->chroot);
    bool loopback = on_loopback(service->name);
    if (chain.found && !chain.other_root && chain.last)
        return;
    doctor_say(w->doctor, loopback && !chain.found ? FINDING_WARN : FINDING_FAIL,
               "smtpd_milters", "%s has -o smtpd_milters=%s: %s%s", service->name, list,
               !chain.found  ? "sluice-milter does not see its mail"
               : !chain.last ? "sluice-milter is not the last"
                             : "another path in the chroot",
               loopback && !chain.found ? " (fine when it came through another smtpd)"
                                        : "");
    fix_chain(w, "master.cf", "-o smtpd_milters", list);
}

static void check_smtpd_milters(struct wiring *w)
{
    const struct postconf_service *service;
    const char *list = value_of(w, "smtpd_milters");
    bool told = false;
    for (size_t i = 0; (service = postconf_service(w->pc, i)) != NULL; i++) {
        if (strcmp(service->program, "smtpd") != 0)
            continue;
        const char *option = postconf_option(w->pc, service->name, "smtpd_milters");
        if (option) {
            check_smtpd_override(w, service, option);
            continue;
        }
        struct chain chain = read_chain(w, list, service->chroot);
        if (!told || !chain.found || chain.other_root)
            say_chain(w, "smtpd_milters", list, &chain, service->name);
        if (chain.found && !told)
            check_reach(w, "smtpd_milters", service, &w->conf->milter_listen,
                        "milter { listen");
        told = true;
        if (!chain.found || chain.other_root)
            return; /* the same for all others */
    }
    if (!told)
        doctor_say(w->doctor, FINDING_WARN, "smtpd_milters",
                   "no smtpd uses main.cf's list");
}

static void check_non_smtpd_milters(struct wiring *w)
{
    const struct postconf_service *cleanup = postconf_find(w->pc, "cleanup/unix");
    if (cleanup == NULL)
        return;
    const char *list = postconf_effective(w->pc, cleanup->name, "non_smtpd_milters");
    struct chain chain = read_chain(w, list, cleanup->chroot);
    if (!chain.found && strcmp(value_of(w, "smtpd_milters"), "") != 0) {
        doctor_say(w->doctor, FINDING_FAIL, "non_smtpd_milters",
                   "sluice-milter is not asked for local submissions");
        doctor_fix(w->doctor, "main.cf", "non_smtpd_milters = $smtpd_milters");
        return;
    }
    say_chain(w, "non_smtpd_milters", list, &chain, cleanup->name);
}

/* The action when sluice-milter is down: of its own entry, else the default. */
static void check_default_action(struct wiring *w)
{
    struct chain chain = read_chain(w, value_of(w, "smtpd_milters"), true);
    const char *own = strstr(chain.entry, "default_action=");
    const char *action = own ? own + 15 : value_of(w, "milter_default_action");
    if (strncmp(action, "tempfail", 8) == 0) {
        doctor_say(w->doctor, FINDING_OK, "milter_default_action", "tempfail");
        return;
    }
    doctor_say(w->doctor, FINDING_FAIL, "milter_default_action",
               "is %s: while sluice-milter is down mail must wait", action);
    doctor_fix(w->doctor, "main.cf", "milter_default_action = tempfail");
}

static void check_protocol(struct wiring *w)
{
    const char *protocol = value_of(w, "milter_protocol");
    bool six = strcmp(protocol, "6") == 0;
    doctor_say(w->doctor, six ? FINDING_OK : FINDING_FAIL, "milter_protocol", "%s",
               protocol);
    if (!six)
        doctor_fix(w->doctor, "main.cf", "milter_protocol = 6");
}

/* ---- maps ----------------------------------------------------------------------------
 */

/* "socketmap:unix:path:name": whether it is ours with that name. */
static enum place map_place(const struct wiring *w, const char *item, bool chrooted,
                            const char *name)
{
    char endpoint[ITEM_MAX];
    const char *at = strncmp(item, "proxy:", 6) == 0 ? item + 6 : item;
    bool proxied = at != item;
    if (strncmp(at, "socketmap:", 10) != 0)
        return PLACE_NOWHERE;
    snprintf(endpoint, sizeof(endpoint), "%s", at + 10);
    char *colon = strrchr(endpoint, ':');
    if (colon == NULL || strcmp(colon + 1, name) != 0)
        return PLACE_NOWHERE;
    *colon = '\0';
    return place_of(w, endpoint, chrooted && !proxied, &w->conf->map_listen);
}

struct sample {
    char keys[4096];
    size_t n, len;
    const char *domain;
};

static bool add_key(void *context, const char *local, const struct home *home)
{
    struct sample *sample = context;
    char address[ADDR_TEXT_MAX + 1];
    (void)home;
    addr_format(local[0] ? local : "sluice-doctor", sample->domain, address);
    int n = snprintf(sample->keys + sample->len, sizeof(sample->keys) - sample->len,
                     "%s\n", address);
    if (n < 0 || (size_t)n >= sizeof(sample->keys) - sample->len) {
        sample->keys[sample->len] = '\0';
        return false;
    }
    sample->len += (size_t)n;
    return ++sample->n < SAMPLE;
}

/* Whether the map answers for a managed mailbox: it would hide ours. */
static bool map_answers(const struct wiring *w, const char *map, char *answer,
                        size_t size)
{
    char program[4096];
    bool found = false;
    snprintf(program, sizeof(program), "%.4000s/postmap", w->conf->postfix_commands);
    const char *const argv[] = { program, "-c", w->conf->postfix_config, "-q", "-",
                                 map,     NULL };
    for (size_t i = 0; i < w->conf->domain_count && !found; i++) {
        struct sample sample = { .domain = w->conf->domains[i].name };
        struct capture got;
        store_each_home(w->doctor->context->store, sample.domain, add_key, &sample);
        if (sample.n == 0)
            add_key(&sample, "", NULL);
        capture_run(argv, sample.keys, 5000, &got);
        found = got.status == 0 && got.out && got.out[0] != '\0';
        if (found)
            snprintf(answer, size, "%.*s", (int)strcspn(got.out, "\n"), got.out);
        free(got.out);
    }
    for (char *s = answer; found && *s; s++)
        if (*s == '\t')
            *s = ' ';
    return found;
}

static void fix_map(struct wiring *w, const char *parameter, const char *name,
                    const char *list)
{
    char text[ITEM_MAX], item[ITEM_MAX], whole[4096] = "";
    size_t n = 0;
    postconf_endpoint_text(&w->conf->map_listen, w->queue, text, sizeof(text));
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));) {
        if (map_place(w, item, false, name) != PLACE_NOWHERE ||
            map_place(w, item, true, name) != PLACE_NOWHERE)
            continue;
        int len = snprintf(whole + n, sizeof(whole) - n, ", %s", item);
        n += len > 0 && (size_t)len < sizeof(whole) - n ? (size_t)len : 0;
    }
    doctor_fix(w->doctor, "main.cf", "%s = socketmap:%s:%s%s", parameter, text, name,
               whole);
}

/* The maps before ours. Returns how many there are; the first that answers for a
 * managed mailbox is reported. */
static size_t check_shadows(struct wiring *w, const char *parameter, const char *name,
                            const char *list)
{
    char item[ITEM_MAX], answer[512];
    size_t before = 0;
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));
         before++) {
        if (map_place(w, item, true, name) != PLACE_NOWHERE ||
            map_place(w, item, false, name) != PLACE_NOWHERE)
            break;
        if (!map_answers(w, item, answer, sizeof(answer)))
            continue;
        doctor_say(w->doctor, FINDING_FAIL, parameter,
                   "%s stands before sluice and answers for a managed mailbox: %s", item,
                   answer);
        fix_map(w, parameter, name, list);
    }
    return before;
}

static void check_map_of(struct wiring *w, const char *parameter, const char *name,
                         const char *service_name, enum finding missing)
{
    const struct postconf_service *service = postconf_find(w->pc, service_name);
    if (service == NULL)
        return;
    const char *list = postconf_effective(w->pc, service_name, parameter);
    char item[ITEM_MAX];
    enum place place = PLACE_NOWHERE;
    for (const char *cursor = list;
         place == PLACE_NOWHERE && postconf_item(&cursor, item, sizeof(item));)
        place = map_place(w, item, service->chroot, name);
    if (place != PLACE_RIGHT) {
        doctor_say(w->doctor, missing, parameter, "%s%s",
                   place == PLACE_NOWHERE ? "sluice is not asked" : item,
                   place == PLACE_NOWHERE ? "" : " means another path in the chroot");
        fix_map(w, parameter, name, list);
        if (postconf_option(w->pc, service_name, parameter))
            doctor_fix(w->doctor, "master.cf", "%s: remove -o %s", service_name,
                       parameter);
        return;
    }
    size_t failures = w->doctor->failures;
    size_t before = check_shadows(w, parameter, name, list);
    if (w->doctor->failures == failures && before > 0) {
        doctor_say(w->doctor, FINDING_WARN, parameter,
                   "%zu maps stand before %s; they do not "
                   "answer for managed mailboxes now",
                   before, item);
        fix_map(w, parameter, name, list);
    } else if (w->doctor->failures == failures) {
        doctor_say(w->doctor, FINDING_OK, parameter, "%s, first", item);
    }
    check_reach(w, parameter, service, &w->conf->map_listen, "policyd { map");
}

static bool any_redirect(const struct conf *conf)
{
    for (size_t i = 0; i < conf->domain_count; i++)
        if (conf->domains[i].redirect_domains && conf->domains[i].redirect_domains[0])
            return true;
    return false;
}

/* ---- rewritten senders
 * -------------------------------------------------------------------- */

/* Whether a list of domains, of which some may be maps, has the name. */
static bool lists_domain(const struct wiring *w, const char *list, const char *name)
{
    char item[ITEM_MAX], program[4096];
    snprintf(program, sizeof(program), "%.4000s/postmap", w->conf->postfix_commands);
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));) {
        if (strcasecmp(item, name) == 0)
            return true;
        if (!strchr(item, ':') || strncmp(item, "socketmap:", 10) == 0)
            continue;
        const char *const argv[] = { program, "-c", w->conf->postfix_config, "-q", name,
                                     item,    NULL };
        struct capture got;
        capture_run(argv, "", 5000, &got);
        bool found = got.status == 0;
        free(got.out);
        if (found)
            return true;
    }
    return false;
}

/* Bounces must end here, and those that are forged must not go on. */
static void check_srs_domain(struct wiring *w)
{
    static const char *const lists[] = { "virtual_alias_domains",
                                         "virtual_mailbox_domains", "mydestination",
                                         "relay_domains" };
    const char *domain = w->conf->srs.domain;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (lists_domain(w, value_of(w, lists[i]), domain)) {
            doctor_say(w->doctor, FINDING_OK, "srs domain", "%s is in %s", domain,
                       lists[i]);
            return;
        }
    doctor_say(w->doctor, FINDING_FAIL, "srs domain",
               "%s is no domain of this host: what bounces to rewritten senders is "
               "refused",
               domain);
    doctor_fix(w->doctor, "main.cf", "virtual_alias_domains = %s%s%s",
               value_of(w, lists[0]), value_of(w, lists[0])[0] ? ", " : "", domain);
}

static void check_srs_classes(struct wiring *w)
{
    const char *name = "recipient_canonical_classes";
    const char *classes = postconf_effective(w->pc, "cleanup/unix", name);
    bool envelope = in_list(classes, "envelope_recipient");
    if (envelope && !in_list(classes, "header_recipient")) {
        doctor_say(w->doctor, FINDING_OK, name, "%s", classes);
        return;
    }
    doctor_say(w->doctor, envelope ? FINDING_WARN : FINDING_FAIL, name, "is \"%s\": %s",
               classes,
               envelope ? "headers are rewritten too, which breaks their signatures"
                        : "bounces to rewritten senders are not sent on");
    doctor_fix(w->doctor, "main.cf", "%s = envelope_recipient", name);
}

static void check_srs_map(struct wiring *w)
{
    const char *parameter = "recipient_canonical_maps";
    const struct postconf_service *cleanup = postconf_find(w->pc, "cleanup/unix");
    if (cleanup == NULL)
        return;
    const char *list = postconf_effective(w->pc, cleanup->name, parameter);
    char item[ITEM_MAX];
    enum place place = PLACE_NOWHERE;
    for (const char *cursor = list;
         place == PLACE_NOWHERE && postconf_item(&cursor, item, sizeof(item));)
        place = map_place(w, item, cleanup->chroot, "srs");
    if (place == PLACE_RIGHT) {
        doctor_say(w->doctor, FINDING_OK, parameter, "%s", item);
        check_reach(w, parameter, cleanup, &w->conf->map_listen, "policyd { map");
        return;
    }
    doctor_say(w->doctor, FINDING_FAIL, parameter, "%s%s",
               place == PLACE_NOWHERE
                   ? "sluice is not asked: bounces to rewritten senders are refused"
                   : item,
               place == PLACE_NOWHERE ? "" : " means another path in the chroot");
    fix_map(w, parameter, "srs", list);
}

static void check_srs(struct wiring *w)
{
    if (!w->conf->srs.domain)
        return;
    check_srs_map(w);
    check_srs_classes(w);
    check_srs_domain(w);
}

/* ---- policy service
 * --------------------------------------------------------------------- */

static bool asks_policy(const struct wiring *w, const struct postconf_service *service,
                        const char *list)
{
    char item[ITEM_MAX];
    bool next = false;
    for (const char *cursor = list; postconf_item(&cursor, item, sizeof(item));) {
        if (next &&
            place_of(w, item, service->chroot, &w->conf->policy_listen) == PLACE_RIGHT)
            return true;
        next = strcmp(item, "check_policy_service") == 0;
    }
    return false;
}

static void check_policy(struct wiring *w)
{
    static const char *const lists[] = {
        "smtpd_recipient_restrictions", "smtpd_relay_restrictions",
        "smtpd_data_restrictions",      "smtpd_sender_restrictions",
        "smtpd_client_restrictions",
    };
    const struct postconf_service *service;
    char text[ITEM_MAX];
    bool defer = w->conf->hold == HOLD_DEFER;
    postconf_endpoint_text(&w->conf->policy_listen, w->queue, text, sizeof(text));
    for (size_t i = 0; (service = postconf_service(w->pc, i)) != NULL; i++) {
        bool found = false;
        if (strcmp(service->program, "smtpd") != 0)
            continue;
        for (size_t k = 0; k < sizeof(lists) / sizeof(lists[0]) && !found; k++)
            found = asks_policy(w, service,
                                postconf_effective(w->pc, service->name, lists[k]));
        if (found) {
            doctor_say(w->doctor, FINDING_OK, "policy service", "%s asks it",
                       service->name);
            check_reach(w, "policy service", service, &w->conf->policy_listen,
                        "policyd { policy");
            continue;
        }
        doctor_say(w->doctor, defer ? FINDING_FAIL : FINDING_WARN, "policy service",
                   "%s does not ask it%s", service->name,
                   defer ? ", which hold = defer needs"
                         : ": while Redis is down, senders are told only after the "
                           "message and not at RCPT");
        doctor_fix(w->doctor, "main.cf",
                   "smtpd_recipient_restrictions = %s%scheck_policy_service %s",
                   value_of(w, lists[0]), value_of(w, lists[0])[0] ? ", " : "", text);
    }
}

/* ---- master.cf
 * ------------------------------------------------------------------------------ */

static void check_hold_program(struct wiring *w, const struct postconf_service *hold)
{
    char program[ITEM_MAX];
    const char *argv = strstr(hold->command, "argv=");
    snprintf(program, sizeof(program), "%.*s", argv ? (int)strcspn(argv + 5, " ") : 0,
             argv ? argv + 5 : "");
    if (program[0] == '/' && access(program, X_OK) == 0) {
        doctor_say(w->doctor, FINDING_OK, "sluice-hold", "pipe, %s", program);
        return;
    }
    doctor_say(w->doctor, FINDING_FAIL, "sluice-hold",
               "program \"%s\" cannot be executed", program);
    doctor_fix(w->doctor, "master.cf", "  flags=Rq user=nobody argv=%s/sluice-hold",
               LIBEXECDIR);
}

static void check_hold_transport(struct wiring *w)
{
    const struct postconf_service *hold = postconf_find(w->pc, "sluice-hold/unix");
    if (hold && strcmp(hold->program, "pipe") == 0) {
        check_hold_program(w, hold);
        return;
    }
    doctor_say(w->doctor, FINDING_FAIL, "sluice-hold",
               hold ? "is not a pipe(8) service" : "there is no such transport");
    doctor_fix(w->doctor, "master.cf", "sluice-hold unix - n n - - pipe");
    doctor_fix(w->doctor, "master.cf", "  flags=Rq user=nobody argv=%s/sluice-hold",
               LIBEXECDIR);
}

static void check_forward_transport(struct wiring *w)
{
    const struct postconf_service *forward = postconf_find(w->pc, "sluice-forward/unix");
    if (forward == NULL || strcmp(forward->program, "smtp") != 0) {
        doctor_say(w->doctor, FINDING_FAIL, "sluice-forward",
                   forward ? "is not an smtp(8) service" : "there is no such transport");
    } else if (strcmp(postconf_effective(w->pc, forward->name, "soft_bounce"), "yes") !=
               0) {
        doctor_say(w->doctor, FINDING_FAIL, "sluice-forward",
                   "without soft_bounce: what the new server refuses would bounce");
    } else {
        doctor_say(w->doctor, FINDING_OK, "sluice-forward", "smtp, soft_bounce=yes");
        return;
    }
    doctor_fix(w->doctor, "master.cf", "sluice-forward unix - - y - - smtp");
    doctor_fix(w->doctor, "master.cf", "  -o soft_bounce=yes");
}

static void check_content_filter(struct wiring *w)
{
    const struct postconf_service *service;
    bool any = false;
    for (size_t i = 0; (service = postconf_service(w->pc, i)) != NULL; i++) {
        if (strcmp(service->program, "smtpd") != 0 &&
            strcmp(service->program, "pickup") != 0 &&
            strcmp(service->program, "cleanup") != 0 &&
            strcmp(service->program, "qmqpd") != 0)
            continue;
        const char *filter = postconf_effective(w->pc, service->name, "content_filter");
        if (filter[0] == '\0')
            continue;
        any = true;
        doctor_say(
            w->doctor, FINDING_WARN, "content_filter",
            "%s has %s, which goes before the transport map: the mail is only gated when "
            "the filter gives it back to this Postfix",
            service->name, filter);
    }
    if (!any)
        doctor_say(w->doctor, FINDING_OK, "content_filter", "none");
}

/* ---- names and limits
 * ------------------------------------------------------------------------- */

static bool covered(const struct conf *conf, const struct conf_domain *domain,
                    const char *name)
{
    return strcasecmp(name, domain->name) == 0 || conf_managed(conf, name) == domain;
}

/* Whether this host reaches an address literal of its own is not said by any
 * list; that one is covered shows that the admin thought of it. */
static bool covers_literal(const struct conf_domain *domain)
{
    for (char **name = domain->same_as; name && *name; name++)
        if ((*name)[0] == '[')
            return true;
    return false;
}

static void check_local_domain(struct wiring *w, const struct conf_domain *domain,
                               const char *destinations)
{
    char item[ITEM_MAX], missing[2048] = "";
    size_t n = 0;
    for (const char *cursor = destinations; postconf_item(&cursor, item, sizeof(item));) {
        char name[ADDR_DOMAIN_MAX + 1];
        bool pattern = strchr(item, ':') || item[0] == '/';
        if (pattern)
            doctor_say(w->doctor, FINDING_WARN, "mydestination",
                       "%s: its names cannot be listed; each must be in same-as of %s",
                       item, domain->name);
        if (pattern ||
            (addr_domain(item, strlen(item), name) && covered(w->conf, domain, name)))
            continue;
        int len =
            snprintf(missing + n, sizeof(missing) - n, "%s\"%s\"", n ? ", " : "", item);
        n += len > 0 && (size_t)len < sizeof(missing) - n ? (size_t)len : 0;
    }
    if (n == 0) {
        doctor_say(w->doctor, FINDING_OK, "mydestination",
                   "all local names of %s are managed", domain->name);
    } else {
        doctor_say(w->doctor, FINDING_FAIL, "mydestination",
                   "the mailboxes of %s are also reached as %s, past the lock",
                   domain->name, missing);
        for (char **name = domain->same_as; name && *name; name++) {
            int len = snprintf(missing + n, sizeof(missing) - n, ", \"%s\"", *name);
            n += len > 0 && (size_t)len < sizeof(missing) - n ? (size_t)len : 0;
        }
        doctor_fix(w->doctor, "sluice.conf", "domain \"%s\" { same-as = {%s} }",
                   domain->name, missing);
    }
    if (!covers_literal(domain))
        doctor_say(w->doctor, FINDING_WARN, "mydestination",
                   "user@[address of this host] reaches %s too; same-as can name it",
                   domain->name);
}

static void check_mydestination(struct wiring *w)
{
    const char *destinations = value_of(w, "mydestination");
    bool local = false;
    for (size_t i = 0; i < w->conf->domain_count; i++)
        if (in_list(destinations, w->conf->domains[i].name)) {
            local = true;
            check_local_domain(w, &w->conf->domains[i], destinations);
        }
    if (!local)
        doctor_say(w->doctor, FINDING_OK, "mydestination", "no managed domain is in it");
}

static void check_equal(struct wiring *w, const char *parameter, const char *wanted,
                        const char *why)
{
    const char *value = value_of(w, parameter);
    if (strcmp(value, wanted) == 0) {
        doctor_say(w->doctor, FINDING_OK, parameter, "%s", value);
        return;
    }
    doctor_say(w->doctor, FINDING_FAIL, parameter, "is \"%s\": %s", value, why);
    doctor_fix(w->doctor, "main.cf", "%s = %s", parameter, wanted);
}

/* Postfix's times: a number with s, m, h, d or w; -1: not one. */
static long seconds_of(const char *text, char unit)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || n < 0)
        return -1;
    switch (*end ? *end : unit) {
    case 's':
        return n;
    case 'm':
        return n * 60;
    case 'h':
        return n * 3600;
    case 'd':
        return n * 86400;
    case 'w':
        return n * 604800;
    default:
        return -1;
    }
}

static void check_lifetime(struct wiring *w, const char *parameter)
{
    const char *value = value_of(w, parameter);
    long seconds = seconds_of(value, 'd');
    if (seconds >= 86400) {
        doctor_say(w->doctor, FINDING_OK, parameter, "%s", value);
        return;
    }
    doctor_say(w->doctor, seconds > 0 ? FINDING_WARN : FINDING_FAIL, parameter,
               "%s: mail that waits for a move, or for the new server, soon comes of age",
               value);
    doctor_fix(w->doctor, "main.cf", "%s = 5d", parameter);
}

static void check_main(struct wiring *w)
{
    check_smtpd_milters(w);
    check_non_smtpd_milters(w);
    check_default_action(w);
    check_protocol(w);
    check_map_of(w, "transport_maps", "transport", "rewrite/unix", FINDING_FAIL);
    check_map_of(w, "virtual_alias_maps", "virtual", "cleanup/unix",
                 any_redirect(w->conf) ? FINDING_FAIL : FINDING_WARN);
    check_srs(w);
    check_policy(w);
    check_hold_transport(w);
    check_forward_transport(w);
    check_equal(w, "enable_long_queue_ids", "yes",
                "a short id is used again, and another message would be released");
    check_content_filter(w);
    check_mydestination(w);
    check_equal(w, "recipient_delimiter", w->conf->recipient_delimiter,
                "sluice.conf has another recipient-delimiter, so user+x is another "
                "mailbox there");
    check_lifetime(w, "maximal_queue_lifetime");
    check_lifetime(w, "bounce_queue_lifetime");
}

void doctor_check_postfix(struct doctor *doctor)
{
    char error[512];
    struct wiring w = { .doctor = doctor, .conf = doctor->context->conf };
    w.pc = postconf_load(w.conf, error, sizeof(error));
    if (w.pc == NULL) {
        doctor_say(doctor, FINDING_FAIL, "postfix", "%s", error);
        return;
    }
    w.queue = value_of(&w, "queue_directory");
    doctor_say(doctor, FINDING_OK, "postfix", "%s, version %s", w.conf->postfix_config,
               value_of(&w, "mail_version"));
    check_main(&w);
    postconf_free(w.pc);
}
