/*
 * imapdialog: see imapdialog.h. What the server says is taken apart by imapline.c.
 */
#include "imapdialog.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "imapline.h"

#define COMMAND_MAX 4096

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
        if (take > IMAP_LINE_MAX - *len || memchr(from, '\0', take))
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
    if (size > IMAP_LITERAL_MAX)
        return mail_stream_fail(imap->stream, call, MAIL_PROTOCOL,
                                "wants to send %" PRIu64 " bytes, %d are enough", size,
                                IMAP_LITERAL_MAX);
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
                                    const char *tag, imap_answer_fn *each, void *context)
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

enum mail_result imap_command(struct mail_imap *imap, struct mail_call *call,
                              size_t limit, imap_answer_fn *each, void *context,
                              const char *fmt, ...)
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
