/*
 * postfix: the queue back end for Postfix, through the queue helper.
 *
 *   list      postqueue -j: one JSON object per line (postqueue(1))
 *   hold      postsuper -h - deferred        release  postsuper -r - hold
 *   requeue   postsuper -r - deferred        flush    postqueue -i ID
 *   wake      postkick public pickup W       scan     postkick public qmgr I
 *   reload    postfix reload
 *   settings  postconf -x                    selftest postmap -q -
 *   daemons   children of master(8) in /proc
 *
 * The age of a message is taken from its long queue id: postqueue shows the
 * arrival time, which postsuper -r keeps, but qmgr(8) counts the lifetime from
 * the creation of the queue file.
 *
 * The self-test follows transport_lookup() of trivial-rewrite(8): the full
 * address is asked of every map in order before any partial key (without
 * extension, domain, parent domains, "*") is. Our map answers for the full
 * address, so only an earlier map that answers for the same full address comes
 * before it; entries by domain do not.
 *
 * Diagnostics: a line of the listing that is not understood fails the whole
 * listing; a message that cannot be seen must not be taken for delivered.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "queue.h"

#define HOLD_ANSWER "sluice-hold:"
/* Start times are in ticks of 10 ms, and a reload takes a moment. */
#define UNREAD_SLACK_S 0.5

/* ---- the listing ---------------------------------------------------------- */

