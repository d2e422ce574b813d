/*
 * mailimap: the IMAP commands (RFC 3501) that mailclient.h offers, over a connection
 * that is logged in (mailclient.c); one at a time (imapdialog.c).
 *
 * Limits: the answer to one command of 1 MB (of the sizes or times of all messages of a
 * folder: 256 MB). A search answers in one line, which 9000 messages or more fill.
 */
#include "imapdialog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "imapline.h"

#define ANSWER_MAX  (1 << 20)
#define SIZES_MAX   (256 << 20)
#define QUOTED_MAX  1024
#define UIDS_A_CALL 100
#define DAY_S       86400

static enum mail_result no_name(struct mail_imap *imap, struct mail_call *call,
                                const char *name)
{
    return mail_stream_fail(imap->stream, call, MAIL_REFUSED,
                            "%.200s: not a name that IMAP can be asked for", name);
}

/* ---- the session ------------------------------------------------------------ */

static void take_capability(void *context, const struct mail_imap *answer)
{
    struct mail_imap *imap = context;
    const char *words = imapline_untagged(answer->line, "CAPABILITY", NULL);

    if (words) {
        imap->uidplus = imapline_has(words, "UIDPLUS");
        imap->status_size = imapline_has(words, "STATUS=SIZE");
    }
}

enum mail_result mail_imap_open(const struct mail_server *server, struct mail_call *call,
                                struct mail_imap **out)
{
    struct mail_imap *imap = calloc(1, sizeof(*imap));

    *out = NULL;
    if (!imap) {
        snprintf(call->error, sizeof(call->error), "out of memory");
        return MAIL_NETWORK;
    }
    enum mail_result end = mail_stream_open(server, call, "imap", "", &imap->stream);
    if (end == MAIL_DONE)
        end = imap_command(imap, call, ANSWER_MAX, take_capability, imap, "CAPABILITY");
    if (end != MAIL_DONE) {
        mail_imap_close(imap);
        return end;
    }
    *out = imap;
    return MAIL_DONE;
}

void mail_imap_close(struct mail_imap *imap)
{
    if (!imap)
        return;
    if (imap->stream) {
        struct mail_call call = { .until = 0 };
        (void)mail_stream_write(imap->stream, &call, "s0 LOGOUT\r\n", 11);
        mail_stream_close(imap->stream);
    }
    free(imap);
}

static void take_folder_state(void *context, const struct mail_imap *imap)
{
    struct mail_folder *out = context;
    uint64_t number;

    if (imapline_untagged(imap->line, "EXISTS", &number))
        out->messages = number;
    const char *text = imapline_untagged(imap->line, "OK", NULL);
    if (text && strncmp(text, " [", 2) == 0 &&
        imapline_item(text + 2, "UIDNEXT", &number) && number > 0 && number <= UINT32_MAX)
        out->next_uid = (uint32_t)number;
}

enum mail_result mail_imap_select(struct mail_imap *imap, struct mail_call *call,
                                  const char *folder, bool read_only,
                                  struct mail_folder *out)
{
    struct mail_folder state = { .next_uid = 1 };
    char quoted[QUOTED_MAX];

    if (!imapline_quote(folder, quoted, sizeof(quoted)))
        return no_name(imap, call, folder);
    enum mail_result end =
        imap_command(imap, call, ANSWER_MAX, take_folder_state, &state, "%s %s",
                     read_only ? "EXAMINE" : "SELECT", quoted);
    if (out)
        *out = state;
    return end;
}

enum mail_result mail_imap_noop(struct mail_imap *imap, struct mail_call *call)
{
    return imap_command(imap, call, ANSWER_MAX, NULL, NULL, "NOOP");
}

/* ---- messages ------------------------------------------------------------------ */

struct uid_list {
    uint32_t *uids;
    size_t max, count;
};

static void take_search(void *context, const struct mail_imap *imap)
{
    struct uid_list *list = context;
    const char *text = imapline_untagged(imap->line, "SEARCH", NULL);
    size_t room = list->count < list->max ? list->max - list->count : 0;

    if (text)
        list->count +=
            imapline_numbers(text, room ? list->uids + list->count : NULL, room);
}

