/*
 * store_memory: the store in this process's memory, for the tests of callers:
 * the same transitions, refusals, fences, events and leases as the Lua scripts
 * make them (tests/unit/test_store.c runs one table of cases over both). It is
 * never down and compares with no journal; store_durable() and store_recover()
 * refuse, since nothing in it stays.
 *
 * Limits: it aborts when memory is short, and change_all() makes one event of
 * any size; no use outside tests.
 */
#include "config.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "auth_row.h"
#include "monitor_row.h"
#include "ping_row.h"
#include "store_ops.h"
#include "table.h"

struct memory_event {
    struct event event; /* body is ours */
    bool dropped;       /* trimmed: body is gone */
};

struct memory_arrival {
    char *local, *host, *queue_id, *message_id;
    int64_t time;
};

struct memory_domain {
    char name[ADDR_DOMAIN_MAX + 1];
    struct table *homes;    /* local part -> record */
    struct table *floaters; /* local part -> "count first last" */
    struct table *auth;     /* as auth_row.h writes it */
    struct table *playbook; /* field -> "<epoch> TAB <record>" */
    struct memory_hour {
        int64_t hour;
        uint64_t count;
    } hours[STORE_HOURS]; /* by hour modulo STORE_HOURS */
    uint64_t floater_count;
    int64_t floater_last, flipped;
    struct store_sender *senders; /* texts are ours */
    size_t sender_count;
    struct memory_arrival *arrivals;
    size_t arrival_count;
};

struct memory_held {
    char host[HOST_NAME_MAX_LEN + 1];
    struct held held; /* texts are ours */
    char *sender, *recipients;
};

struct memory_lease {
    char *name, *holder;
    int64_t until_ms;
};

struct store_memory {
    struct store base;
    unsigned char secret[STORE_SECRET_LEN];
    struct memory_event *events; /* the event of epoch e is events[e - 1] */
    size_t event_count;
    struct memory_domain *domains;
    size_t domain_count;
    struct host *hosts;
    size_t host_count;
    struct memory_held *held;
    size_t held_count;
    struct memory_lease *leases;
    size_t lease_count;
    struct table *pings;    /* as ping_row.h writes them */
    struct table *monitors; /* as monitor_row.h writes them */
};

static struct store_memory *memory_of(struct store *store)
{
    return (struct store_memory *)store;
}

static void *must(void *allocated)
{
    if (!allocated)
        abort();
    return allocated;
}

/* Makes room for one more element in the array that the pointer at list points
 * to, and returns it, zeroed. */
static void *append_to(void *list, size_t *count, size_t size)
{
    char *items;
    memcpy(&items, list, sizeof(items)); /* a pointer of any object type */
    items = must(realloc(items, (*count + 1) * size));
    memcpy(list, &items, sizeof(items));
    memset(items + *count * size, 0, size);
    return items + (*count)++ * size;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- homes ------------------------------------------------------------- */

static struct memory_domain *find_domain(struct store_memory *memory, const char *name)
{
    for (size_t i = 0; i < memory->domain_count; i++)
        if (strcmp(memory->domains[i].name, name) == 0)
            return &memory->domains[i];
    store_set_error(&memory->base, "%s is not registered: run \"sluice init\"", name);
    return NULL;
}

static bool get_home(const struct memory_domain *domain, const char *local,
                     struct home *out)
{
    size_t len;
    const char *record = table_get(domain->homes, local, strlen(local), &len);
    *out = (struct home){ 0 };
    return record && home_decode(record, len, out);
}

static void put_home(struct memory_domain *domain, const char *local,
                     const struct home *home)
{
    char text[HOME_RECORD_MAX + 1];
    size_t len = home_encode(home, text);
    if (!table_put(domain->homes, local, strlen(local), text, len))
        abort();
}

static struct route_value value_of(const struct memory_domain *domain, const char *local)
{
    struct route_value value;
    value.text = table_get(domain->homes, local, strlen(local), &value.len);
    return value;
}

static void memory_lookup(struct store *store, struct route *const routes[], size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct route *route = routes[i];
        if (!route->domain)
            continue;
        const struct memory_domain *domain =
            find_domain(memory_of(store), route->domain->name);
        if (!domain) {
            route->lookup =
                memory_of(store)->event_count > 0 ? LOOKUP_ABSENT : LOOKUP_FAILED;
            continue;
        }
        struct route_value own = value_of(domain, "");
        struct route_value exact = value_of(domain, route->addr.local);
        struct route_value base = value_of(domain, route->base);
        route_set_values(route, &own, &exact, &base);
    }
}

static enum lookup memory_position(struct store *store, struct position *out)
{
    const struct store_memory *memory = memory_of(store);
    *out = (struct position){ 0 };
    if (memory->event_count == 0)
        return LOOKUP_ABSENT;
    *out = memory->events[memory->event_count - 1].event.at;
    return LOOKUP_FOUND;
}

static enum lookup memory_secret(struct store *store, unsigned char out[STORE_SECRET_LEN])
{
    memcpy(out, memory_of(store)->secret, STORE_SECRET_LEN);
    return memory_of(store)->event_count > 0 ? LOOKUP_FOUND : LOOKUP_ABSENT;
}

static int64_t memory_time_ms(struct store *store)
{
    (void)store;
    return now_ms();
}

