/* policy: requests whole and in pieces, what is malformed, and the answers. */
#include <stdlib.h>

#include "../../policyd/policy.h"
#include "unit.h"

static struct policy_request request;

static const char *result_name(enum policy_parse result)
{
    static const char *const names[] = { "done", "more", "bad" };
    return names[result];
}

/* Parses all of text, given in pieces of at most step bytes. */
static enum policy_parse parse_in_steps(const char *text, size_t len, size_t step,
                                        size_t *used)
{
    size_t have = 0;
    *used = 0;
    policy_reset(&request);
    for (;;) {
        size_t consumed;
        have = have + step < len ? have + step : len;
        enum policy_parse result =
            policy_parse(&request, text + *used, have - *used, &consumed);
        *used += consumed;
        if (result != POLICY_MORE || have == len)
            return result;
    }
}

#define HEAD "request=smtpd_access_policy\n"

static void test_requests(void)
{
    static const struct {
        const char *text, *result, *recipient;
        bool wants;
    } cases[] = {
        { HEAD "protocol_state=RCPT\nrecipient=a@b.example\n\n", "done", "a@b.example",
          true },
        { "protocol_state=RCPT\nrecipient=a@b.example\n" HEAD "\n", "done", "a@b.example",
          true },
        { HEAD "protocol_state=RCPT\nrecipient=\n\n", "done", "", false },
        { HEAD "protocol_state=RCPT\n\n", "done", "", false },
        { HEAD "protocol_state=DATA\nrecipient=a@b.example\n\n", "done", "a@b.example",
          false },
        { HEAD "protocol_state=END-OF-MESSAGE\nrecipient=a@b.example\n\n", "done",
          "a@b.example", false },
        { HEAD "protocol_state=rcpt\nrecipient=a@b.example\n\n", "done", "a@b.example",
          false },
        { HEAD "new_in_4.0=a=b=c\nprotocol_state=RCPT\nrecipient=\"a b\"@c.example\n\n",
          "done", "\"a b\"@c.example", true },
        { HEAD "\n", "done", "", false },
        { "", "more", "", false },
        { HEAD "recipient=a@b.exam", "more", "", false },
        { HEAD "recipient=a@b.example\n", "more", "a@b.example", false },
        /* malformed */
        { "\n", "bad", "", false },
        { "recipient=a@b.example\n\n", "bad", "a@b.example", false },
        { "request=something_else\n\n", "bad", "", false },
        { HEAD HEAD "\n", "bad", "", false },
        { HEAD "no equals sign\n\n", "bad", "", false },
        { HEAD "=value\n\n", "bad", "", false },
        { HEAD "\r\n\r\n", "bad", "", false },
        { HEAD "recipient=a@b.example\nrecipient=c@d.example\n\n", "bad", "a@b.example",
          false },
        { HEAD "protocol_state=RCPT\nprotocol_state=DATA\n\n", "bad", "", true },
        { "EHLO client.example\r\n", "bad", "", false },
    };
    static const size_t steps[] = { 1, 2, 7, 100000 };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++) {
            size_t used, len = strlen(cases[i].text);
            enum policy_parse result =
                parse_in_steps(cases[i].text, len, steps[s], &used);
            CHECK_STR(cases[i].text, result_name(result), cases[i].result);
            if (result != POLICY_DONE)
                continue;
            char recipient[POLICY_LINE_MAX + 1];
            memcpy(recipient, request.recipient, request.recipient_len);
            recipient[request.recipient_len] = '\0';
            CHECK_INT(cases[i].text, used, len);
            CHECK_STR(cases[i].text, recipient, cases[i].recipient);
            CHECK_INT(cases[i].text, policy_wants_verdict(&request), cases[i].wants);
        }
}

static void test_nul_byte(void)
{
    static const char text[] = HEAD "recipient=a\0b@c.example\n\n";
    size_t used;
    CHECK_STR("NUL", result_name(parse_in_steps(text, sizeof(text) - 1, 64, &used)),
              "bad");
}

