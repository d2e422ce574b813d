/*
 * mailsmtp: one message over SMTP (RFC 5321), from MAIL to QUIT. EHLO, STARTTLS and
 * AUTH (RFC 3207, 4954) are libcurl's, see mailclient.c; replies are parsed by smtp.c.
 *
 * One command at a time, since times are what ping wants. QUIT is said and its
 * answer not waited for: the message is accepted by then. 8BITMIME and SMTPUTF8 are
 * not used: the text is 7-bit, and an address that is not is refused here.
 *
 * Limits: a reply of SMTP_REPLY_MAX bytes; longer: MAIL_PROTOCOL.
 */
#include "mailclient.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "mailstream.h"
#include "smtp.h"

#define COMMAND_MAX 1200 /* an address is 320 bytes at the most */

struct dialog_state {
    struct mail_stream *stream;
    struct mail_call *call;
    char buffer[SMTP_REPLY_MAX];
    size_t used;
    struct smtp_reply reply;
};

static enum mail_result read_reply(struct dialog_state *state)
{
    for (;;) {
        size_t n, consumed = 0;
        enum smtp_parse parse =
            smtp_reply_parse(state->buffer, state->used, &state->reply, &consumed);
        if (parse == SMTP_DONE) {
            state->used -= consumed;
            memmove(state->buffer, state->buffer + consumed, state->used);
            return MAIL_DONE;
        }
        if (parse == SMTP_BAD || state->used == sizeof(state->buffer))
            return mail_stream_fail(state->stream, state->call, MAIL_PROTOCOL,
                                    "answers what is no SMTP");
        enum mail_result end =
            mail_stream_read(state->stream, state->call, state->buffer + state->used,
                             sizeof(state->buffer) - state->used, &n);
        if (end != MAIL_DONE)
            return end;
        state->used += n;
    }
}

/* after: what was said, for the message. */
static enum mail_result check_reply(struct dialog_state *state, int want,
                                    const char *after)
{
    int code = state->reply.code;

    /* 251 and 252 are yes to RCPT, too. */
    if (code == want || (want == 250 && code > 250 && code < 260))
        return MAIL_DONE;
    return mail_stream_fail(state->stream, state->call,
                            code >= 400 && code < 500 ? MAIL_LATER : MAIL_REFUSED,
                            "%d %s (after %s)", code, state->reply.text, after);
}

static enum mail_result say(struct dialog_state *state, const char *text, size_t len,
                            int want, const char *after)
{
    enum mail_result end = mail_stream_write(state->stream, state->call, text, len);

    if (end == MAIL_DONE)
        end = read_reply(state);
    return end == MAIL_DONE ? check_reply(state, want, after) : end;
}

/* Printable ASCII that cannot end the command's address. */
static bool is_plain(const char *address)
{
    for (; *address; address++)
        if ((unsigned char)*address <= ' ' || (unsigned char)*address > 0x7e ||
            *address == '<' || *address == '>')
            return false;
    return true;
}

static enum mail_result say_address(struct dialog_state *state, const char *verb,
                                    const char *address, const char *after)
{
    char command[COMMAND_MAX];
    int len = snprintf(command, sizeof(command), "%s:<%s>\r\n", verb, address);

    if (len < 0 || (size_t)len >= sizeof(command) || !is_plain(address))
        return mail_stream_fail(state->stream, state->call, MAIL_REFUSED,
                                "%s is no address that can be used here: printable ASCII",
                                address);
    return say(state, command, (size_t)len, 250, after);
}

/* Lines that begin with a dot get a second one (RFC 5321 4.5.2). */
static enum mail_result say_text(struct dialog_state *state,
                                 const struct mail_letter *letter)
{
    size_t used = 0;
    char *text = malloc(2 * letter->len + sizeof("\r\n.\r\n"));

    if (!text)
        return mail_stream_fail(state->stream, state->call, MAIL_NETWORK,
                                "out of memory");
    for (size_t i = 0; i < letter->len; i++) {
        if (letter->text[i] == '.' && (i == 0 || letter->text[i - 1] == '\n'))
            text[used++] = '.';
        text[used++] = letter->text[i];
    }
    memcpy(text + used, ".\r\n", 3);
    enum mail_result end = say(state, text, used + 3, 250, "the message");
    free(text);
    return end;
}

static enum mail_result transaction(struct dialog_state *state,
                                    const struct mail_letter *letter)
{
    enum mail_result end = say_address(state, "MAIL FROM", letter->from, "MAIL");

    if (end == MAIL_DONE)
        end = say_address(state, "RCPT TO", letter->to, "RCPT");
    if (end == MAIL_DONE)
        end = say(state, "DATA\r\n", 6, 354, "DATA");
    if (end == MAIL_DONE)
        end = say_text(state, letter);
    return end;
}

enum mail_result mail_send(const struct mail_server *server,
                           const struct mail_letter *letter, struct mail_call *call,
                           struct mail_sent *sent)
{
    struct dialog_state *state = calloc(1, sizeof(*state));

    *sent = (struct mail_sent){ 0 };
    if (!state) {
        snprintf(call->error, sizeof(call->error), "out of memory");
        return MAIL_NETWORK;
    }
    state->call = call;
    enum mail_result end =
        mail_stream_open(server, call, "smtp", letter->helo, &state->stream);
    if (end == MAIL_DONE) {
        sent->connected = mail_stream_greeted(state->stream);
        end = transaction(state, letter);
        sent->code = state->reply.code;
        if (end == MAIL_DONE)
            sent->accepted = clock_ms();
        if (end == MAIL_DONE || end == MAIL_LATER || end == MAIL_REFUSED) {
            struct mail_call quit = { .until = call->until };
            (void)mail_stream_write(state->stream, &quit, "QUIT\r\n", 6);
        }
    }
    mail_stream_close(state->stream);
    free(state);
    return end;
}
