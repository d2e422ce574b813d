/*
 * taglist: one pass over the text, RFC 6376 3.2 to the letter:
 *
 *   tag-list  = tag-spec *( ";" tag-spec ) [ ";" ]
 *   tag-spec  = [FWS] tag-name [FWS] "=" [FWS] tag-value [FWS]
 *   tag-name  = ALPHA *( ALPHA / DIGIT / "_" )
 *   tag-value = visible ASCII but ";", with FWS between, or nothing
 *
 * and, as all verifiers do, white space after a final ";". A bare LF before a
 * blank counts as CR LF, since a milter gets header fields that way. What is in
 * UTF-8 (RFC 8616) is malformed here: libopendkim cannot read it either.
 */
#include "taglist.h"

#include <string.h>

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_name(char c)
{
    return is_alpha(c) || (c >= '0' && c <= '9') || c == '_';
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* How many bytes at text are a line break that white space follows: 0, 1, 2. */
static size_t fold(const char *text, const char *end)
{
    size_t n = text < end && *text == '\r' ? 1 : 0;

    if (text + n < end && text[n] == '\n')
        n++;
    else
        return 0;
    return text + n < end && is_blank(text[n]) ? n : 0;
}

static const char *skip_fws(const char *text, const char *end)
{
    for (;;) {
        size_t n = fold(text, end);
        if (n == 0 && (text == end || !is_blank(*text)))
            return text;
        text += n + 1;
    }
}

/* The value from text on; NULL: a byte that no value may have. */
static const char *read_value(const char *text, const char *end, struct tag *tag,
                              const char **why)
{
    const char *last;

    tag->value = last = text = skip_fws(text, end);
    while (text < end && *text != ';') {
        const char *next = skip_fws(text, end);
        if (next != text) {
            text = next;
            continue;
        }
        unsigned char c = (unsigned char)*text;
        if (c < 0x21 || c > 0x7e) {
            *why = c > 0x7f ? "a byte that is not ASCII" : "a control character";
            return NULL;
        }
        last = ++text;
    }
    tag->value_len = (size_t)(last - tag->value);
    return text;
}

static const char *read_tag(const char *text, const char *end, struct tag *tag,
                            const char **why)
{
    tag->name = text;
    if (text == end || !is_alpha(*text)) {
        *why = "no tag name where one should be";
        return NULL;
    }
    while (text < end && is_name(*text))
        text++;
    tag->name_len = (size_t)(text - tag->name);
    text = skip_fws(text, end);
    if (text == end || *text != '=') {
        *why = "a tag without \"=\"";
        return NULL;
    }
    return read_value(text + 1, end, tag, why);
}

static bool is_there(const struct taglist *list, const struct tag *tag)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->tags[i].name_len == tag->name_len &&
            memcmp(list->tags[i].name, tag->name, tag->name_len) == 0)
            return true;
    return false;
}

bool taglist_parse(const char *text, size_t len, struct taglist *out, const char **why)
{
    const char *end = text + len;
    struct tag tag;

    out->count = 0;
    text = skip_fws(text, end);
    do {
        if (!(text = read_tag(text, end, &tag, why)))
            return false;
        if (is_there(out, &tag)) {
            *why = "a tag twice";
            return false;
        }
        if (out->count == TAGS_MAX) {
            *why = "too many tags";
            return false;
        }
        out->tags[out->count++] = tag;
        if (text < end) /* at the ';' */
            text = skip_fws(text + 1, end);
    } while (text < end);
    return true;
}

const struct tag *taglist_find(const struct taglist *list, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < list->count; i++)
        if (list->tags[i].name_len == len && memcmp(list->tags[i].name, name, len) == 0)
            return &list->tags[i];
    return NULL;
}
