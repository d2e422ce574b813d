/*
 * policy: parsing and answers of Postfix's policy delegation protocol.
 *
 * Protocol: SMTPD_POLICY_README. Only three attributes are read: request,
 * protocol_state and recipient; the others are counted and skipped, so a newer
 * Postfix may send more. An attribute that is read must not come twice: which
 * of the two would Postfix mean?
 *
 * Malformed, and so answered by closing the connection (Postfix then applies
 * smtpd_policy_service_default_action): a line without "=" or without a name, a
 * NUL byte, a request that is none of smtpd_access_policy, anything past the
 * limits of policy.h.
 *
 * Answers: DUNNO for all that is not a recipient of a locked or unknown
 * mailbox. DEFER_IF_PERMIT, never DEFER: a restriction that rejects for good
 * keeps its say.
 */
#include "policy.h"

#include <string.h>

void policy_reset(struct policy_request *request)
{
    memset(request, 0, offsetof(struct policy_request, recipient));
}

static bool is_name(const char *line, size_t name_len, const char *name)
{
    return strlen(name) == name_len && memcmp(line, name, name_len) == 0;
}

static bool take_recipient(struct policy_request *request, const char *value, size_t len)
{
    if (request->has_recipient)
        return false;
    request->has_recipient = true;
    request->recipient_len = len;
    memcpy(request->recipient, value, len); /* a line is shorter than this */
    return true;
}

static bool take_state(struct policy_request *request, const char *value, size_t len)
{
    if (request->has_state)
        return false;
    request->has_state = true;
    request->state = is_name(value, len, "RCPT") ? POLICY_STATE_RCPT : POLICY_STATE_OTHER;
    return true;
}

static bool take_request(struct policy_request *request, const char *value, size_t len)
{
    if (request->is_access_policy)
        return false;
    request->is_access_policy = is_name(value, len, "smtpd_access_policy");
    return request->is_access_policy;
}

static bool take_line(struct policy_request *request, const char *line, size_t len)
{
    const char *equals = memchr(line, '=', len);
    if (!equals || equals == line || ++request->attributes > POLICY_ATTRIBUTES_MAX ||
        memchr(line, '\0', len))
        return false;
    size_t name_len = (size_t)(equals - line);
    const char *value = equals + 1;
    size_t value_len = len - name_len - 1;

    if (is_name(line, name_len, "recipient"))
        return take_recipient(request, value, value_len);
    if (is_name(line, name_len, "protocol_state"))
        return take_state(request, value, value_len);
    if (is_name(line, name_len, "request"))
        return take_request(request, value, value_len);
    return true;
}

enum policy_parse policy_parse(struct policy_request *request, const char *buf,
                               size_t len, size_t *consumed)
{
    *consumed = 0;
    for (;;) {
        const char *line = buf + *consumed;
        size_t rest = len - *consumed;
        const char *end = memchr(line, '\n', rest);
        size_t line_len = end ? (size_t)(end - line) : rest;
        if (line_len > POLICY_LINE_MAX || request->size + line_len > POLICY_REQUEST_MAX)
            return POLICY_BAD;
        if (!end)
            return POLICY_MORE;
        *consumed += line_len + 1;
        request->size += line_len + 1;
        if (line_len == 0)
            return request->is_access_policy ? POLICY_DONE : POLICY_BAD;
        if (!take_line(request, line, line_len))
            return POLICY_BAD;
    }
}

bool policy_wants_verdict(const struct policy_request *request)
{
    return request->state == POLICY_STATE_RCPT && request->recipient_len > 0;
}

const char *policy_answer(enum verdict verdict, enum conf_hold hold, size_t *len)
{
    const char *answer = "action=DUNNO\n\n";
    if (verdict == VERDICT_LATER)
        answer = "action=DEFER_IF_PERMIT 4.3.0 try again later\n\n";
    else if (verdict == VERDICT_HOLD && hold == HOLD_DEFER)
        answer = "action=DEFER_IF_PERMIT 4.2.1 mailbox is being moved\n\n";
    *len = strlen(answer);
    return answer;
}
