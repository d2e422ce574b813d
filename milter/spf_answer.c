/*
 * DNS answers as SPF reads them: which TXT record is the SPF record (RFC 7208
 * 4.5), names in MX and PTR records and how many of them count (4.6.4).
 *
 * A TXT record is joined here and not by dns_txt(), for which a NUL in it is
 * malformed: in an SPF record it is one more byte that the grammar refuses, and
 * in another TXT record it is none of ours.
 */
#include "spf_answer.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "dnsdata.h"

/* ---- the record --------------------------------------------------------- */

/* As much of the joined strings as fits; how much there is. -1: malformed. */
static long join(const struct answer_record *record, char *out, size_t size)
{
    size_t total = 0, used = 0;

    for (size_t at = 0; at < record->len;) {
        size_t part = record->data[at++];
        if (part > record->len - at)
            return -1;
        size_t room = size - used < part ? size - used : part;
        memcpy(out + used, record->data + at, room);
        used += room;
        total += part;
        at += part;
    }
    return (long)total;
}

bool spf_join(const struct answer_record *record, char *out, size_t size, size_t *len)
{
    long total = join(record, out, size - 1);

    if (total < 0 || (size_t)total > size - 1)
        return false;
    out[total] = '\0';
    *len = (size_t)total;
    return true;
}

static bool is_spf(const struct answer_record *record)
{
    char start[7]; /* "v=spf1" and what follows */
    long total = join(record, start, sizeof(start));

    return total > 0 &&
           spf_record_is(start,
                         (size_t)total < sizeof(start) ? (size_t)total : sizeof(start));
}

static enum spf_load choose(const struct answer *answer,
                            const struct answer_record **chosen, char *why, size_t size)
{
    *chosen = NULL;
    if (answer->kind == ANSWER_FAILED) {
        snprintf(why, size, "%s", answer->trouble ? answer->trouble : "DNS failed");
        return SPF_LOAD_TEMPERROR;
    }
    for (size_t i = 0; answer->kind == ANSWER_DATA && i < answer->count; i++) {
        if (!is_spf(&answer->records[i]))
            continue;
        if (*chosen) {
            snprintf(why, size, "more than one SPF record");
            return SPF_LOAD_PERMERROR;
        }
        *chosen = &answer->records[i];
    }
    if (*chosen)
        return SPF_LOADED;
    snprintf(why, size, "no SPF record");
    return SPF_LOAD_NONE;
}

enum spf_load spf_load(const struct answer *answer, struct spf_loaded *out, char *why,
                       size_t why_size)
{
    const struct answer_record *record;
    enum spf_load result = choose(answer, &record, why, why_size);

    if (result != SPF_LOADED)
        return result;
    if (!spf_join(record, out->text, sizeof(out->text), &out->len)) {
        snprintf(why, why_size, "the record is too long");
        return SPF_LOAD_PERMERROR;
    }
    if (!spf_record_parse(out->text, out->len, &out->record, why, why_size))
        return SPF_LOAD_PERMERROR;
    return SPF_LOADED;
}

/* ---- names -------------------------------------------------------------- */

static int escaped_byte(const char *digits)
{
    int byte = 0;

    for (int i = 0; i < 3; i++) {
        if (digits[i] < '0' || digits[i] > '9')
            return -1;
        byte = byte * 10 + (digits[i] - '0');
    }
    return byte;
}

/* dns_name()'s escapes undone. false: a byte that plain text cannot express. */
static bool unescape(const char *name, char out[256])
{
    size_t used = 0;

    while (*name) {
        int c = (unsigned char)*name++;
        if (c == '\\') {
            c = escaped_byte(name);
            if (c <= 0 || c > 255 || c == '.')
                return false;
            name += 3;
        }
        if (used == 255)
            return false;
        out[used++] = (char)c;
    }
    out[used] = '\0';
    return true;
}

static bool add_name(struct spf_names *names, const char *name)
{
    if (names->count == SPF_NAMES_MAX) {
        names->more = true;
        return false;
    }
    if (strcmp(name, ".") != 0 && unescape(name, names->name[names->count]))
        names->count++;
    return true;
}

void spf_exchanges(const struct answer *answer, struct spf_names *out)
{
    char name[DNS_NAME_MAX + 1];
    uint16_t preference;

    out->count = 0;
    out->more = false;
    for (size_t i = 0; answer->kind == ANSWER_DATA && i < answer->count; i++) {
        if (dns_mx(&answer->records[i], &preference, name) && !add_name(out, name))
            return;
    }
}

void spf_pointers(const struct answer *answer, struct spf_names *out)
{
    char name[DNS_NAME_MAX + 1];

    out->count = 0;
    out->more = false;
    for (size_t i = 0; answer->kind == ANSWER_DATA && i < answer->count; i++) {
        const struct answer_record *record = &answer->records[i];
        if (dns_name(record->data, record->len, name) && spf_is_host_name(name) &&
            !add_name(out, name))
            return;
    }
}

bool spf_is_host_name(const char *name)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-_.";
    size_t len = strlen(name);

    return len > 0 && len <= SPF_NAME_MAX && strspn(name, plain) == len &&
           name[0] != '.' && name[len - 1] != '.' && !strstr(name, "..");
}

bool spf_is_below(const char *host, const char *domain)
{
    size_t host_len = strlen(host), len = strlen(domain);

    if (len > host_len || strcasecmp(host + host_len - len, domain) != 0)
        return false;
    return len == host_len || host[host_len - len - 1] == '.';
}