/* " SINCE 5-Nov-2024"; names of months are those of RFC 3501, whatever the locale. */
static bool since_words(int64_t since, char out[40])
{
    static const char *const months[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                          "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t when = (time_t)since;
    struct tm tm;

    out[0] = '\0';
    if (since <= 0)
        return true;
    if (!gmtime_r(&when, &tm) || tm.tm_year > 8099)
        return false;
    int len = snprintf(out, 40, " SINCE %d-%s-%04d", tm.tm_mday, months[tm.tm_mon],
                       tm.tm_year + 1900);
    return len > 0 && len < 40;
}

enum mail_result mail_imap_search(struct mail_imap *imap, struct mail_call *call,
                                  const struct mail_search *search, uint32_t *uids,
                                  size_t max, size_t *count)
{
    struct uid_list list = { .uids = uids, .max = max };
    char quoted[QUOTED_MAX], since[40], from[32] = "";

    *count = 0;
    if (!imapline_quote(search->text, quoted, sizeof(quoted)) ||
        !since_words(search->since, since))
        return no_name(imap, call, search->text);
    if (search->from_uid > 0 &&
        snprintf(from, sizeof(from), " UID %" PRIu32 ":*", search->from_uid) < 0)
        return no_name(imap, call, search->text);
    enum mail_result end = imap_command(imap, call, ANSWER_MAX, take_search, &list,
                                        "UID SEARCH UNDELETED%s%s %s%s %s", from, since,
                                        search->field ? "HEADER " : "TEXT",
                                        search->field ? search->field : "", quoted);
    *count = end == MAIL_DONE ? list.count : 0;
    return end;
}

struct uid_range {
    uint32_t first, last; /* first 0: none */
};

static void take_range(void *context, const struct mail_imap *imap)
{
    struct uid_range *range = context;
    const char *text = imapline_untagged(imap->line, "SEARCH", NULL);

    if (text)
        imapline_range(text, &range->first, &range->last);
}

struct since_count {
    int64_t since;
    uint64_t count;
};

static void take_arrival(void *context, const struct mail_imap *imap)
{
    struct since_count *late = context;
    const char *text = imapline_untagged(imap->line, "FETCH", NULL);
    int64_t when;

    if (text && imapline_time(text, "INTERNALDATE", &when))
        late->count += when >= late->since;
}

/* SINCE compares the server's own dates, whatever zone they are of: asked for from the
 * day before on, and what that finds is looked at by the second. */
enum mail_result mail_imap_came_since(struct mail_imap *imap, struct mail_call *call,
                                      int64_t since, uint64_t *count)
{
    struct uid_range range = { 0 };
    struct since_count late = { .since = since };
    char words[40];

    *count = 0;
    if (!since_words(since > DAY_S ? since - DAY_S : 1, words))
        return no_name(imap, call, "the time");
    enum mail_result end =
        imap_command(imap, call, ANSWER_MAX, take_range, &range, "UID SEARCH%s", words);
    if (end == MAIL_DONE && range.first > 0)
        end = imap_command(imap, call, SIZES_MAX, take_arrival, &late,
                           "UID FETCH %" PRIu32 ":%" PRIu32 " (INTERNALDATE)",
                           range.first, range.last);
    *count = late.count;
    return end;
}

struct field_wanted {
    uint32_t uid;
    const char *name;
    char *out;
    size_t size;
};

static void take_field(void *context, const struct mail_imap *imap)
{
    const struct field_wanted *wanted = context;
    const char *text = imapline_untagged(imap->line, "FETCH", NULL);
    uint64_t uid;

    if (text && imapline_item(text, "UID", &uid) && uid == wanted->uid)
        imapline_field(imap->literal, wanted->name, wanted->out, wanted->size);
}

enum mail_result mail_imap_field(struct mail_imap *imap, struct mail_call *call,
                                 uint32_t uid, const char *field, char *out, size_t size)
{
    struct field_wanted wanted = { uid, field, out, size };

    out[0] = '\0';
    return imap_command(imap, call, ANSWER_MAX, take_field, &wanted,
                        "UID FETCH %" PRIu32 " (UID BODY.PEEK[HEADER.FIELDS (%s)])", uid,
                        field);
}

static void take_body(void *context, const struct mail_imap *imap)
{
    const struct field_wanted *wanted = context;
    const char *text = imapline_untagged(imap->line, "FETCH", NULL);
    uint64_t uid;

    if (text && imapline_item(text, "UID", &uid) && uid == wanted->uid) {
        size_t len =
            imap->literal_len < wanted->size ? imap->literal_len : wanted->size - 1;
        memcpy(wanted->out, imap->literal, len);
        wanted->out[len] = '\0';
    }
}

enum mail_result mail_imap_body(struct mail_imap *imap, struct mail_call *call,
                                uint32_t uid, char *out, size_t size)
{
    struct field_wanted wanted = { uid, NULL, out, size };

    out[0] = '\0';
    return imap_command(imap, call, ANSWER_MAX, take_body, &wanted,
                        "UID FETCH %" PRIu32 " (UID BODY.PEEK[TEXT]<0.%zu>)", uid,
                        size - 1);
}

/* Without UIDPLUS, EXPUNGE removes all that anybody has marked: so only when that is
 * nothing else. */
static enum mail_result expunge_all(struct mail_imap *imap, struct mail_call *call,
                                    size_t ours)
{
    struct uid_list marked = { .count = 0 };
    enum mail_result end =
        imap_command(imap, call, ANSWER_MAX, take_search, &marked, "UID SEARCH DELETED");

    if (end != MAIL_DONE || marked.count != ours)
        return end;
    return imap_command(imap, call, ANSWER_MAX, NULL, NULL, "EXPUNGE");
}

static enum mail_result delete_some(struct mail_imap *imap, struct mail_call *call,
                                    const uint32_t *uids, size_t count)
{
    char set[UIDS_A_CALL * 12];
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        int len =
            snprintf(set + used, sizeof(set) - used, "%s%" PRIu32, i ? "," : "", uids[i]);
        if (len < 0 || (size_t)len >= sizeof(set) - used)
            return no_name(imap, call, "the messages");
        used += (size_t)len;
    }
    enum mail_result end = imap_command(imap, call, ANSWER_MAX, NULL, NULL,
                                        "UID STORE %s +FLAGS.SILENT (\\Deleted)", set);
    if (end != MAIL_DONE)
        return end;
    return imap->uidplus
               ? imap_command(imap, call, ANSWER_MAX, NULL, NULL, "UID EXPUNGE %s", set)
               : expunge_all(imap, call, count);
}