static void test_pipelined(void)
{
    static const char text[] =
        HEAD "protocol_state=RCPT\nrecipient=a@b\n\n" HEAD "protocol_state=DATA\n\n";
    size_t used, first = strlen(HEAD "protocol_state=RCPT\nrecipient=a@b\n\n");
    enum policy_parse result = parse_in_steps(text, strlen(text), 10000, &used);
    CHECK_STR("first", result_name(result), "done");
    CHECK_INT("first ends before the second", used, first);
    policy_reset(&request);
    result = policy_parse(&request, text + used, strlen(text) - used, &used);
    CHECK_STR("second", result_name(result), "done");
    CHECK_INT("the second has no recipient of the first", request.recipient_len, 0);
    CHECK_INT("nor its state", request.state, POLICY_STATE_OTHER);
}

/* A request of `lines` lines "x=yyy" of `width` bytes each, without its end. */
static char *many_lines(size_t lines, size_t width, size_t *len)
{
    char *text = malloc(sizeof(HEAD) + lines * width + 1);
    if (!text)
        abort();
    memcpy(text, HEAD, sizeof(HEAD));
    *len = sizeof(HEAD) - 1;
    for (size_t i = 0; i < lines; i++) {
        memset(text + *len, 'y', width);
        memcpy(text + *len, "x=", 2);
        text[*len + width - 1] = '\n';
        *len += width;
    }
    text[*len] = '\n';
    return text;
}

static void test_limits(void)
{
    static const struct {
        size_t lines, width;
        const char *result;
    } cases[] = {
        { 1, POLICY_LINE_MAX + 1, "done" }, /* with its LF */
        { 1, POLICY_LINE_MAX + 2, "bad" },
        { POLICY_ATTRIBUTES_MAX - 1, 8, "done" },
        { POLICY_ATTRIBUTES_MAX, 8, "bad" },
        { 15, 4097, "done" },
        { 17, 4097, "bad" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char what[64];
        size_t used, len;
        char *text = many_lines(cases[i].lines, cases[i].width, &len);
        snprintf(what, sizeof(what), "%zu lines of %zu", cases[i].lines, cases[i].width);
        CHECK_STR(what, result_name(parse_in_steps(text, len + 1, 1000, &used)),
                  cases[i].result);
        free(text);
    }
}

static void test_endless_line(void)
{
    static char text[POLICY_LINE_MAX + 2];
    size_t used;
    memset(text, 'x', sizeof(text));
    CHECK_STR("at the limit",
              result_name(parse_in_steps(text, POLICY_LINE_MAX, 1000, &used)), "more");
    CHECK_STR("past it",
              result_name(parse_in_steps(text, POLICY_LINE_MAX + 1, 1000, &used)), "bad");
}

static void test_answers(void)
{
    static const char dunno[] = "action=DUNNO\n\n";
    static const char moved[] = "action=DEFER_IF_PERMIT 4.2.1 mailbox is being moved\n\n";
    static const char later[] = "action=DEFER_IF_PERMIT 4.3.0 try again later\n\n";
    static const struct {
        enum verdict verdict;
        const char *queue, *defer; /* answers for the two values of hold */
    } cases[] = {
        { VERDICT_NONE, dunno, dunno },     { VERDICT_DELIVER, dunno, dunno },
        { VERDICT_HOLD, dunno, moved },     { VERDICT_FORWARD, dunno, dunno },
        { VERDICT_REDIRECT, dunno, dunno }, { VERDICT_LATER, later, later },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len;
        const char *name = verdict_name(cases[i].verdict);
        CHECK_STR(name, policy_answer(cases[i].verdict, HOLD_QUEUE, &len),
                  cases[i].queue);
        CHECK_INT(name, len, strlen(cases[i].queue));
        CHECK_STR(name, policy_answer(cases[i].verdict, HOLD_DEFER, &len),
                  cases[i].defer);
        CHECK_INT(name, len, strlen(cases[i].defer));
    }
}

UNIT_MAIN("policy", { "requests", test_requests }, { "a NUL byte", test_nul_byte },
          { "pipelined requests", test_pipelined }, { "limits", test_limits },
          { "an endless line", test_endless_line }, { "answers", test_answers })
