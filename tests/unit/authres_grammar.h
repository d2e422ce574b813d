/*
 * authres_grammar: whether a text is an authres-payload of RFC 8601 2.2, by a
 * second reader that shares nothing with milter/authres.c. Strict: folding is LF
 * and a blank, no line of blanks alone, none over 998 bytes, no obsolete forms.
 */
#ifndef SLUICE_TESTS_AUTHRES_GRAMMAR_H
#define SLUICE_TESTS_AUTHRES_GRAMMAR_H

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Each reader returns what is behind the thing, or NULL: it is not there. */

static inline const char *grammar_fws(const char *p)
{
    const char *start = p;
    while (*p == ' ' || *p == '\t')
        p++;
    if (*p == '\n' && (p[1] == ' ' || p[1] == '\t'))
        for (p++; *p == ' ' || *p == '\t';)
            p++;
    return p > start ? p : NULL;
}

static inline const char *grammar_comment(const char *p)
{
    int depth = 0;
    do {
        const char *blanks = grammar_fws(p);
        if (blanks) {
            p = blanks;
            continue;
        }
        if (*p == '\\')
            p++;
        else if (*p == '(')
            depth++;
        else if (*p == ')')
            depth--;
        if ((unsigned char)*p <= ' ' || *p == 0x7f)
            return NULL;
        p++;
    } while (depth > 0);
    return p;
}

static inline const char *grammar_cfws(const char *p) /* optional */
{
    for (;;) {
        const char *next = *p == '(' ? grammar_comment(p) : grammar_fws(p);
        if (!next)
            return p;
        p = next;
    }
}

static inline const char *grammar_quoted(const char *p)
{
    if (*p++ != '"')
        return NULL;
    while (*p != '"') {
        const char *blanks = grammar_fws(p);
        if (blanks) {
            p = blanks;
            continue;
        }
        if (*p == '\\')
            p++;
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return NULL;
        p++;
    }
    return p + 1;
}

static inline const char *grammar_token(const char *p)
{
    const char *start = p;
    while (*p > ' ' && *p < 0x7f && !strchr("()<>@,;:\\\"/[]?=", *p))
        p++;
    return p > start ? p : NULL;
}

static inline const char *grammar_value(const char *p)
{
    return *p == '"' ? grammar_quoted(p) : grammar_token(p);
}

static inline const char *grammar_keyword(const char *p)
{
    const char *start = p;
    while (isalnum((unsigned char)*p) || *p == '-')
        p++;
    return p > start && p[-1] != '-' ? p : NULL;
}

static inline const char *grammar_domain(const char *p)
{
    for (int labels = 1;; labels++) {
        if (!(p = grammar_keyword(p)) || *p != '.')
            return p && labels > 1 ? p : NULL;
        p++;
    }
}

static inline const char *grammar_dot_string(const char *p)
{
    for (;; p++) {
        const char *start = p;
        while (isalnum((unsigned char)*p) || (*p && strchr("!#$%&'*+-/=?^_`{|}~", *p)))
            p++;
        if (p == start || *p != '.')
            return p > start ? p : NULL;
    }
}

static inline bool grammar_ends_pvalue(const char *p)
{
    return p && (!*p || *p == ' ' || *p == '\t' || *p == '\n' || *p == ';' || *p == '(');
}

static inline const char *grammar_pvalue(const char *p)
{
    const char *value = grammar_value(p), *local = p;
    if (grammar_ends_pvalue(value))
        return value;
    if (*p != '@')
        local = *p == '"' ? grammar_quoted(p) : grammar_dot_string(p);
    if (!local || *local != '@')
        return NULL;
    p = grammar_domain(local + 1);
    return grammar_ends_pvalue(p) ? p : NULL;
}

static inline const char *grammar_equals(const char *p)
{
    p = grammar_cfws(p);
    return *p == '=' ? grammar_cfws(p + 1) : NULL;
}

/* methodspec [reasonspec] *propspec, up to ';' or the end */
static inline const char *grammar_resinfo(const char *p)
{
    bool reason = true;
    if (!(p = grammar_keyword(grammar_cfws(p))) || !(p = grammar_equals(p)) ||
        !(p = grammar_keyword(p)))
        return NULL;
    for (;; reason = false) {
        const char *next = grammar_cfws(p);
        if (!*next || *next == ';')
            return next;
        if (next == p) /* CFWS between them */
            return NULL;
        p = next;
        if (reason && strncmp(p, "reason", 6) == 0 && (next = grammar_equals(p + 6))) {
            if (!(p = grammar_value(next)))
                return NULL;
            continue;
        }
        if (!(p = grammar_keyword(p)) || *(p = grammar_cfws(p)) != '.' ||
            !(p = grammar_keyword(grammar_cfws(p + 1))) || !(p = grammar_equals(p)) ||
            !(p = grammar_pvalue(p)))
            return NULL;
    }
}

static inline bool grammar_lines(const char *text)
{
    for (const char *line = text;;) {
        size_t len = strcspn(line, "\n");
        if (len > 998 || strspn(line, " \t") == len)
            return false;
        if (!line[len])
            return true;
        line += len + 1;
    }
}

static inline bool grammar_authres(const char *text)
{
    const char *p = grammar_value(grammar_cfws(text));

    if (!grammar_lines(text) || !p)
        return false;
    p = grammar_cfws(p);
    if (isdigit((unsigned char)*p)) {
        while (isdigit((unsigned char)*p))
            p++;
        p = grammar_cfws(p);
    }
    if (*p != ';')
        return false;
    const char *none = grammar_cfws(p + 1);
    if (strncmp(none, "none", 4) == 0 && !*grammar_cfws(none + 4))
        return true;
    while (*p == ';')
        if (!(p = grammar_resinfo(p + 1)))
            return false;
    return !*p;
}

#endif