enum mail_result mail_imap_delete(struct mail_imap *imap, struct mail_call *call,
                                  const uint32_t *uids, size_t count)
{
    enum mail_result end = MAIL_DONE;

    for (size_t at = 0; at < count && end == MAIL_DONE; at += UIDS_A_CALL)
        end = delete_some(imap, call, uids + at,
                          count - at < UIDS_A_CALL ? count - at : UIDS_A_CALL);
    return end;
}

/* ---- folders --------------------------------------------------------------- */

struct folder_walk {
    mail_folder_fn *each;
    void *context;
    bool ended;
};

static void take_folder(void *context, const struct mail_imap *imap)
{
    struct folder_walk *walk = context;
    const char *text = imapline_untagged(imap->line, "LIST", NULL);
    char name[QUOTED_MAX];

    if (text && !walk->ended && imapline_folder(text, imap->literal, name, sizeof(name)))
        walk->ended = !walk->each(walk->context, name);
}

enum mail_result mail_imap_folders(struct mail_imap *imap, struct mail_call *call,
                                   mail_folder_fn *each, void *context)
{
    struct folder_walk walk = { .each = each, .context = context };

    return imap_command(imap, call, ANSWER_MAX, take_folder, &walk, "LIST \"\" \"*\"");
}

struct folder_size {
    uint64_t messages, bytes;
};

static void take_status(void *context, const struct mail_imap *imap)
{
    struct folder_size *size = context;
    const char *text = imapline_untagged(imap->line, "STATUS", NULL);
    const char *items = text ? strrchr(text, '(') : NULL;

    if (items) {
        (void)imapline_item(items, "MESSAGES", &size->messages);
        (void)imapline_item(items, "SIZE", &size->bytes);
    }
}

static void take_size(void *context, const struct mail_imap *imap)
{
    struct folder_size *size = context;
    const char *text = imapline_untagged(imap->line, "FETCH", NULL);
    uint64_t bytes;

    if (text && imapline_item(text, "RFC822.SIZE", &bytes) &&
        bytes <= UINT64_MAX - size->bytes)
        size->bytes += bytes;
}

static enum mail_result add_sizes(struct mail_imap *imap, struct mail_call *call,
                                  const char *folder, struct folder_size *size)
{
    struct mail_folder state;
    enum mail_result end = mail_imap_select(imap, call, folder, true, &state);

    size->messages = state.messages;
    if (end == MAIL_DONE && size->messages > 0)
        end = imap_command(imap, call, SIZES_MAX, take_size, size,
                           "FETCH 1:* (RFC822.SIZE)");
    if (end == MAIL_DONE)
        end = imap_command(imap, call, ANSWER_MAX, NULL, NULL, "CLOSE");
    return end;
}

enum mail_result mail_imap_size(struct mail_imap *imap, struct mail_call *call,
                                const char *folder, uint64_t *messages, uint64_t *bytes)
{
    struct folder_size size = { 0 };
    char quoted[QUOTED_MAX];
    enum mail_result end;

    if (!imapline_quote(folder, quoted, sizeof(quoted)))
        end = no_name(imap, call, folder);
    else if (imap->status_size)
        end = imap_command(imap, call, ANSWER_MAX, take_status, &size,
                           "STATUS %s (MESSAGES SIZE)", quoted);
    else
        end = add_sizes(imap, call, folder, &size);
    *messages = end == MAIL_DONE ? size.messages : 0;
    *bytes = end == MAIL_DONE ? size.bytes : 0;
    return end;
}
