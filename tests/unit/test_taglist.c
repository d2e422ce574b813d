/* Tag lists of RFC 6376 3.2: what is one, and what not. */
#include <stdlib.h>

#include "../../lib/taglist.h"
#include "unit.h"

/* "name|value" of each tag, one after the other, white space in values as it
 * is; NULL: malformed, and why. */
static void check(const char *text, size_t len, const char *want, const char *want_why)
{
    char *exact = malloc(len ? len : 1); /* so that a read past the end is seen */
    char got[1024] = "";
    struct taglist list;
    const char *why = "";

    memcpy(exact, text, len);
    bool ok = taglist_parse(exact, len, &list, &why);
    for (size_t i = 0; ok && i < list.count; i++) {
        size_t used = strlen(got);
        int n = snprintf(got + used, sizeof(got) - used, "%s%.*s|%.*s", i ? ";" : "",
                         (int)list.tags[i].name_len, list.tags[i].name,
                         (int)list.tags[i].value_len, list.tags[i].value);
        CU_ASSERT(n > 0 && (size_t)n < sizeof(got) - used);
    }
    CHECK_INT(text, ok, want != NULL);
    if (want)
        CHECK_STR(text, got, want);
    else
        CHECK_STR(text, why, want_why);
    free(exact);
}

static void test_lists(void)
{
    static const struct {
        const char *text, *want, *why;
    } cases[] = {
        { "v=1", "v|1", NULL },
        { "v=1;", "v|1", NULL },
        { "v=1; ", "v|1", NULL },
        { "v=1;\r\n ", "v|1", NULL },
        { "v=1;\n\t", "v|1", NULL },
        { " v = 1 ; a = b ", "v|1;a|b", NULL },
        { "v=1;a=rsa-sha256;b=", "v|1;a|rsa-sha256;b|", NULL },
        { "v=;a=x", "v|;a|x", NULL },
        { "v= ;a=x", "v|;a|x", NULL },
        { "h=from : to", "h|from : to", NULL },
        { "b=abc\r\n def", "b|abc\r\n def", NULL },
        { "b=abc\n\tdef\n ;c=x", "b|abc\n\tdef;c|x", NULL },
        { "b=\r\n abc", "b|abc", NULL },
        { "p=a=b==", "p|a=b==", NULL },
        { "V=1;v=2", "V|1;v|2", NULL }, /* tag names are case-sensitive */
        { "x_1y=0", "x_1y|0", NULL },
        { "v=DKIM1; k=rsa; p=", "v|DKIM1;k|rsa;p|", NULL },
        { "n=!\"#$%&'()*+,-./:<=>?@[\\]^_`{|}~", "n|!\"#$%&'()*+,-./:<=>?@[\\]^_`{|}~",
          NULL },
        { "", NULL, "no tag name where one should be" },
        { " ", NULL, "no tag name where one should be" },
        { ";", NULL, "no tag name where one should be" },
        { "v=1;;a=b", NULL, "no tag name where one should be" },
        { ";v=1", NULL, "no tag name where one should be" },
        { "=1", NULL, "no tag name where one should be" },
        { "1v=1", NULL, "no tag name where one should be" },
        { "_v=1", NULL, "no tag name where one should be" },
        { "v", NULL, "a tag without \"=\"" },
        { "v;", NULL, "a tag without \"=\"" },
        { "v=1;a", NULL, "a tag without \"=\"" },
        { "v w=1", NULL, "a tag without \"=\"" },
        { "v-w=1", NULL, "a tag without \"=\"" },
        { "v=1;a=2;v=1", NULL, "a tag twice" },
        { "v=1\r\n;a=2", NULL, "a control character" }, /* no blank after it */
        { "v=1\n", NULL, "a control character" },
        { "v=1\r", NULL, "a control character" },
        { "v=1\r x", NULL, "a control character" },
        { "v=1\n\n x", NULL, "a control character" },
        { "v=a\vb", NULL, "a control character" },
        { "v=a\x7f", NULL, "a control character" },
        { "d=ex\xc3\xa4mple.org", NULL, "a byte that is not ASCII" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check(cases[i].text, strlen(cases[i].text), cases[i].want, cases[i].why);
    check("v=1\0;a=2", 8, NULL, "a control character");
}

static void test_limit(void)
{
    char text[8 * (TAGS_MAX + 1) + 1];
    struct taglist list;
    const char *why = "";
    size_t used = 0;

    for (int i = 0; i <= TAGS_MAX; i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "t%d=x;", i);
    CHECK_INT("one tag too many", taglist_parse(text, used, &list, &why), false);
    CHECK_STR("why", why, "too many tags");
    char *last = strstr(text, "t63=");
    CHECK_INT("as many as may be",
              taglist_parse(text, (size_t)(last - text) + 6, &list, &why), true);
    CHECK_INT("how many", list.count, TAGS_MAX);
}

static void test_find(void)
{
    static const char text[] = "bh=1; b=2; B=3; empty=";
    struct taglist list;
    const char *why;

    CU_ASSERT_FATAL(taglist_parse(text, strlen(text), &list, &why));
    const struct tag *b = taglist_find(&list, "b");
    CHECK_INT("b", b && b->value_len == 1 && b->value[0] == '2', 1);
    CHECK_INT("bh", taglist_find(&list, "bh") == &list.tags[0], 1);
    CHECK_INT("empty", taglist_find(&list, "empty")->value_len, 0);
    CHECK_INT("none", taglist_find(&list, "c") == NULL, 1);
    CHECK_INT("no name", taglist_find(&list, "") == NULL, 1);
}

/* Anything may come in; nothing may be read past its end. */
static void test_garbage(void)
{
    static const char alphabet[] = "ab=;; \t\r\n\n v1\x80";
    unsigned seed = 6376;

    for (int round = 0; round < 100000; round++) {
        struct taglist list;
        const char *why = NULL;
        size_t len = (size_t)rand_r(&seed) % 40;
        char *text = malloc(len ? len : 1);
        for (size_t i = 0; i < len; i++)
            text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof(alphabet) - 1)];
        bool ok = taglist_parse(text, len, &list, &why);
        if (ok ? list.count == 0 : why == NULL) {
            printf("\n  \"%.*s\"\n", (int)len, text);
            CU_FAIL("garbage");
        }
        for (size_t i = 0; ok && i < list.count; i++)
            if (list.tags[i].value < text ||
                list.tags[i].value + list.tags[i].value_len > text + len)
                CU_FAIL("outside of the text");
        free(text);
    }
}

UNIT_MAIN("taglist", { "lists", test_lists }, { "limit", test_limit },
          { "find", test_find }, { "garbage", test_garbage })
