/*
 * TSIG key files: what is taken for a key has a name, a known algorithm and a
 * secret in base64, and is the same key when it is written as "kdig -y" has it.
 *
 * Sources: cutover/dns_key.c lib/dnsrecord.c
 */
#include <strings.h>

#include "../../cutover/dns_key.h"
#include "fuzz.h"

/* Names that are also words of the other forms. */
static bool is_word(const char *name)
{
    return strcasecmp(name, "secret") == 0 || strcasecmp(name, "id") == 0 ||
           strcasecmp(name, "key") == 0 || strcasecmp(name, "algorithm") == 0;
}

static void check_key(const struct dns_key *key)
{
    struct dns_key again;
    char text[sizeof(*key) + 8];
    size_t len = strlen(key->secret);
    HOLDS(key->name[0] && strncmp(key->algorithm, "hmac-sha", 8) == 0);
    HOLDS(len >= 4 && len % 4 == 0);
    if (is_word(key->name))
        return;
    snprintf(text, sizeof(text), "%s:%s:%s", key->algorithm, key->name, key->secret);
    /* "//" at the beginning of a word is a comment there. */
    if (key->secret[0] == '/' && key->secret[1] == '/')
        return;
    HOLDS(dns_key_parse(text, &again) == NULL);
    HOLDS(strcmp(again.name, key->name) == 0);
    HOLDS(strcmp(again.algorithm, key->algorithm) == 0);
    HOLDS(strcmp(again.secret, key->secret) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = { data, size };
    struct dns_key key;
    char *text = malloc(size + 1);
    HOLDS(text);
    take_text(&input, text, size + 1);
    const char *wrong = dns_key_parse(text, &key);
    if (!wrong)
        check_key(&key);
    else
        HOLDS(wrong[0]);
    dns_key_forget(&key);
    free(text);
    return 0;
}
