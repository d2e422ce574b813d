/*
 * The SPF record parser: what it accepts, written again from its terms, is
 * accepted again and means the same.
 *
 * Sources: lib/spf_record.c lib/spf_macro.c lib/netaddr.c
 */
#include <ctype.h>

#include "../../lib/spf_record.h"
#include "fuzz.h"

static char again[2 * SPF_RECORD_MAX];

static size_t append(size_t used, const char *text, size_t len)
{
    HOLDS(used + len < sizeof(again));
    memcpy(again + used, text, len);
    return used + len;
}

static size_t append_modifier(size_t used, const char *name, const char *text, size_t len)
{
    if (!text)
        return used;
    used = append(used, name, strlen(name));
    return append(used, text, len);
}

static void check_within(const char *part, size_t len, const char *text, size_t size)
{
    if (part)
        HOLDS(part >= text && len <= size && (size_t)(part - text) <= size - len);
}

static size_t write_again(const struct spf_record *record, const char *text, size_t size)
{
    size_t used = append(0, "v=spf1", 6);

    for (size_t i = 0; i < record->count; i++) {
        const struct spf_term *term = &record->terms[i];
        check_within(term->text, term->len, text, size);
        if (term->domain_len > 0)
            check_within(term->domain, term->domain_len, text, size);
        HOLDS(strchr("+-~?", term->qualifier));
        HOLDS(term->bits4 >= 0 && term->bits4 <= 32);
        HOLDS(term->bits6 >= 0 && term->bits6 <= 128);
        used = append(used, "  ", 2);
        used = append(used, term->text, term->len);
    }
    check_within(record->redirect, record->redirect_len, text, size);
    check_within(record->exp, record->exp_len, text, size);
    used = append_modifier(used, " redirect=", record->redirect, record->redirect_len);
    return append_modifier(used, " EXP=", record->exp, record->exp_len);
}

static bool same_text(const char *a, size_t a_len, const char *b, size_t b_len)
{
    return a_len == b_len && (a_len == 0 || memcmp(a, b, a_len) == 0);
}

static void check_same(const struct spf_record *a, const struct spf_record *b)
{
    HOLDS(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        const struct spf_term *s = &a->terms[i], *t = &b->terms[i];
        HOLDS(s->mechanism == t->mechanism && s->qualifier == t->qualifier);
        HOLDS(s->bits4 == t->bits4 && s->bits6 == t->bits6);
        HOLDS(same_text(s->domain, s->domain_len, t->domain, t->domain_len));
        if (s->mechanism == SPF_IP4 || s->mechanism == SPF_IP6)
            HOLDS(netaddr_equal(&s->block.base, &t->block.base) &&
                  s->block.bits == t->block.bits);
    }
    HOLDS(!a->redirect == !b->redirect && !a->exp == !b->exp);
    HOLDS(same_text(a->redirect, a->redirect_len, b->redirect, b->redirect_len));
    HOLDS(same_text(a->exp, a->exp_len, b->exp, b->exp_len));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct spf_record record, second;
    char why[128];
    char *text = exact_copy(data, size);

    memset(why, 'x', sizeof(why));
    bool is = spf_record_is(text, size);
    if (spf_record_parse(text, size, &record, why, sizeof(why))) {
        HOLDS(is && size <= SPF_RECORD_MAX);
        size_t len = write_again(&record, text, size);
        if (len <= SPF_RECORD_MAX) {
            HOLDS(spf_record_parse(again, len, &second, why, sizeof(why)));
            check_same(&record, &second);
        }
    } else {
        HOLDS(memchr(why, '\0', sizeof(why)) && why[0]);
        for (const char *p = why; *p; p++)
            HOLDS(isprint((unsigned char)*p));
    }
    free(text);
    return 0;
}
