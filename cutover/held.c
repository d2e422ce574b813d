/*
 * sluice held: what is on hold by sluice, where, for whom, since when; and
 * sluice held release ID...: asks the host that has a message to release it.
 *
 * There is no channel to a host but Redis: the record of a message that is held
 * because of a loop, or of DMARC, becomes that of one held for a lock, and that
 * host's sluice-policyd releases it at its next sweep, as soon as a recipient's
 * mailbox is not locked. One that is held for a lock is released by flip or unlock.
 *
 * Senders, recipients and ids come from outside: output.c makes them harmless.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command.h"
#include "options.h"
#include "output.h"

#define SHOWN_RECIPIENTS 3
#define RELEASE_MAX      1000

struct message_row {
    char host[HOST_NAME_MAX_LEN + 1];
    struct held held; /* sender and recipients are our copies */
};

struct listing {
    struct message_row *rows;
    size_t count, room;
    const char *host; /* that is being read */
    bool failed;
};

static bool collect(void *context, const struct held *held)
{
    struct listing *listing = context;
    if (listing->count == listing->room) {
        size_t room = listing->room ? listing->room * 2 : 64;
        struct message_row *rows = reallocarray(listing->rows, room, sizeof(*rows));
        if (!rows) {
            listing->failed = true;
            return false;
        }
        listing->rows = rows;
        listing->room = room;
    }
    struct message_row *row = &listing->rows[listing->count];
    row->held = *held;
    row->held.sender = strdup(held->sender);
    row->held.recipients = strdup(held->recipients);
    snprintf(row->host, sizeof(row->host), "%s", listing->host);
    listing->count++;
    listing->failed = !row->held.sender || !row->held.recipients;
    return !listing->failed;
}

static int oldest_first(const void *a, const void *b)
{
    const struct message_row *left = a, *right = b;
    return (left->held.since > right->held.since) -
           (left->held.since < right->held.since);
}

static void free_listing(struct listing *listing)
{
    for (size_t i = 0; i < listing->count; i++) {
        free((void *)(uintptr_t)listing->rows[i].held.sender);
        free((void *)(uintptr_t)listing->rows[i].held.recipients);
    }
    free(listing->rows);
}

static int collect_all(struct command_context *context, struct listing *listing)
{
    struct host *hosts = NULL;
    size_t n = 0;
    bool fine = store_hosts(context->store, &hosts, &n) != LOOKUP_FAILED;
    for (size_t i = 0; fine && i < n; i++) {
        listing->host = hosts[i].name;
        fine = store_each_held(context->store, hosts[i].name, collect, listing);
    }
    free(hosts);
    if (listing->failed) {
        message("out of memory");
        return EXIT_SERVICE;
    }
    if (!fine) {
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    }
    if (listing->count > 1)
        qsort(listing->rows, listing->count, sizeof(*listing->rows), oldest_first);
    return EXIT_DONE;
}

/* ---- the list ---------------------------------------------------------- */

static const char *kind_name(enum held_kind kind)
{
    switch (kind) {
    case HELD_LOCK:
        return "lock";
    case HELD_LOOP:
        return "loop";
    case HELD_DMARC:
        return "DMARC";
    }
    return "unknown";
}

/* The first recipients of a list, "and N more". */
static void shorten(const char *recipients, char *out, size_t size)
{
    size_t used = 0, more = 0;
    out[0] = '\0';
    for (size_t i = 0; *recipients; i++) {
        size_t len = strcspn(recipients, "\n");
        if (i < SHOWN_RECIPIENTS && used + len + 3 < size) {
            int n = snprintf(out + used, size - used, "%s%.*s", i ? ", " : "", (int)len,
                             recipients);
            used += n > 0 ? (size_t)n : 0;
        } else if (len > 0) {
            more++;
        }
        recipients += len + (recipients[len] == '\n');
    }
    if (more > 0 && used < size)
        (void)snprintf(out + used, size - used, " and %zu more", more);
}