/* Length of the UTF-8 sequence at text; 0: not valid (RFC 3629). */
static size_t utf8_length(const unsigned char *text, size_t len)
{
    static const struct {
        unsigned char mask, lead;
        size_t length;
        unsigned long least;
    } forms[] = { { 0x80, 0x00, 1, 0 },
                  { 0xe0, 0xc0, 2, 0x80 },
                  { 0xf0, 0xe0, 3, 0x800 },
                  { 0xf8, 0xf0, 4, 0x10000 } };
    for (size_t i = 0; i < 4; i++) {
        if ((text[0] & forms[i].mask) != forms[i].lead)
            continue;
        unsigned long value = text[0] & (unsigned char)~forms[i].mask;
        if (forms[i].length > len)
            return 0;
        for (size_t k = 1; k < forms[i].length; k++) {
            if ((text[k] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (text[k] & 0x3f);
        }
        if (value < forms[i].least || value > 0x10ffff ||
            (value >= 0xd800 && value <= 0xdfff))
            return 0;
        return forms[i].length;
    }
    return 0;
}

/* A copy in which every byte that is not UTF-8 is "?", for Jansson takes
 * nothing else and an address in a queue file may be anything. */
static char *clean_copy(const char *text, size_t len)
{
    char *copy = malloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    for (size_t i = 0; i < len;) {
        size_t n = utf8_length((const unsigned char *)copy + i, len - i);
        if (n == 0)
            copy[i] = '?';
        i += n ? n : 1;
    }
    return copy;
}

static enum queue_name name_of(const char *text)
{
    for (enum queue_name name = QUEUE_MAILDROP; name < QUEUE_OTHER; name++)
        if (strcmp(text, queue_name_text(name)) == 0)
            return name;
    return QUEUE_OTHER;
}

static bool parse_recipients(const json_t *list, struct queue_line *out)
{
    size_t n = json_array_size(list);
    out->recipients = calloc(n ? n : 1, sizeof(*out->recipients));
    if (!out->recipients || !json_is_array(list))
        return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(list, i);
        const char *address = json_string_value(json_object_get(item, "address"));
        const char *reason = json_string_value(json_object_get(item, "delay_reason"));
        if (!address)
            return false;
        out->recipients[i].address = address;
        out->recipients[i].reason = reason ? reason : "";
    }
    out->entry.recipients = out->recipients;
    out->entry.count = n;
    return true;
}

static bool parse_object(const json_t *json, struct queue_line *out)
{
    struct queue_entry *entry = &out->entry;
    const char *queue = json_string_value(json_object_get(json, "queue_name"));
    const char *sender = json_string_value(json_object_get(json, "sender"));
    entry->id = json_string_value(json_object_get(json, "queue_id"));
    if (!queue || !entry->id || !sender || strlen(entry->id) >= QUEUE_ID_MAX)
        return false;
    entry->queue = name_of(queue);
    entry->id_valid = helper_id_valid(entry->id, strlen(entry->id));
    entry->arrival = json_integer_value(json_object_get(json, "arrival_time"));
    entry->created = queue_id_time(entry->id);
    if (entry->created == 0)
        entry->created = entry->arrival;
    /* How postqueue shows the null sender. */
    entry->sender = strcmp(sender, "MAILER-DAEMON") == 0 ? "" : sender;
    return parse_recipients(json_object_get(json, "recipients"), out);
}

bool queue_parse_line(const char *text, size_t len, struct queue_line *out, char *error,
                      size_t error_size)
{
    json_error_t why;
    memset(out, 0, sizeof(*out));
    char *copy = clean_copy(text, len);
    json_t *json = copy ? json_loadb(copy, len, JSON_ALLOW_NUL, &why) : NULL;
    free(copy);
    out->json = json;
    if (json && parse_object(json, out))
        return true;
    char shown[80];
    char *start = strndup(text, len < 60 ? len : 60);
    snprintf(error, error_size, "postqueue -j: line not understood: %s",
             start ? log_value(start, shown, sizeof(shown)) : "");
    free(start);
    queue_line_free(out);
    return false;
}

void queue_line_free(struct queue_line *line)
{
    free(line->recipients);
    json_decref(line->json);
    memset(line, 0, sizeof(*line));
}

/* ---- requests --------------------------------------------------------------- */

static bool run(struct queue *queue, struct helper_request *request)
{
    request->idle = queue->idle;
    request->idle_context = queue->idle_context;
    if (helper_run(queue->helper, request))
        return true;
    return queue_fail(queue, "%s", helper_error(queue->helper));
}

static bool run_to_success(struct queue *queue, struct helper_request *request,
                           const char *what)
{
    if (!run(queue, request))
        return false;
    if (request->exit_status == 0)
        return true;
    return queue_fail(queue, "%s: exit status %d: %s", what, request->exit_status,
                      helper_error(queue->helper));
}

/* In chunks that the helper takes. */
static bool run_on_ids(struct queue *queue, enum helper_command command,
                       const char *const *ids, size_t n, size_t most, const char *what)
{
    for (size_t done = 0; done < n; done += most) {
        struct helper_request request = { .command = command,
                                          .items = ids + done,
                                          .count = n - done < most ? n - done : most };
        if (!run_to_success(queue, &request, what))
            return false;
    }
    return true;
}

struct listing {
    queue_entry_fn *each;
    void *context;
    bool stopped;
    char error[300];
};

static void take_line(void *context, const char *text, size_t len)
{
    struct listing *listing = context;
    struct queue_line line;
    if (listing->stopped || listing->error[0] || len == 0)
        return;
    if (!queue_parse_line(text, len, &line, listing->error, sizeof(listing->error)))
        return;
    listing->stopped = !listing->each(listing->context, &line.entry);
    queue_line_free(&line);
}

static bool postfix_list(struct queue *queue, queue_entry_fn *each, void *context)
{
    struct listing listing = { .each = each, .context = context };
    struct helper_request request = { .command = HELPER_LIST,
                                      .line = take_line,
                                      .context = &listing };
    if (!run_to_success(queue, &request, "postqueue -j"))
        return false;
    if (listing.error[0])
        return queue_fail(queue, "%s", listing.error);
    return true;
}

static bool postfix_hold(struct queue *queue, const char *const *ids, size_t n)
{
    return run_on_ids(queue, HELPER_HOLD, ids, n, HELPER_ITEMS_MAX,
                      "postsuper -h - deferred");
}

static bool postfix_release(struct queue *queue, const char *const *ids, size_t n)
{
    return run_on_ids(queue, HELPER_RELEASE, ids, n, HELPER_ITEMS_MAX,
                      "postsuper -r - hold");
}

static bool postfix_requeue(struct queue *queue, const char *const *ids, size_t n)
{
    return run_on_ids(queue, HELPER_REQUEUE, ids, n, HELPER_ITEMS_MAX,
                      "postsuper -r - deferred");
}

static bool postfix_flush(struct queue *queue, const char *const *ids, size_t n)
{
    return run_on_ids(queue, HELPER_FLUSH, ids, n, HELPER_FLUSH_MAX, "postqueue -i");
}

/* postkick(1) sends two bytes; the server has its request with the first and
 * closes, and the second may end postkick by SIGPIPE: the kick has worked. */
static bool kick(struct queue *queue, enum helper_command command, const char *what)
{
    struct helper_request request = { .command = command };
    return run_to_success(queue, &request, what) || request.exit_status == 128 + SIGPIPE;
}

static bool postfix_wake(struct queue *queue)
{
    return kick(queue, HELPER_WAKE, "postkick public pickup W");
}

static bool postfix_scan(struct queue *queue)
{
    return kick(queue, HELPER_SCAN, "postkick public qmgr I");
}

static bool postfix_reload(struct queue *queue)
{
    struct helper_request request = { .command = HELPER_RELOAD };
    return run_to_success(queue, &request, "postfix reload");
}

/* ---- settings ----------------------------------------------------------------- */

struct settings_reader {
    struct queue_settings *out;
    bool failed;
};

/* myorigin may name a file whose first line is meant (Debian's /etc/mailname). */
static char *origin_of(const char *value)
{
    char text[ADDR_DOMAIN_MAX + 3] = "", name[ADDR_DOMAIN_MAX + 1];
    if (value[0] == '/') {
        FILE *file = fopen(value, "re");
        if (!file || !fgets(text, sizeof(text), file))
            text[0] = '\0';
        if (file)
            fclose(file);
        text[strcspn(text, "\r\n")] = '\0';
        value = text;
    }
    return strdup(addr_domain(value, strlen(value), name) ? name : "");
}

/* One "name = value" line of postconf. */
static void take_setting(void *context, const char *text, size_t len)
{
    struct settings_reader *reader = context;
    struct queue_settings *out = reader->out;
    char *line = strndup(text, len);
    char *value = line ? strstr(line, " =") : NULL;
    if (!value) {
        reader->failed = reader->failed || !line;
        free(line);
        return;
    }
    *value = '\0';
    value += 2 + strspn(value + 2, " ");
    if (strcmp(line, "transport_maps") == 0 || strcmp(line, "relocated_maps") == 0)
        out->slow_maps |= queue_slow_maps(value);
    if (strcmp(line, "transport_maps") == 0 && !out->transport_maps)
        reader->failed |= !(out->transport_maps = queue_split(value));
    else if (strcmp(line, "mydestination") == 0 && !out->local_domains)
        reader->failed |= !queue_local_names(value, out);
    else if (strcmp(line, "myorigin") == 0 && !out->origin)
        reader->failed |= !(out->origin = origin_of(value));
    else if (strcmp(line, "maximal_queue_lifetime") == 0)
        out->lifetime = queue_seconds(value, 'd');
    else if (strcmp(line, "bounce_queue_lifetime") == 0)
        out->bounce_lifetime = queue_seconds(value, 'd');
    else if (strcmp(line, "enable_long_queue_ids") == 0)
        out->long_ids = strcmp(value, "yes") == 0;
    else if (strcmp(line, "recipient_delimiter") == 0)
        snprintf(out->delimiters, sizeof(out->delimiters), "%s", value);
    free(line);
}

static bool postfix_settings(struct queue *queue, struct queue_settings *out)
{
    memset(out, 0, sizeof(*out));
    out->lifetime = out->bounce_lifetime = -1;
    struct settings_reader reader = { .out = out };
    struct helper_request request = { .command = HELPER_SETTINGS,
                                      .line = take_setting,
                                      .context = &reader };
    if (!run_to_success(queue, &request, "postconf"))
        return false;
    if (!reader.failed && out->transport_maps && out->local_domains &&
        out->lifetime >= 0 && out->bounce_lifetime >= 0)
        return true;
    queue_settings_free(out);
    return queue_fail(queue, "postconf -x did not give the settings that are needed");
}

/* ---- self-test ------------------------------------------------------------------ */

struct answers {
    const char *const *keys; /* asked of this map */
    size_t n;
    char wrong[300]; /* the first answer that is not ours */
    bool *answered;  /* for each key */
};

static void take_answer(void *context, const char *text, size_t len)
{
    struct answers *answers = context;
    const char *tab = memchr(text, '\t', len);
    if (!tab)
        return;
    size_t key_len = (size_t)(tab - text), value_len = len - key_len - 1;
    for (size_t i = 0; i < answers->n; i++) {
        if (strlen(answers->keys[i]) != key_len ||
            memcmp(answers->keys[i], text, key_len))
            continue;
        answers->answered[i] = true;
        bool ours = value_len >= strlen(HOLD_ANSWER) &&
                    !memcmp(tab + 1, HOLD_ANSWER, strlen(HOLD_ANSWER));
        if (!ours && !answers->wrong[0])
            snprintf(answers->wrong, sizeof(answers->wrong), "%s for %s",
                     value_len ? tab + 1 : "an empty answer", answers->keys[i]);
    }
}

/* A line that is NUL-terminated, as take_answer() prints parts of it. */
static void take_answer_line(void *context, const char *text, size_t len)
{
    char line[1024];
    if (len >= sizeof(line))
        len = sizeof(line) - 1;
    for (size_t i = 0, tabs = 0; i < len; i++) {
        bool separator = text[i] == '\t' && tabs++ == 0;
        line[i] = separator || (unsigned char)text[i] >= ' ' ? text[i] : '?';
    }
    line[len] = '\0';
    take_answer(context, line, len);
}

/* Asks one map; takes the keys that it answered out of keys[]. */
static bool ask_map(struct queue *queue, unsigned number, const char *map,
                    const char **keys, size_t *n)
{
    bool answered[HELPER_KEYS_MAX] = { false };
    struct answers answers = { .keys = keys, .n = *n, .answered = answered };
    struct helper_request request = { .command = HELPER_ASK_MAP,
                                      .number = number,
                                      .items = keys,
                                      .count = *n,
                                      .line = take_answer_line,
                                      .context = &answers };
    if (!run(queue, &request))
        return false;
    /* 1 without a word: nothing found. */
    if (request.exit_status != 0 && helper_error(queue->helper)[0])
        return queue_fail(queue, "transport_maps entry %s: %s", map,
                          helper_error(queue->helper));
    if (answers.wrong[0])
        return queue_fail(queue,
                          "transport_maps entry %s answers %s: sluice's map must come "
                          "first",
                          map, answers.wrong);
    size_t left = 0;
    for (size_t i = 0; i < *n; i++)
        if (!answered[i])
            keys[left++] = keys[i];
    *n = left;
    return true;
}

static bool postfix_selftest(struct queue *queue, const struct queue_settings *settings,
                             const char *const *addresses, size_t n)
{
    const char *keys[HELPER_KEYS_MAX];
    if (n > HELPER_KEYS_MAX)
        n = HELPER_KEYS_MAX;
    memcpy(keys, addresses, n * sizeof(*keys));
    for (unsigned i = 0; n > 0 && settings->transport_maps[i]; i++)
        if (!ask_map(queue, i, settings->transport_maps[i], keys, &n))
            return false;
    if (n == 0)
        return true;
    return queue_fail(queue,
                      "no entry of transport_maps holds %s: put socketmap:...:transport "
                      "of sluice-policyd first in main.cf",
                      keys[0]);
}

/* ---- processes -------------------------------------------------------------------- */

struct daemon_reader {
    void (*each)(void *context, uint64_t pid, uint64_t started, const char *name);
    void *context;
};

static void take_daemon(void *context, const char *text, size_t len)
{
    struct daemon_reader *reader = context;
    unsigned long long pid, started;
    char line[128], name[17];
    if (len >= sizeof(line))
        return;
    memcpy(line, text, len);
    line[len] = '\0';
    if (sscanf(line, "%llu %llu %16[^\n]", &pid, &started, name) == 3)
        reader->each(reader->context, pid, started, name);
}

static bool postfix_daemons(struct queue *queue,
                            void (*each)(void *context, uint64_t pid, uint64_t started,
                                         const char *name),
                            void *context)
{
    struct daemon_reader reader = { .each = each, .context = context };
    struct helper_request request = { .command = HELPER_DAEMONS,
                                      .line = take_daemon,
                                      .context = &reader };
    return run_to_success(queue, &request, "list of Postfix' processes");
}

/* ---- files that were not read --------------------------------------------------- */

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void take_age(void *context, uint64_t pid, uint64_t started, const char *name)
{
    double *age = context;
    (void)pid;
    if (strcmp(name, "qmgr") == 0 || strcmp(name, "nqmgr") == 0 ||
        strcmp(name, "oqmgr") == 0)
        *age =
            seconds_of(CLOCK_BOOTTIME) - (double)started / (double)sysconf(_SC_CLK_TCK);
}

/* postfix reload starts qmgr(8) anew: files younger than it were not read.
 * Ages are compared, so that a clock that was set does not matter. */
static bool postfix_unread(struct queue *queue, char *why, size_t why_size)
{
    static const char *const files[] = { "main.cf", "master.cf" };
    double qmgr = -1;
    why[0] = '\0';
    if (!postfix_daemons(queue, take_age, &qmgr))
        return false;
    for (size_t i = 0; i < 2 && qmgr >= 0 && !why[0]; i++) {
        char path[4096];
        struct stat file;
        int len = snprintf(path, sizeof(path), "%s/%s", queue->config, files[i]);
        if (len < 0 || (size_t)len >= sizeof(path) || stat(path, &file) < 0)
            continue; /* not ours to read: nothing can be said */
        double age = seconds_of(CLOCK_REALTIME) - (double)file.st_mtim.tv_sec -
                     (double)file.st_mtim.tv_nsec / 1e9;
        if (age + UNREAD_SLACK_S < qmgr)
            snprintf(why, why_size,
                     "%s was changed after Postfix last read it: run postfix reload",
                     files[i]);
    }
    return true;
}

const struct queue_ops queue_postfix = {
    .mta = "postfix",
    .list = postfix_list,
    .hold = postfix_hold,
    .release = postfix_release,
    .requeue = postfix_requeue,
    .flush = postfix_flush,
    .wake = postfix_wake,
    .scan = postfix_scan,
    .reload = postfix_reload,
    .settings = postfix_settings,
    .selftest = postfix_selftest,
    .daemons = postfix_daemons,
    .unread = postfix_unread,
};
