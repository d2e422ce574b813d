/*
 * mailimap: the IMAP commands (RFC 3501) that mailclient.h offers, over a connection
 * that is logged in (mailclient.c). One command at a time; what the server says is
 * taken apart by imapline.c.
 *
 * Limits: a line or a literal of 64 KB, the answer to one command of 1 MB (of the
 * sizes of all messages of a folder: 256 MB). Past one of them: MAIL_PROTOCOL. So no
 * server can make us keep or read without end what it sends.
 */
#include "mailclient.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "imapline.h"
#include "mailstream.h"

#define LINE_MAX_LEN 65535
#define LITERAL_MAX  65535
#define ANSWER_MAX   (1 << 20)
#define SIZES_MAX    (256 << 20)
#define COMMAND_MAX  4096
#define QUOTED_MAX   1024
#define UIDS_A_CALL  100

struct mail_imap {
    struct mail_stream *stream;
    bool uidplus, status_size;
    unsigned tag;
    size_t at, used; /* of buffer */
    size_t left;     /* bytes that this answer may still have */
    size_t literal_len;
    char buffer[16384];
    char line[LINE_MAX_LEN + 1];
    char literal[LITERAL_MAX + 1];
};

/* What came for a command: a line (see imapline.h) and its literal. */
typedef void answer_fn(void *context, const struct mail_imap *imap);

/* ---- reading -------------------------------------------------------------- */

static enum mail_result fill(struct mail_imap *imap, struct mail_call *call)
{
    if (imap->at < imap->used)
        return MAIL_DONE;
    imap->at = imap->used = 0;
    enum mail_result end = mail_stream_read(imap->stream, call, imap->buffer,
                                            sizeof(imap->buffer), &imap->used);
    if (end != MAIL_DONE)
        return end;
    if (imap->used > imap->left)
        return mail_stream_fail(imap->stream, call, MAIL_PROTOCOL,
                                "its answer is longer than any answer may be");
    imap->left -= imap->used;
    return MAIL_DONE;
}

/* Appends to imap->line, whose length is *len, up to the end of the line. */
static enum mail_result read_line(struct mail_imap *imap, struct mail_call *call,
                                  size_t *len)
{
    for (;;) {
        enum mail_result end = fill(imap, call);
        if (end != MAIL_DONE)
            return end;
        const char *from = imap->buffer + imap->at;
        size_t n = imap->used - imap->at;
        const char *lf = memchr(from, '\n', n);
        size_t take = lf ? (size_t)(lf - from) : n;
        if (take > LINE_MAX_LEN - *len || memchr(from, '\0', take))
            return mail_stream_fail(imap->stream, call, MAIL_PROTOCOL,
                                    "a line of its answer is too long, or is no IMAP");
        memcpy(imap->line + *len, from, take);
        *len += take;
        imap->at += take + (lf != NULL);
        if (!lf)
            continue;
        if (*len > 0 && imap->line[*len - 1] == '\r')
            --*len;
        imap->line[*len] = '\0';
        return MAIL_DONE;
    }
}

static enum mail_result read_literal(struct mail_imap *imap, struct mail_call *call,
                                     uint64_t size)
{
    if (size > LITERAL_MAX)
        return mail_stream_fail(imap->stream, call, MAIL_PROTOCOL,
                                "wants to send %" PRIu64 " bytes, %d are enough", size,
                                LITERAL_MAX);
    for (imap->literal_len = 0; imap->literal_len < size;) {
        enum mail_result end = fill(imap, call);
        if (end != MAIL_DONE)
            return end;
        size_t n = imap->used - imap->at, want = (size_t)size - imap->literal_len;
        if (n > want)
            n = want;
        memcpy(imap->literal + imap->literal_len, imap->buffer + imap->at, n);
        imap->literal_len += n;
        imap->at += n;
    }
    imap->literal[imap->literal_len] = '\0';
    return MAIL_DONE;
}

/* One whole response: line and literal. */
static enum mail_result read_response(struct mail_imap *imap, struct mail_call *call)
{
    size_t len = 0;
    uint64_t size;

    imap->literal[0] = '\0';
    imap->literal_len = 0;
    for (;;) {
        enum mail_result end = read_line(imap, call, &len);
        if (end == MAIL_DONE && !imapline_literal(imap->line, &size))
            return MAIL_DONE;
        if (end == MAIL_DONE)
            end = read_literal(imap, call, size);
        if (end != MAIL_DONE)
            return end;
    }
}

/* ---- a command ------------------------------------------------------------ */

static enum mail_result end_of(struct mail_imap *imap, struct mail_call *call,
                               enum imap_end end, const char *text)
{
    if (end == IMAP_OK)
        return MAIL_DONE;
    return mail_stream_fail(imap->stream, call, MAIL_REFUSED, "%s",
                            *text ? text : "refused without a reason");
}