static void print_list(const struct listing *listing, int64_t now)
{
    static const char *const headers[] = { "host", "queue id", "held for",
                                           "why",  "sender",   "for" };
    struct sheet *sheet = sheet_new(headers, 6);
    uint64_t loops = 0, dmarc = 0;
    for (size_t i = 0; i < listing->count; i++) {
        const struct message_row *row = &listing->rows[i];
        char duration[DURATION_TEXT_MAX], recipients[3 * ADDR_TEXT_MAX], sender[1024];
        loops += row->held.kind == HELD_LOOP;
        dmarc += row->held.kind == HELD_DMARC;
        shorten(row->held.recipients, recipients, sizeof(recipients));
        int n = snprintf(sender, sizeof(sender), "<%s>", row->held.sender);
        if (n < 0 || (size_t)n >= sizeof(sender))
            memcpy(sender + sizeof(sender) - 4, "...", 4);
        const char *cells[] = { row->host,
                                row->held.queue_id,
                                duration_text(now - row->held.since, duration),
                                row->held.gone_since ? "gone from hold"
                                                     : kind_name(row->held.kind),
                                sender,
                                recipients[0] ? recipients : "-" };
        sheet_row(sheet, cells);
    }
    if (listing->count > 0)
        sheet_print(sheet);
    else
        sheet_free(sheet);
    print("%zu %s on hold", listing->count,
          listing->count == 1 ? "message is" : "messages are");
    if (loops > 0)
        print(
            "%" PRIu64
            " of them because of a loop: they came back although they had been "
            "forwarded. Look at the routing of both sides, then: sluice held release ID",
            loops);
    if (dmarc > 0)
        print("%" PRIu64
              " of them because they fail DMARC, and the author's domain wants "
              "that (enforce). Look at them with \"postcat -qh ID\" on their host, then: "
              "sluice held release ID, or postsuper -d ID",
              dmarc);
}

static void document_list(const struct listing *listing, int64_t now)
{
    doc *document = doc_object();
    doc_text(document, "command", "held");
    doc_number(document, "count", (int64_t)listing->count);
    doc *messages = doc_put(document, "messages", doc_array());
    for (size_t i = 0; i < listing->count; i++) {
        const struct held *held = &listing->rows[i].held;
        doc *object = doc_add(messages, doc_object());
        doc_text(object, "host", listing->rows[i].host);
        doc_text(object, "queue_id", held->queue_id);
        doc_text(object, "why", kind_name(held->kind));
        doc_number(object, "since", held->since);
        doc_number(object, "seconds", now > held->since ? now - held->since : 0);
        doc_flag(object, "gone", held->gone_since != 0);
        doc_text(object, "sender", held->sender);
        doc *recipients = doc_put(object, "recipients", doc_array());
        for (const char *at = held->recipients; *at;) {
            char one[ADDR_TEXT_MAX + 1];
            size_t len = strcspn(at, "\n");
            size_t kept = len < sizeof(one) ? len : sizeof(one) - 1;
            memcpy(one, at, kept);
            one[kept] = '\0';
            if (len > 0)
                doc_add_text(recipients, one);
            at += len + (at[len] == '\n');
        }
    }
    doc_print(document);
}

/* ---- release ----------------------------------------------------------- */

/* Whether every recipient's mailbox is locked; one that is not managed never is (and
 * a message for none that is has an empty list). LOOKUP_FAILED: not known. */
static enum lookup all_locked(struct command_context *context, const struct held *held)
{
    if (!held->recipients[0])
        return LOOKUP_ABSENT;
    for (const char *at = held->recipients; *at;) {
        struct route route = { 0 };
        struct route *list[] = { &route };
        size_t len = strcspn(at, "\n");
        if (len > 0 && !route_prepare(context->conf, at, len, &route))
            return LOOKUP_ABSENT;
        if (len > 0) {
            store_lookup(context->store, list, 1);
            if (route.lookup != LOOKUP_FOUND)
                return LOOKUP_FAILED;
            if (route.home.state != HOME_LOCKED)
                return LOOKUP_ABSENT;
        }
        at += len + (at[len] == '\n');
    }
    return LOOKUP_FOUND;
}

