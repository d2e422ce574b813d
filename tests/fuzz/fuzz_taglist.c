/*
 * Tag lists: what is accepted, written again from its tags, is accepted again
 * with the same tags; none is there twice.
 *
 * Sources: lib/taglist.c
 */
#include "../../lib/taglist.h"
#include "fuzz.h"

static size_t write_again(const struct taglist *list, char *out)
{
    char *p = out;

    for (size_t i = 0; i < list->count; i++) {
        const struct tag *tag = &list->tags[i];
        memcpy(p, tag->name, tag->name_len);
        p += tag->name_len;
        *p++ = '=';
        if (tag->value_len > 0)
            memcpy(p, tag->value, tag->value_len);
        p += tag->value_len;
        *p++ = ';';
    }
    return (size_t)(p - out);
}

static void check_tags(const struct taglist *list, const char *text, size_t size)
{
    char name[256];

    HOLDS(list->count <= TAGS_MAX);
    for (size_t i = 0; i < list->count; i++) {
        const struct tag *tag = &list->tags[i];
        HOLDS(tag->name >= text && tag->name_len > 0);
        HOLDS(tag->name + tag->name_len <= text + size);
        HOLDS(tag->value >= text && tag->value + tag->value_len <= text + size);
        if (tag->name_len < sizeof(name)) {
            memcpy(name, tag->name, tag->name_len);
            name[tag->name_len] = '\0';
            HOLDS(taglist_find(list, name) == tag);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct taglist list, second;
    const char *why = NULL;
    char *text = exact_copy(data, size);

    if (taglist_parse(text, size, &list, &why)) {
        check_tags(&list, text, size);
        char *again = malloc(size + 2 * TAGS_MAX);
        HOLDS(again);
        size_t len = write_again(&list, again);
        HOLDS(list.count == 0 || taglist_parse(again, len, &second, &why));
        HOLDS(list.count == 0 || second.count == list.count);
        for (size_t i = 0; i < list.count; i++) {
            const struct tag *a = &list.tags[i], *b = &second.tags[i];
            HOLDS(a->value_len == b->value_len);
            HOLDS(a->value_len == 0 || memcmp(a->value, b->value, a->value_len) == 0);
        }
        free(again);
    } else {
        HOLDS(why && why[0]);
    }
    free(text);
    return 0;
}