static bool each_home_of(const struct memory_domain *domain, store_home_fn *each,
                         void *context)
{
    const char *local, *record;
    size_t cursor = 0, local_len, record_len;
    while (table_next(domain->homes, &cursor, &local, &local_len, &record, &record_len)) {
        struct home home;
        if (!home_decode(record, record_len, &home))
            return false;
        if (!each(context, local, &home))
            break;
    }
    return true;
}

static bool add_total(void *context, const char *local, const struct home *home)
{
    struct store_totals *totals = context;
    if (!local[0])
        totals->own = *home;
    else if (home->state == HOME_OLD)
        totals->old++;
    else if (home->state == HOME_NEW)
        totals->new += 1;
    else if (home->rollback)
        totals->rolling_back++;
    else
        totals->locked++;
    return true;
}

static enum lookup memory_totals(struct store *store, const char *name,
                                 struct store_totals *out)
{
    *out = (struct store_totals){ 0 };
    const struct memory_domain *domain = find_domain(memory_of(store), name);
    if (!domain)
        return LOOKUP_ABSENT;
    return each_home_of(domain, add_total, out) ? LOOKUP_FOUND : LOOKUP_FAILED;
}

static bool memory_each_home(struct store *store, const char *name, store_home_fn *each,
                             void *context)
{
    const struct memory_domain *domain = find_domain(memory_of(store), name);
    return domain && each_home_of(domain, each, context);
}

/* ---- events ------------------------------------------------------------ */

/* Appends an event; body is taken over (malloc'ed). */
static uint64_t add_event(struct store_memory *memory, enum event_op op, char letter,
                          const char *domain, char *body, size_t body_len)
{
    struct position last;
    bool first = memory_position(&memory->base, &last) == LOOKUP_ABSENT;
    struct memory_event *added =
        append_to(&memory->events, &memory->event_count, sizeof(*added));
    struct event *event = &added->event;
    event->at.epoch = memory->event_count;
    if (!store_event_id(event->at.id))
        abort();
    memcpy(event->prev, first ? "-" : last.id, first ? 2 : sizeof(event->prev));
    event->op = op;
    event->letter = letter;
    event->time = now_ms() / 1000;
    snprintf(event->domain, sizeof(event->domain), "%s", domain); /* canonical: fits */
    event->body = body;
    event->body_len = body_len;
    return event->at.epoch;
}

static enum lookup memory_events(struct store *store, const struct position *after,
                                 int wait_ms, int max, store_event_fn *each,
                                 void *context)
{
    const struct store_memory *memory = memory_of(store);
    uint64_t at = after->epoch;
    if (memory->event_count == 0 || at > memory->event_count ||
        (at > 0 && strcmp(memory->events[at - 1].event.at.id, after->id) != 0)) {
        store_set_error(store,
                        "the store has another history than change %" PRIu64
                        ": run \"sluice recover\"",
                        at);
        return LOOKUP_FAILED;
    }
    if (at == memory->event_count && wait_ms > 0) {
        /* Nothing else can write meanwhile. */
        struct timespec wait = { wait_ms / 1000, wait_ms % 1000 * 1000000L };
        (void)nanosleep(&wait, NULL);
    }
    for (; at < memory->event_count && max > 0; at++, max--) {
        if (memory->events[at].dropped)
            return LOOKUP_ABSENT;
        if (!each(context, &memory->events[at].event))
            break;
    }
    return LOOKUP_FOUND;
}

static void drop_event(struct memory_event *entry)
{
    free((void *)(uintptr_t)entry->event.body);
    entry->event.body = NULL;
    entry->dropped = true;
}

static void memory_trim(struct store *store)
{
    struct store_memory *memory = memory_of(store);
    uint64_t floor = memory->event_count;
    for (size_t i = 0; i < memory->host_count; i++)
        if (memory->hosts[i].journaled < floor)
            floor = memory->hosts[i].journaled;
    for (uint64_t i = 0; i < floor; i++)
        if (!memory->events[i].dropped)
            drop_event(&memory->events[i]);
}

/* ---- changes ----------------------------------------------------------- */

static const struct rule {
    enum event_op op;
    char to;
    const char *from;
    char fenced;  /* the state whose fence must be confirmed */
    int delivers; /* the side that needs a host, or -1 */
} rules[] = {
    { EVENT_LOCK, 'l', "o", 0, SIDE_OLD },
    { EVENT_FLIP, 'n', "lr", 'l', -1 },
    { EVENT_UNLOCK, 'o', "lr", 'r', -1 },
    { EVENT_ROLLBACK, 'r', "n", 0, SIDE_NEW },
};

static const struct rule *rule_of(enum event_op op)
{
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (rules[i].op == op)
            return &rules[i];
    return NULL;
}

