/*
 * DKIM key records: any record has facts; one that is usable has a key that
 * refuses garbage.
 *
 * Sources: milter/dkimkey.c milter/sigfield.c lib/taglist.c
 * Sources: lib/authresult.c lib/addr.c
 * Libraries: libcrypto libidn2
 */
#include "../../milter/dkimkey.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct dkimkeys *keys;
    static const unsigned char hash[32] = { 1 }, garbage[256] = { 2 };
    char *record = exact_copy(data, size);

    if (!keys)
        keys = dkimkeys_new();
    HOLDS(keys);
    dkimkey_is_record(record, size);
    struct dkimkey *key = dkimkeys_get(keys, record, size);
    HOLDS(key);
    const struct dkimkey_facts *facts = dkimkey_facts(key);
    if (facts->result == AUTH_NONE) {
        HOLDS(facts->ed25519 ||
              (facts->bits >= DKIMKEY_BITS_MIN && facts->bits <= DKIMKEY_BITS_MAX));
        HOLDS(!dkimkey_verify(key, garbage, facts->ed25519 ? 64 : facts->bits / 8, hash,
                              sizeof(hash)));
    } else {
        HOLDS(facts->result != AUTH_PASS && facts->reason && facts->reason[0]);
    }
    dkimkey_drop(key);
    free(record);
    return 0;
}