static int release_row(struct command_context *context, const struct message_row *row)
{
    struct held held = row->held;
    enum lookup locked = all_locked(context, &held);
    if (locked == LOOKUP_FAILED) {
        message("%s", store_error(context->store));
        return EXIT_SERVICE;
    }
    if (held.kind == HELD_LOCK && locked == LOOKUP_FOUND) {
        message("%s: all its mailboxes are locked; flip or unlock releases it",
                held.queue_id);
        return EXIT_CHECK;
    }
    if (held.kind == HELD_LOCK || context->dry_run)
        return EXIT_DONE; /* policyd is at it anyway */
    held.kind = HELD_LOCK;
    switch (store_held_put(context->store, row->host, &held)) {
    case COMMIT_DONE:
        return EXIT_DONE;
    case COMMIT_REFUSED:
        message("%s: %s", held.queue_id, store_error(context->store));
        return EXIT_SERVICE;
    case COMMIT_UNCERTAIN:
        break;
    }
    message("%s: outcome unknown (%s): run the same command again", held.queue_id,
            store_error(context->store));
    return EXIT_AGAIN;
}

/* One ID of the command line; *code keeps the first that is not EXIT_DONE. */
static void release_one(struct command_context *context, const struct listing *listing,
                        const char *id, doc *released, int *code)
{
    bool found = false;
    for (size_t i = 0; i < listing->count; i++) {
        const struct message_row *row = &listing->rows[i];
        if (strcmp(row->held.queue_id, id) != 0)
            continue;
        found = true;
        int outcome = release_row(context, row);
        if (outcome == EXIT_DONE) {
            print(context->dry_run ? "%s: %s would release it"
                                   : "%s: %s releases it within seconds",
                  id, row->host);
            doc *object = doc_add(released, doc_object());
            doc_text(object, "queue_id", id);
            doc_text(object, "host", row->host);
        } else if (*code == EXIT_DONE) {
            *code = outcome;
        }
    }
    if (!found) {
        message("%s: no such message is held by sluice (sluice held lists them)", id);
        if (*code == EXIT_DONE)
            *code = EXIT_DATA;
    }
}

static int release(struct command_context *context, const struct listing *listing,
                   int argc, char **argv)
{
    int code = EXIT_DONE;
    if (argc < 1 || argc > RELEASE_MAX) {
        message("name the queue ids of held messages, at most %d", RELEASE_MAX);
        return EXIT_USE;
    }
    doc *document = doc_object();
    doc *released = doc_array();
    for (int i = 0; i < argc; i++)
        release_one(context, listing, argv[i], released, &code);
    doc_text(document, "command", "held");
    doc_flag(document, "dry_run", context->dry_run);
    doc_flag(document, "complete", code == EXIT_DONE);
    doc_put(document, "released", released);
    doc_print(document);
    return code;
}

int command_held(struct command_context *context, int argc, char **argv)
{
    struct listing listing = { 0 };
    if (!options_parse(NULL, 0, &argc, argv))
        return EXIT_USE;
    if (argc > 1 && strcmp(argv[1], "release") != 0) {
        message("\"%s\" is not known here; write: sluice held release ID...", argv[1]);
        return EXIT_USE;
    }
    int code = command_need_store(context);
    if (code == EXIT_DONE)
        code = collect_all(context, &listing);
    if (code == EXIT_DONE && argc > 1) {
        code = release(context, &listing, argc - 2, argv + 2);
    } else if (code == EXIT_DONE) {
        int64_t now = store_time_ms(context->store) / 1000;
        print_list(&listing, now);
        document_list(&listing, now);
    }
    free_listing(&listing);
    return code;
}