static bool in_list(const char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static uint64_t fence_of(const struct store_memory *memory, bool force,
                         const char *const *without)
{
    uint64_t fence = UINT64_MAX;
    for (size_t i = 0; i < memory->host_count && !force; i++)
        if (!in_list(without, memory->hosts[i].name) && memory->hosts[i].fenced < fence)
            fence = memory->hosts[i].fenced;
    return fence;
}

static bool has_host(struct store_memory *memory, const struct rule *rule)
{
    for (size_t i = 0; i < memory->host_count; i++)
        if ((int)memory->hosts[i].side == rule->delivers)
            return true;
    if (rule->delivers < 0)
        return true;
    store_set_error(
        &memory->base,
        "no host of the %s side is registered: start sluice-policyd there, or see "
        "\"sluice status\"",
        side_name((enum side)rule->delivers));
    return false;
}

/* A change in the making: its event's body grows as mailboxes are written. */
struct making {
    struct store_memory *memory;
    struct memory_domain *domain;
    const struct rule *rule; /* NULL: import */
    uint64_t fence;
    FILE *body;
    char *text;
    size_t len;
    size_t made;
};

static enum change_status judge(const struct making *making, const struct home *home,
                                uint64_t expected)
{
    char letter = home_letter(home->state, home->rollback);
    if (letter == making->rule->to)
        return CHANGE_ALREADY;
    if (expected && expected != home->epoch)
        return CHANGE_EPOCH;
    if (!strchr(making->rule->from, letter))
        return CHANGE_STATE;
    if (letter == making->rule->fenced && home->epoch > making->fence)
        return CHANGE_FENCE;
    return CHANGE_MADE;
}

static enum change_status transition(struct making *making, const char *local,
                                     uint64_t expected, struct home *before)
{
    if (!get_home(making->domain, local, before))
        return CHANGE_UNLISTED;
    enum change_status status = judge(making, before, expected);
    if (status != CHANGE_MADE)
        return status;
    struct home home = *before;
    (void)home_from_letter(making->rule->to, &home.state, &home.rollback);
    home.epoch = making->memory->event_count + 1;
    home.since = now_ms() / 1000;
    put_home(making->domain, local, &home);
    fprintf(making->body, "%s\n", local);
    making->made++;
    return status;
}

static void set_address(char out[ADDR_TEXT_MAX + 1], const char *address)
{
    if (address)
        snprintf(out, ADDR_TEXT_MAX + 1, "%s", address); /* canonical: fits */
}

static enum change_status import(struct making *making, const struct change_item *item,
                                 struct home *before)
{
    bool known = get_home(making->domain, item->local, before);
    if (!item->local[0])
        return CHANGE_STATE;
    struct home home = *before;
    if (!known)
        (void)get_home(making->domain, "", &home);
    if (!known)
        home.new_address[0] = home.copy[0] = '\0';
    set_address(home.new_address, item->new_address);
    set_address(home.copy, item->copy);
    if (known && strcmp(home.new_address, before->new_address) == 0 &&
        strcmp(home.copy, before->copy) == 0)
        return CHANGE_ALREADY;
    if (known && item->expect_epoch && item->expect_epoch != before->epoch)
        return CHANGE_EPOCH;
    put_home(making->domain, item->local, &home);
    char record[HOME_RECORD_MAX + 1];
    home_encode(&home, record);
    fprintf(making->body, "%s\t%s\n", item->local, record);
    making->made++;
    return CHANGE_MADE;
}

static enum commit making_begin(struct making *making, struct store *store,
                                enum event_op op, const char *domain, bool force,
                                const char *const *without)
{
    struct store_memory *memory = memory_of(store);
    *making = (struct making){ .memory = memory, .rule = rule_of(op) };
    if (memory->event_count == 0) {
        store_set_error(store, "the store holds no data of sluice: run \"sluice init\"");
        return COMMIT_REFUSED;
    }
    making->domain = find_domain(memory, domain);
    if (!making->domain || (making->rule && !has_host(memory, making->rule)))
        return COMMIT_REFUSED;
    making->fence = fence_of(memory, force, without);
    making->body = must(open_memstream(&making->text, &making->len));
    return COMMIT_DONE;
}

/* Returns the event's epoch, 0 when nothing was made. */
static uint64_t making_end(struct making *making, enum event_op op)
{
    if (fclose(making->body) != 0)
        abort();
    if (making->made == 0) {
        free(making->text);
        return 0;
    }
    struct home own;
    (void)get_home(making->domain, "", &own);
    char letter = making->rule ? making->rule->to : home_letter(own.state, own.rollback);
    if (op == EVENT_FLIP)
        making->domain->flipped = now_ms() / 1000;
    return add_event(making->memory, op, letter, making->domain->name, making->text,
                     making->len);
}

static bool memory_change_begin(struct store *store, const struct change *change)
{
    (void)store; /* done at once by change_finish() */
    (void)change;
    return true;
}

static enum commit memory_change_finish(struct store *store, const struct change *change,
                                        struct change_result *result)
{
    struct making making;
    result->epoch = 0;
    if (change->count == 0)
        return COMMIT_DONE;
    if (!store_check_change(store, change))
        return COMMIT_REFUSED;
    enum commit commit = making_begin(&making, store, change->op, change->domain,
                                      change->force, change->without);
    if (commit != COMMIT_DONE)
        return commit;
    for (size_t i = 0; i < change->count; i++) {
        const struct change_item *item = &change->items[i];
        result->status[i] =
            making.rule
                ? transition(&making, item->local, item->expect_epoch, &result->before[i])
                : import(&making, item, &result->before[i]);
    }
    result->epoch = making_end(&making, change->op);
    return COMMIT_DONE;
}

static void change_one_of_all(struct making *making, struct change_all *all,
                              const char *local)
{
    struct home before;
    switch (transition(making, local, 0, &before)) {
    case CHANGE_MADE:
        all->made++;
        break;
    case CHANGE_ALREADY:
        all->already++;
        if (before.epoch > all->epoch)
            all->epoch = before.epoch;
        break;
    case CHANGE_FENCE:
        all->unfenced++;
        break;
    default:
        all->wrong_state++;
        break;
    }
}

/* The listed mailboxes, or the own record alone, as one event. */
static enum commit change_part(struct store *store, struct change_all *all, bool own)
{
    struct making making;
    enum commit commit =
        making_begin(&making, store, all->op, all->domain, all->force, all->without);
    if (commit != COMMIT_DONE)
        return commit;
    /* The walk must not see the table change: the names first. */
    const char *local, *record;
    size_t cursor = 0, local_len, record_len, n = 0;
    char **names = must(calloc(table_count(making.domain->homes) + 1, sizeof(*names)));
    while (table_next(making.domain->homes, &cursor, &local, &local_len, &record,
                      &record_len))
        if ((local_len == 0) == own)
            names[n++] = must(strdup(local));
    for (size_t i = 0; i < n; i++)
        change_one_of_all(&making, all, names[i]);
    store_list_free(names);
    uint64_t epoch = making_end(&making, all->op);
    if (epoch > all->epoch)
        all->epoch = epoch;
    return COMMIT_DONE;
}

static enum commit memory_change_all(struct store *store, struct change_all *all)
{
    all->made = all->already = all->wrong_state = all->unfenced = all->epoch = 0;
    enum commit commit = change_part(store, all, false);
    if (commit != COMMIT_DONE)
        return commit;
    if (all->progress && !all->progress(all->context, all)) {
        store_set_error(store, "stopped: repeat the command to finish it");
        return COMMIT_UNCERTAIN;
    }
    return change_part(store, all, true);
}

static enum commit memory_init_domain(struct store *store, const char *name)
{
    struct store_memory *memory = memory_of(store);
    if (find_domain(memory, name))
        return COMMIT_DONE;
    struct memory_domain *domain =
        append_to(&memory->domains, &memory->domain_count, sizeof(*domain));
    snprintf(domain->name, sizeof(domain->name), "%s", name); /* canonical: fits */
    domain->homes = must(table_new());
    domain->floaters = must(table_new());
    domain->auth = must(table_new());
    domain->playbook = must(table_new());
    struct home own = { .state = HOME_OLD, .since = now_ms() / 1000 };
    own.epoch = add_event(memory, EVENT_INIT, 'o', name, must(strdup("\n")), 1);
    put_home(domain, "", &own);
    return COMMIT_DONE;
}

static enum lookup memory_domains(struct store *store, char ***out)
{
    const struct store_memory *memory = memory_of(store);
    *out = NULL;
    if (memory->domain_count == 0)
        return LOOKUP_ABSENT;
    *out = must(calloc(memory->domain_count + 1, sizeof(char *)));
    for (size_t i = 0; i < memory->domain_count; i++)
        (*out)[i] = must(strdup(memory->domains[i].name));
    return LOOKUP_FOUND;
}

/* ---- hosts ------------------------------------------------------------- */

static struct host *find_host(struct store_memory *memory, const char *name)
{
    for (size_t i = 0; i < memory->host_count; i++)
        if (strcmp(memory->hosts[i].name, name) == 0)
            return &memory->hosts[i];
    return NULL;
}

static void host_event(struct store_memory *memory, enum event_op op, const char *name,
                       const char *side)
{
    char *text = NULL;
    int len = asprintf(&text, "%s%s%s\n", name, side ? "\t" : "", side ? side : "");
    if (len < 0)
        abort();
    add_event(memory, op, 'o', "", text, (size_t)len);
}

static enum commit memory_host_put(struct store *store, const struct host *host)
{
    struct store_memory *memory = memory_of(store);
    struct host *known = find_host(memory, host->name);
    if (memory->event_count == 0) {
        store_set_error(store, "the store holds no data of sluice: run \"sluice init\"");
        return COMMIT_REFUSED;
    }
    bool ahead =
        host->journaled > memory->event_count || host->fenced > memory->event_count;
    if (!known || known->side != host->side)
        host_event(memory, EVENT_HOST, host->name, side_name(host->side));
    if (!known)
        known = append_to(&memory->hosts, &memory->host_count, sizeof(*known));
    *known = *host;
    store_host_text(host->version, known->version, sizeof(known->version));
    store_host_text(host->state, known->state, sizeof(known->state));
    known->seen_ms = now_ms();
    if (!ahead)
        return COMMIT_DONE;
    known->journaled = known->fenced = known->swept = 0;
    store_set_error(store, "the store has lost or rolled back its history: run \"sluice "
                           "recover\"");
    return COMMIT_REFUSED;
}

static enum commit memory_host_remove(struct store *store, const char *name)
{
    struct store_memory *memory = memory_of(store);
    struct host *host = find_host(memory, name);
    if (!host)
        return COMMIT_DONE;
    *host = memory->hosts[--memory->host_count];
    host_event(memory, EVENT_UNHOST, name, NULL);
    return COMMIT_DONE;
}

static enum lookup memory_hosts(struct store *store, struct host **out, size_t *n)
{
    const struct store_memory *memory = memory_of(store);
    *n = memory->host_count;
    *out = NULL;
    if (*n == 0)
        return LOOKUP_ABSENT;
    *out = must(calloc(*n, sizeof(**out)));
    memcpy(*out, memory->hosts, *n * sizeof(**out));
    return LOOKUP_FOUND;
}

/* ---- held messages ----------------------------------------------------- */

static struct memory_held *find_held(struct store_memory *memory, const char *host,
                                     const char *queue_id)
{
    for (size_t i = 0; i < memory->held_count; i++)
        if (strcmp(memory->held[i].host, host) == 0 &&
            strcmp(memory->held[i].held.queue_id, queue_id) == 0)
            return &memory->held[i];
    return NULL;
}

static enum commit memory_held_put(struct store *store, const char *host,
                                   const struct held *held)
{
    struct store_memory *memory = memory_of(store);
    struct memory_held *known = find_held(memory, host, held->queue_id);
    if (!known)
        known = append_to(&memory->held, &memory->held_count, sizeof(*known));
    /* held may be what each_held() gave: copied before the old texts go. */
    char *sender = must(strdup(held->sender)),
         *recipients = must(strdup(held->recipients));
    free(known->sender);
    free(known->recipients);
    snprintf(known->host, sizeof(known->host), "%s", host); /* a host's name: fits */
    known->held = *held;
    known->held.sender = known->sender = sender;
    known->held.recipients = known->recipients = recipients;
    return COMMIT_DONE;
}

static enum commit memory_held_drop(struct store *store, const char *host,
                                    const char *const *queue_ids, size_t n)
{
    struct store_memory *memory = memory_of(store);
    for (size_t i = 0; i < n; i++) {
        struct memory_held *held = find_held(memory, host, queue_ids[i]);
        if (!held)
            continue;
        free(held->sender);
        free(held->recipients);
        *held = memory->held[--memory->held_count];
    }
    return COMMIT_DONE;
}

static bool memory_each_held(struct store *store, const char *host, store_held_fn *each,
                             void *context)
{
    struct store_memory *memory = memory_of(store);
    for (size_t i = 0; i < memory->held_count; i++)
        if (strcmp(memory->held[i].host, host) == 0 &&
            !each(context, &memory->held[i].held))
            break;
    return true;
}

/* ---- figures ----------------------------------------------------------- */

static const char *mailbox_of(const struct route *route)
{
    if (!route->home.listed)
        return "";
    return route->exact ? route->addr.local : route->base;
}

static bool floater_decode(const char *text, struct floater *out)
{
    return text && sscanf(text, "%" SCNu64 " %" SCNd64 " %" SCNd64, &out->count,
                          &out->first, &out->last) == 3;
}

static void count_hour(struct memory_domain *domain, int64_t now)
{
    struct memory_hour *hour = &domain->hours[now / 3600 % STORE_HOURS];
    if (hour->hour != now / 3600)
        *hour = (struct memory_hour){ .hour = now / 3600 };
    hour->count++;
    domain->floater_count++;
    domain->floater_last = now;
}

static struct store_sender *sender_of(struct memory_domain *domain, const char *client)
{
    for (size_t i = 0; i < domain->sender_count; i++)
        if (strcmp(domain->senders[i].client, client) == 0)
            return &domain->senders[i];
    if (domain->sender_count >= STORE_SENDERS_MAX && strcmp(client, "*") != 0)
        return sender_of(domain, "*");
    struct store_sender *added =
        append_to(&domain->senders, &domain->sender_count, sizeof(*added));
    added->client = must(strdup(client));
    added->name = must(strdup(""));
    return added;
}

static void count_sender(struct memory_domain *domain, const struct floater_from *from,
                         int64_t now)
{
    char client[AUTH_HELO_MAX + 1], name[AUTH_HELO_MAX + 1];
    auth_row_helo(from->client, client);
    auth_row_helo(from->name, name);
    if (!client[0])
        return;
    struct store_sender *sender = sender_of(domain, client);
    if (name[0] && strcmp(sender->client, "*") != 0) {
        free((void *)(uintptr_t)sender->name);
        sender->name = must(strdup(name));
    }
    sender->first = sender->count++ == 0 ? now : sender->first;
    sender->last = now;
}

static void memory_count_floaters(struct store *store, struct route *const routes[],
                                  size_t n, const struct floater_from *from, int64_t now)
{
    for (size_t i = 0; i < n; i++) {
        struct memory_domain *domain =
            store_is_floater(routes[i])
                ? find_domain(memory_of(store), routes[i]->domain->name)
                : NULL;
        if (!domain)
            continue;
        const char *local = mailbox_of(routes[i]);
        struct floater floater = { .first = now };
        (void)floater_decode(table_get(domain->floaters, local, strlen(local), NULL),
                             &floater);
        char text[80];
        int len = snprintf(text, sizeof(text), "%" PRIu64 " %" PRId64 " %" PRId64,
                           floater.count + 1, floater.first, now);
        if (!table_put(domain->floaters, local, strlen(local), text, (size_t)len))
            abort();
        count_hour(domain, now_ms() / 1000);
        count_sender(domain, from, now_ms() / 1000);
    }
}

static void memory_note_arrivals(struct store *store, struct route *const routes[],
                                 size_t n, const char *host, const char *queue_id,
                                 const char *message_id, int64_t now)
{
    for (size_t i = 0; i < n; i++) {
        struct memory_domain *domain =
            store_is_arrival(routes[i])
                ? find_domain(memory_of(store), routes[i]->domain->name)
                : NULL;
        if (!domain)
            continue;
        const char *mailbox = mailbox_of(routes[i]);
        struct memory_arrival *arrival =
            append_to(&domain->arrivals, &domain->arrival_count, sizeof(*arrival));
        arrival->local = must(strdup(mailbox[0] ? mailbox : routes[i]->addr.local));
        arrival->host = must(strdup(host));
        arrival->queue_id = must(strdup(queue_id));
        arrival->message_id = must(strdup(message_id));
        arrival->time = now;
    }
}

static bool memory_each_floater(struct store *store, const char *name,
                                store_floater_fn *each, void *context)
{
    const struct memory_domain *domain = find_domain(memory_of(store), name);
    const char *local, *text;
    size_t cursor = 0, local_len, text_len;
    while (domain &&
           table_next(domain->floaters, &cursor, &local, &local_len, &text, &text_len)) {
        struct floater floater = { .local = local };
        if (floater_decode(text, &floater) && !each(context, &floater))
            break;
    }
    return true;
}

static bool memory_each_arrival(struct store *store, const char *name, int64_t since,
                                store_arrival_fn *each, void *context)
{
    const struct memory_domain *domain = find_domain(memory_of(store), name);
    for (size_t i = 0; domain && i < domain->arrival_count; i++) {
        const struct memory_arrival *from = &domain->arrivals[i];
        const struct arrival arrival = { from->local, from->host, from->queue_id,
                                         from->message_id, from->time };
        if (arrival.time >= since && !each(context, &arrival))
            break;
    }
    return true;
}

static void add_auth(struct table *rows, const struct auth_row *row)
{
    struct auth_row sum, rest;
    char field[AUTH_FIELD_MAX + 1], copy[AUTH_FIELD_MAX + 1], value[AUTH_VALUE_MAX + 1];
    auth_row_field(row, field);
    const char *known = table_get(rows, field, strlen(field), NULL);
    if (!known && table_count(rows) >= AUTH_ROWS_MAX && strcmp(row->client, "*") != 0) {
        rest = *row;
        rest.client = "*";
        rest.envelope = rest.helo = "";
        add_auth(rows, &rest);
        return;
    }
    snprintf(copy, sizeof(copy), "%s", field);
    snprintf(value, sizeof(value), "%s", known ? known : "");
    if (!known || !auth_row_decode(copy, value, &sum))
        sum = (struct auth_row){ .helo = row->helo };
    if (row->helo[0] && row->last >= sum.last)
        sum.helo = row->helo;
    auth_row_add(&sum, row);
    char text[AUTH_VALUE_MAX + 1];
    auth_row_value(&sum, text);
    if (!table_put(rows, field, strlen(field), text, strlen(text)))
        abort();
}

static bool memory_auth_add(struct store *store, const char *name,
                            const struct auth_row *rows, size_t n)
{
    struct memory_domain *domain = find_domain(memory_of(store), name);
    for (size_t i = 0; domain && i < n; i++)
        add_auth(domain->auth, &rows[i]);
    return true;
}

static bool memory_each_auth(struct store *store, const char *name, store_auth_fn *each,
                             void *context)
{
    const struct memory_domain *domain = find_domain(memory_of(store), name);
    const char *field, *value;
    size_t cursor = 0, field_len, value_len;
    while (domain &&
           table_next(domain->auth, &cursor, &field, &field_len, &value, &value_len)) {
        char field_copy[AUTH_FIELD_MAX + 1], value_copy[AUTH_VALUE_MAX + 1];
        struct auth_row row;
        memcpy(field_copy, field, field_len + 1);
        memcpy(value_copy, value, value_len + 1);
        if (auth_row_decode(field_copy, value_copy, &row) && !each(context, &row))
            break;
    }
    return true;
}

static enum commit memory_ping_put(struct store *store, const struct ping_row *row)
{
    char field[PING_FIELD_MAX + 1], value[PING_VALUE_MAX + 1];
    if (!ping_row_field(row, field)) {
        store_set_error(store, "ping: the names of host and path are too long");
        return COMMIT_REFUSED;
    }
    ping_row_value(row, value);
    if (!table_put(memory_of(store)->pings, field, strlen(field), value, strlen(value)))
        abort();
    return COMMIT_DONE;
}

static enum commit memory_ping_drop(struct store *store, const char *host,
                                    const char *path)
{
    const struct ping_row row = { .host = host, .path = path };
    char field[PING_FIELD_MAX + 1];
    if (ping_row_field(&row, field))
        table_remove(memory_of(store)->pings, field, strlen(field));
    return COMMIT_DONE;
}

static enum commit memory_monitor_put(struct store *store, const struct monitor_row *row)
{
    char *value = must(malloc(MONITOR_VALUE_MAX + 1));
    bool good = monitor_row_encode(row, value);
    if (!good)
        store_set_error(store, "monitor: a name is too long");
    else if (!table_put(memory_of(store)->monitors, row->host, strlen(row->host), value,
                        strlen(value)))
        abort();
    free(value);
    return good ? COMMIT_DONE : COMMIT_REFUSED;
}

static enum commit memory_monitor_drop(struct store *store, const char *host)
{
    table_remove(memory_of(store)->monitors, host, strlen(host));
    return COMMIT_DONE;
}

static bool memory_each_monitor(struct store *store, store_monitor_fn *each,
                                void *context)
{
    const char *host, *value;
    size_t cursor = 0, host_len, value_len;
    struct monitor_domain *domains = must(calloc(MONITOR_DOMAINS_MAX, sizeof(*domains)));
    bool more = true;
    while (more && table_next(memory_of(store)->monitors, &cursor, &host, &host_len,
                              &value, &value_len)) {
        char *copy = must(strdup(value)), *name = must(strdup(host));
        struct monitor_row row = { .host = name };
        if (monitor_row_decode(copy, domains, &row))
            more = each(context, &row);
        free(copy);
        free(name);
    }
    free(domains);
    return true;
}

static bool memory_each_ping(struct store *store, store_ping_fn *each, void *context)
{
    const char *field, *value;
    size_t cursor = 0, field_len, value_len;
    while (table_next(memory_of(store)->pings, &cursor, &field, &field_len, &value,
                      &value_len)) {
        char field_copy[PING_FIELD_MAX + 1], value_copy[PING_VALUE_MAX + 1];
        struct ping_row row;
        memcpy(field_copy, field, field_len + 1);
        memcpy(value_copy, value, value_len + 1);
        if (ping_row_decode(field_copy, value_copy, &row) && !each(context, &row))
            break;
    }
    return true;
}

static enum commit memory_auth_drop(struct store *store, const char *name)
{
    struct memory_domain *domain = find_domain(memory_of(store), name);
    if (domain) {
        table_free(domain->auth);
        domain->auth = must(table_new());
    }
    return COMMIT_DONE;
}

/* ---- runs of playbooks ------------------------------------------------- */

static uint64_t playbook_epoch(const struct memory_domain *domain, const char *field)
{
    size_t len;
    const char *present = table_get(domain->playbook, field, strlen(field), &len);
    return present ? strtoull(present, NULL, 10) : 0;
}

static enum commit memory_playbook_put(struct store *store,
                                       const struct playbook_put *put, uint64_t *epoch)
{
    struct store_memory *memory = memory_of(store);
    struct memory_domain *domain = find_domain(memory, put->domain);
    size_t len;
    if (!domain) {
        store_set_error(store, "%s is not registered: run \"sluice init\"", put->domain);
        return COMMIT_REFUSED;
    }
    const char *name = put->fields[0].name, *record;
    bool other_run = put->run_epoch > 0 &&
                     playbook_epoch(domain, "") != put->run_epoch;
    if (other_run || playbook_epoch(domain, name) != put->expect_epoch) {
        store_set_error(store, "%s of the playbook of %s was changed by somebody else",
                        other_run || !*name ? "the run" : name, put->domain);
        return COMMIT_REFUSED;
    }
    char *body = NULL;
    FILE *text = must(open_memstream(&body, &len));
    *epoch = memory->event_count + 1;
    for (size_t i = 0; i < put->count; i++)
        fprintf(text, "%s\t%" PRIu64 "\t%s\n", put->fields[i].name, *epoch,
                put->fields[i].value);
    if (fclose(text) != 0)
        abort();
    if (put->anew) {
        table_free(domain->playbook);
        domain->playbook = must(table_new());
    }
    struct event lines = { .body = body, .body_len = len };
    size_t name_len, record_len, cursor = 0;
    while (event_next_item(&lines, &cursor, &name, &name_len, &record, &record_len))
        if (!table_put(domain->playbook, name, name_len, record, record_len))
            abort();
    add_event(memory, EVENT_PLAYBOOK, put->anew ? 'a' : 'c', put->domain, body, len);
    return COMMIT_DONE;
}

static bool memory_each_playbook(struct store *store, const char *domain_name,
                                 store_playbook_fn *each, void *context)
{
    struct memory_domain *domain = find_domain(memory_of(store), domain_name);
    const char *name, *value;
    size_t name_len, value_len, cursor = 0;
    if (!domain)
        return true;
    while (table_next(domain->playbook, &cursor, &name, &name_len, &value, &value_len))
        if (!each(context, name, value))
            break;
    return true;
}

/* ---- the picture for the status page ----------------------------------- */

struct lock_walk {
    struct store_lock *locks;
    size_t count;
};

static bool add_lock(void *context, const char *local, const struct home *home)
{
    struct lock_walk *walk = context;
    if (!local[0] || home->state != HOME_LOCKED)
        return true;
    for (size_t i = 0; i < walk->count; i++) {
        if (walk->locks[i].epoch == home->epoch) {
            walk->locks[i].count++;
            return true;
        }
    }
    struct store_lock *added = append_to(&walk->locks, &walk->count, sizeof(*added));
    *added = (struct store_lock){ home->rollback, home->epoch, home->since, 1 };
    return true;
}

static bool memory_each_picture(struct store *store, const char *const *domains, size_t n,
                                int64_t now, store_picture_fn *each, void *context)
{
    bool more = true;
    for (size_t i = 0; i < n && more; i++) {
        struct memory_domain *domain = find_domain(memory_of(store), domains[i]);
        struct lock_walk walk = { 0 };
        if (!domain)
            continue;
        struct store_picture picture = { .domain = domain->name,
                                         .flipped = domain->flipped,
                                         .floaters = domain->floater_count,
                                         .floater_last = domain->floater_last,
                                         .senders = domain->senders,
                                         .sender_count = domain->sender_count };
        if (!each_home_of(domain, add_total, &picture.totals) ||
            !each_home_of(domain, add_lock, &walk))
            return false;
        picture.locks = walk.locks;
        picture.lock_count = walk.count;
        for (int64_t h = 0; h < STORE_HOURS; h++) {
            int64_t hour = now / 3600 - STORE_HOURS + 1 + h;
            const struct memory_hour *of = &domain->hours[hour % STORE_HOURS];
            picture.hours[h] = of->hour == hour ? of->count : 0;
        }
        picture.run = table_get(domain->playbook, "", 0, NULL);
        picture.outline = table_get(domain->playbook, "@outline", 8, NULL);
        more = each(context, &picture);
        free(walk.locks);
    }
    return true;
}

/* ---- leases and health ------------------------------------------------- */

static struct memory_lease *find_lease(struct store_memory *memory, const char *name)
{
    for (size_t i = 0; i < memory->lease_count; i++)
        if (strcmp(memory->leases[i].name, name) == 0)
            return &memory->leases[i];
    return NULL;
}

static enum commit memory_lease_take(struct store *store, const char *name,
                                     const char *holder, int ttl_s, char *other,
                                     size_t other_size)
{
    struct store_memory *memory = memory_of(store);
    struct memory_lease *lease = find_lease(memory, name);
    if (other_size > 0)
        other[0] = '\0';
    if (lease && lease->until_ms > now_ms() && strcmp(lease->holder, holder) != 0) {
        snprintf(other, other_size, "%s", lease->holder); /* a name may be cut */
        store_set_error(store, "%s is already being done by %s", name, lease->holder);
        return COMMIT_REFUSED;
    }
    if (!lease) {
        lease = append_to(&memory->leases, &memory->lease_count, sizeof(*lease));
        lease->name = must(strdup(name));
    }
    char *taken = must(strdup(holder));
    free(lease->holder);
    lease->holder = taken;
    lease->until_ms = now_ms() + (int64_t)(ttl_s > 0 ? ttl_s : 1) * 1000;
    return COMMIT_DONE;
}

static void memory_lease_drop(struct store *store, const char *name, const char *holder)
{
    struct memory_lease *lease = find_lease(memory_of(store), name);
    if (lease && strcmp(lease->holder, holder) == 0)
        lease->until_ms = 0;
}

static enum commit memory_durable(struct store *store)
{
    store_set_error(store, "the store in memory keeps nothing: configure redis");
    return COMMIT_REFUSED;
}

static enum commit memory_recover(struct store *store, const char *path, bool force,
                                  struct recover_result *result)
{
    (void)path;
    (void)force;
    *result = (struct recover_result){ 0 };
    return memory_durable(store);
}

static void memory_free(struct store *store)
{
    struct store_memory *memory = memory_of(store);
    for (size_t i = 0; i < memory->event_count; i++)
        drop_event(&memory->events[i]);
    for (size_t i = 0; i < memory->domain_count; i++) {
        struct memory_domain *domain = &memory->domains[i];
        for (size_t a = 0; a < domain->arrival_count; a++) {
            free(domain->arrivals[a].local);
            free(domain->arrivals[a].host);
            free(domain->arrivals[a].queue_id);
            free(domain->arrivals[a].message_id);
        }
        free(domain->arrivals);
        table_free(domain->homes);
        table_free(domain->floaters);
        table_free(domain->auth);
        table_free(domain->playbook);
        for (size_t s = 0; s < domain->sender_count; s++) {
            free((void *)(uintptr_t)domain->senders[s].client);
            free((void *)(uintptr_t)domain->senders[s].name);
        }
        free(domain->senders);
    }
    for (size_t i = 0; i < memory->held_count; i++) {
        free(memory->held[i].sender);
        free(memory->held[i].recipients);
    }
    for (size_t i = 0; i < memory->lease_count; i++) {
        free(memory->leases[i].name);
        free(memory->leases[i].holder);
    }
    table_free(memory->pings);
    table_free(memory->monitors);
    free(memory->events);
    free(memory->domains);
    free(memory->hosts);
    free(memory->held);
    free(memory->leases);
    free(memory);
}

static const struct store_ops memory_ops = {
    .free = memory_free,
    .lookup = memory_lookup,
    .position = memory_position,
    .secret = memory_secret,
    .time_ms = memory_time_ms,
    .totals = memory_totals,
    .each_home = memory_each_home,
    .change_begin = memory_change_begin,
    .change_finish = memory_change_finish,
    .change_all = memory_change_all,
    .init_domain = memory_init_domain,
    .domains = memory_domains,
    .host_put = memory_host_put,
    .host_remove = memory_host_remove,
    .hosts = memory_hosts,
    .events = memory_events,
    .trim = memory_trim,
    .held_put = memory_held_put,
    .held_drop = memory_held_drop,
    .each_held = memory_each_held,
    .count_floaters = memory_count_floaters,
    .note_arrivals = memory_note_arrivals,
    .each_floater = memory_each_floater,
    .each_arrival = memory_each_arrival,
    .auth_add = memory_auth_add,
    .each_auth = memory_each_auth,
    .auth_drop = memory_auth_drop,
    .ping_put = memory_ping_put,
    .ping_drop = memory_ping_drop,
    .each_ping = memory_each_ping,
    .monitor_put = memory_monitor_put,
    .monitor_drop = memory_monitor_drop,
    .each_monitor = memory_each_monitor,
    .playbook_put = memory_playbook_put,
    .each_playbook = memory_each_playbook,
    .each_picture = memory_each_picture,
    .lease_take = memory_lease_take,
    .lease_drop = memory_lease_drop,
    .durable = memory_durable,
    .recover = memory_recover,
};

struct store *store_memory_new(void)
{
    struct store_memory *memory = must(calloc(1, sizeof(*memory)));
    memory->base.ops = &memory_ops;
    memory->pings = must(table_new());
    memory->monitors = must(table_new());
    if (getrandom(memory->secret, sizeof(memory->secret), 0) < 0)
        abort();
    return &memory->base;
}
