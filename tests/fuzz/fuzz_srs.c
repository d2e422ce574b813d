/*
 * SRS: a rewritten address comes back as it was, from any sender that could be
 * rewritten, and a changed one does not; an address of anybody's making is never
 * taken for one of ours without its hash.
 *
 * Sources: lib/srs.c lib/addr.c
 * Libraries: libcrypto libidn2
 */
#include "../../lib/srs.h"
#include "fuzz.h"

#define NOW 1700000000

static const char *const secrets[] = { "first secret", "second secret", NULL };
static const char *const others[] = { "another's secret", NULL };
static const struct srs_keys keys = { "srs.example", secrets };
static const struct srs_keys foreign = { "srs.example", others };

static void check_forward(const char *sender)
{
    char rewritten[ADDR_TEXT_MAX + 1], back[ADDR_TEXT_MAX + 1];

    if (srs_forward(&keys, sender, NOW, rewritten) != SRS_DONE)
        return;
    HOLDS(srs_is_address(keys.domain, rewritten));
    HOLDS(srs_reverse(&keys, rewritten, NOW + 86400, back) == SRS_DONE);
    HOLDS(strlen(back) > 0);
    /* One rewritten here and for a second time by another comes back in steps;
     * a first one at once, as it was but for the case of its domain. */
    struct addr before, after;
    if (strncmp(rewritten, "SRS0", 4) == 0 &&
        addr_parse(sender, strlen(sender), &before) == ADDR_OK) {
        HOLDS(addr_parse(back, strlen(back), &after) == ADDR_OK);
        HOLDS(strcmp(before.local, after.local) == 0);
        HOLDS(strcmp(before.domain, after.domain) == 0);
    }
    /* 24 bits of hash: that these are the same is a rare chance, not a fault. */
    char forged[ADDR_TEXT_MAX + 1];
    if (srs_forward(&foreign, sender, NOW, forged) == SRS_DONE &&
        strncmp(forged, rewritten, 9) != 0)
        HOLDS(srs_reverse(&keys, forged, NOW, back) == SRS_FORGED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1), out[ADDR_TEXT_MAX + 1];

    HOLDS(text);
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    enum srs_status status = srs_reverse(&keys, text, NOW, out);
    if (status == SRS_DONE)
        HOLDS(srs_is_address(keys.domain, text) && memchr(out, '\0', sizeof(out)));
    HOLDS(srs_status_name(status));
    check_forward(text);
    free(text);
    return 0;
}
