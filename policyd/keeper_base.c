/*
 * keeper_base: takes a base (keeper_base.h).
 *
 * All records are gathered in memory, in chunks of EVENT_ITEMS_MAX lines at most,
 * before the journal is replaced in one go: some 40 bytes for each mailbox.
 *
 * A chunk is an EVENT_BASE; its letter tells what its lines are: RUN_LETTER and
 * MORE_LETTER a playbook's run (as the letters of EVENT_PLAYBOOK: from its start
 * on, and what comes after), any other homes, or hosts when there is no domain.
 * A run's lines begin with digits and so are no home to a reader that does not look
 * at the letter.
 */
#include "keeper_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "journal_record.h"

#define RUN_LETTER  'a'
#define MORE_LETTER 'c'

struct chunk {
    char domain[ADDR_DOMAIN_MAX + 1];
    char letter;
    char *body;
    size_t len, size, lines;
};

struct gathering {
    struct chunk *chunks;
    size_t n, size;
    const char *domain;
    char letter; /* of the chunk that the next line begins, when it begins one */
    size_t next; /* to be given to the journal */
    struct position at;
    int64_t time;
    bool failed;
};

static bool is_run(char letter)
{
    return letter == RUN_LETTER || letter == MORE_LETTER;
}

/* The chunk that takes a line of so many bytes. */
static struct chunk *chunk_for(struct gathering *all, size_t bytes)
{
    if (all->n > 0) {
        struct chunk *last = &all->chunks[all->n - 1];
        if (last->lines < EVENT_ITEMS_MAX && last->len + bytes <= JOURNAL_BODY_MAX &&
            is_run(last->letter) == is_run(all->letter) &&
            strcmp(last->domain, all->domain) == 0)
            return last;
        if (is_run(all->letter) && is_run(last->letter) &&
            strcmp(last->domain, all->domain) == 0)
            all->letter = MORE_LETTER;
    }
    if (all->n == all->size) {
        size_t size = all->size ? all->size * 2 : 16;
        struct chunk *chunks = realloc(all->chunks, size * sizeof(*chunks));
        if (!chunks)
            return NULL;
        all->chunks = chunks;
        all->size = size;
    }
    struct chunk *chunk = &all->chunks[all->n++];
    memset(chunk, 0, sizeof(*chunk));
    chunk->letter = all->letter;
    memcpy(chunk->domain, all->domain, strlen(all->domain) + 1);
    return chunk;
}

static bool add_line(struct gathering *all, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);
    size_t need = name_len + value_len + 2;
    struct chunk *chunk = chunk_for(all, need);
    if (chunk && chunk->len + need > chunk->size) {
        size_t size = chunk->size ? chunk->size * 2 : 4096;
        while (size < chunk->len + need)
            size *= 2;
        char *body = realloc(chunk->body, size);
        if (!body) {
            chunk = NULL;
        } else {
            chunk->body = body;
            chunk->size = size;
        }
    }
    if (!chunk) {
        all->failed = true;
        return false;
    }
    char *at = chunk->body + chunk->len;
    memcpy(at, name, name_len);
    at[name_len] = '\t';
    memcpy(at + name_len + 1, value, value_len);
    at[need - 1] = '\n';
    chunk->len += need;
    chunk->lines++;
    return true;
}

static bool take_home(void *context, const char *local, const struct home *home)
{
    char record[HOME_RECORD_MAX + 1];
    home_encode(home, record);
    return add_line(context, local, record);
}

static bool take_field(void *context, const char *name, const char *value)
{
    return add_line(context, name, value);
}

static bool gather_homes(struct gathering *all, struct store *store)
{
    char **domains = NULL;
    enum lookup found = store_domains(store, &domains);
    bool done = found != LOOKUP_FAILED;
    for (char **domain = domains; done && domain && *domain; domain++) {
        if (strlen(*domain) > ADDR_DOMAIN_MAX)
            continue;
        all->domain = *domain;
        all->letter = home_letter(HOME_OLD, false); /* every line has a record */
        done = store_each_home(store, *domain, take_home, all) && !all->failed;
        all->letter = RUN_LETTER;
        done = done && store_each_playbook(store, *domain, take_field, all) &&
               !all->failed;
    }
    if (found == LOOKUP_FOUND)
        store_list_free(domains);
    return done;
}

static bool gather_hosts(struct gathering *all, struct store *store)
{
    struct host *hosts = NULL;
    size_t n = 0;
    enum lookup found = store_hosts(store, &hosts, &n);
    bool done = found != LOOKUP_FAILED;
    all->domain = "";
    all->letter = home_letter(HOME_OLD, false);
    for (size_t i = 0; done && found == LOOKUP_FOUND && i < n; i++)
        done = add_line(all, hosts[i].name, side_name(hosts[i].side));
    if (found == LOOKUP_FOUND)
        free(hosts);
    return done;
}

static void event_of(const struct gathering *all, const struct chunk *chunk,
                     struct event *event)
{
    memset(event, 0, sizeof(*event));
    event->at = all->at;
    memcpy(event->prev, "-", 2);
    event->op = EVENT_BASE;
    event->letter = chunk->letter;
    event->time = all->time;
    memcpy(event->domain, chunk->domain, sizeof(event->domain));
    event->body = chunk->body;
    event->body_len = chunk->len;
}

static bool give(void *context, struct event *event, bool *failed)
{
    struct gathering *all = context;
    (void)failed;
    if (all->next == all->n)
        return false;
    event_of(all, &all->chunks[all->next++], event);
    return true;
}

static enum base gather(struct gathering *all, struct store *store, char *error,
                        size_t error_size)
{
    switch (store_position(store, &all->at)) {
    case LOOKUP_FOUND:
        break;
    case LOOKUP_ABSENT:
        snprintf(error, error_size,
                 "sluice init has not been run: mail for the "
                 "configured domains is tried later until then");
        return BASE_NOT_INITIALISED;
    case LOOKUP_FAILED:
        snprintf(error, error_size, "%s", store_error(store));
        return BASE_FAILED;
    }
    if (gather_homes(all, store) && gather_hosts(all, store)) {
        /* A history of removals alone still needs its position in the journal. */
        all->domain = "";
        if (all->n > 0 || chunk_for(all, 0))
            return BASE_TAKEN;
    }
    snprintf(error, error_size, "%s",
             all->failed || !*store_error(store) ? "out of memory while taking a base"
                                                 : store_error(store));
    return BASE_FAILED;
}

enum base keeper_base(struct store *store, struct journal *journal,
                      void (*each)(void *context, const struct event *event),
                      void *context, char *error, size_t error_size)
{
    struct gathering all = { .time = (int64_t)time(NULL) };
    enum base result = gather(&all, store, error, error_size);
    if (result == BASE_TAKEN && !journal_replace(journal, give, &all, error, error_size))
        result = BASE_FAILED;
    for (size_t i = 0; i < all.n; i++) {
        struct event event;
        event_of(&all, &all.chunks[i], &event);
        if (result == BASE_TAKEN)
            each(context, &event);
        free(all.chunks[i].body);
    }
    free(all.chunks);
    return result;
}