static enum mail_result read_answer(struct mail_imap *imap, struct mail_call *call,
                                    const char *tag, answer_fn *each, void *context)
{
    for (;;) {
        enum imap_end how;
        const char *text;
        enum mail_result end = read_response(imap, call);
        if (end != MAIL_DONE)
            return end;
        if (imapline_end(imap->line, tag, &how, &text))
            return end_of(imap, call, how, text);
        text = imapline_untagged(imap->line, "BYE", NULL);
        if (text)
            return mail_stream_fail(imap->stream, call, MAIL_NETWORK,
                                    "the server ends the session:%s", text);
        if (imap->line[0] == '+')
            return mail_stream_fail(imap->stream, call, MAIL_PROTOCOL,
                                    "asks for more where there is no more");
        if (each && imap->line[0] == '*')
            each(context, imap);
    }
}

__attribute__((format(printf, 6, 7))) static enum mail_result
command(struct mail_imap *imap, struct mail_call *call, size_t limit, answer_fn *each,
        void *context, const char *fmt, ...)
{
    char text[COMMAND_MAX], tag[16];
    va_list args;

    call->error[0] = '\0';
    int head = snprintf(tag, sizeof(tag), "s%u", ++imap->tag);
    int len = snprintf(text, sizeof(text), "%s ", tag);
    if (head < 0 || len < 0)
        return mail_stream_fail(imap->stream, call, MAIL_REFUSED, "no such command");
    va_start(args, fmt);
    int more = vsnprintf(text + len, sizeof(text) - (size_t)len, fmt, args);
    va_end(args);
    if (more < 0 || (size_t)(len + more) + 3 > sizeof(text))
        return mail_stream_fail(imap->stream, call, MAIL_REFUSED,
                                "a name is too long for a command");
    memcpy(text + len + more, "\r\n", 3);
    imap->left = limit;
    enum mail_result end =
        mail_stream_write(imap->stream, call, text, (size_t)(len + more) + 2);
    return end == MAIL_DONE ? read_answer(imap, call, tag, each, context) : end;
}

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
        end = command(imap, call, ANSWER_MAX, take_capability, imap, "CAPABILITY");
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
    enum mail_result end = command(imap, call, ANSWER_MAX, take_folder_state, &state,
                                   "%s %s", read_only ? "EXAMINE" : "SELECT", quoted);
    if (out)
        *out = state;
    return end;
}

enum mail_result mail_imap_noop(struct mail_imap *imap, struct mail_call *call)
{
    return command(imap, call, ANSWER_MAX, NULL, NULL, "NOOP");
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
    enum mail_result end = command(imap, call, ANSWER_MAX, take_search, &list,
                                   "UID SEARCH UNDELETED%s%s %s%s %s", from, since,
                                   search->field ? "HEADER " : "TEXT",
                                   search->field ? search->field : "", quoted);
    *count = end == MAIL_DONE ? list.count : 0;
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
    return command(imap, call, ANSWER_MAX, take_field, &wanted,
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
    return command(imap, call, ANSWER_MAX, take_body, &wanted,
                   "UID FETCH %" PRIu32 " (UID BODY.PEEK[TEXT]<0.%zu>)", uid, size - 1);
}

/* Without UIDPLUS, EXPUNGE removes all that anybody has marked: so only when that is
 * nothing else. */
static enum mail_result expunge_all(struct mail_imap *imap, struct mail_call *call,
                                    size_t ours)
{
    struct uid_list marked = { .count = 0 };
    enum mail_result end =
        command(imap, call, ANSWER_MAX, take_search, &marked, "UID SEARCH DELETED");

    if (end != MAIL_DONE || marked.count != ours)
        return end;
    return command(imap, call, ANSWER_MAX, NULL, NULL, "EXPUNGE");
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
    enum mail_result end = command(imap, call, ANSWER_MAX, NULL, NULL,
                                   "UID STORE %s +FLAGS.SILENT (\\Deleted)", set);
    if (end != MAIL_DONE)
        return end;
    return imap->uidplus
               ? command(imap, call, ANSWER_MAX, NULL, NULL, "UID EXPUNGE %s", set)
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

    return command(imap, call, ANSWER_MAX, take_folder, &walk, "LIST \"\" \"*\"");
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
        end = command(imap, call, SIZES_MAX, take_size, size, "FETCH 1:* (RFC822.SIZE)");
    if (end == MAIL_DONE)
        end = command(imap, call, ANSWER_MAX, NULL, NULL, "CLOSE");
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
        end = command(imap, call, ANSWER_MAX, take_status, &size,
                      "STATUS %s (MESSAGES SIZE)", quoted);
    else
        end = add_sizes(imap, call, folder, &size);
    *messages = end == MAIL_DONE ? size.messages : 0;
    *bytes = end == MAIL_DONE ? size.bytes : 0;
    return end;
}
