/*
 * dns_snap_text: a snapshot as text (see dns_snap.h). Pure.
 *
 *     ; sluice dns snapshot 1
 *     ; domain example.com
 *     ; zone example.com
 *     ; taken 2024-05-31T03:04:05Z
 *     ; negative-ttl 300
 *     ; asked example.com MX
 *     ; back-to 20240530T010203Z
 *     ; writes example.com MX
 *     ;+ example.com. 600 IN MX 10 new.example.com.
 *     example.com. 3600 IN MX 10 mx.example.com.
 *     ; end 1 0123456789abcdef
 *
 * "asked" names every set that was looked at, also one that was not there: the
 * way back removes it again. "back-to" is of apply --back; "writes" names those that
 * sluice dns apply was about to write, ";+" their records; ";*" is
 * what a wildcard made. "end" has the number of
 * records and a hash of all lines before it (an earlier sluice wrote none).
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "dns_snap.h"
#include "fnv.h"

#define HEAD  "; sluice dns snapshot 1"
#define END   "; end "
#define WRITE ";+ "
#define WILD  ";* "

void dns_snap_free(struct dns_snap *snap)
{
    dns_questions_free(&snap->asked);
    dns_sets_free(&snap->sets);
    dns_sets_free(&snap->wild);
    dns_questions_free(&snap->writes);
    dns_sets_free(&snap->written);
}

/* ---- writing -------------------------------------------------------------- */

static void write_questions(FILE *file, const char *key,
                            const struct dns_questions *questions)
{
    for (size_t i = 0; i < questions->count; i++)
        fprintf(file, "; %s %s %s\n", key, questions->items[i].name,
                dns_type_name(questions->items[i].type));
}

/* Returns how many there are. */
static size_t write_sets(FILE *file, const char *before, const struct dns_sets *sets)
{
    static char zone[DNS_ZONE_MAX];
    size_t records = 0;
    for (size_t i = 0; i < sets->count; i++) {
        const struct dns_set *set = &sets->items[i];
        for (size_t v = 0; v < set->count; v++, records++) {
            dns_set_zone(set, v, zone, sizeof(zone));
            fprintf(file, "%s%s. %u IN %s %s\n", before, set->name, (unsigned)set->ttl,
                    dns_type_name(set->type), zone);
        }
    }
    return records;
}

char *dns_snap_format(const struct dns_snap *snap, const char *domain)
{
    char taken[32], *text = NULL;
    size_t size = 0;
    time_t seconds = (time_t)snap->taken;
    struct tm tm = { 0 };
    FILE *file = open_memstream(&text, &size);
    if (!file)
        return NULL;
    gmtime_r(&seconds, &tm);
    if (strftime(taken, sizeof(taken), "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        taken[0] = '\0';
    fprintf(file, HEAD "\n; domain %s\n; zone %s\n; taken %s\n; negative-ttl %u\n",
            domain, snap->zone, taken, (unsigned)snap->negative_ttl);
    write_questions(file, "asked", &snap->asked);
    if (snap->back_to[0])
        fprintf(file, "; back-to %s\n", snap->back_to);
    write_questions(file, "writes", &snap->writes);
    (void)write_sets(file, WRITE, &snap->written);
    (void)write_sets(file, WILD, &snap->wild);
    size_t records = write_sets(file, "", &snap->sets);
    bool failed = fflush(file) != 0;
    if (!failed)
        fprintf(file, END "%zu %016" PRIx64 "\n", records, fnv_hash(0, text, size));
    failed = failed || ferror(file) != 0;
    if (fclose(file) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}

/* ---- reading -------------------------------------------------------------- */

/* "a" "b" of a zone file to a canonical TXT value, in place. */
static bool join_strings(char *text)
{
    char *to = text;
    bool quoted = false;
    for (const char *p = text; *p; p++) {
        if (*p == '"') {
            quoted = !quoted;
        } else if (*p == '\\' && p[1] == '"') {
            *to++ = *++p;
        } else if (*p == '\\' && p[1]) {
            *to++ = *p++;
            *to++ = *p;
        } else if (quoted) {
            *to++ = *p;
        } else if (*p != ' ') {
            return false;
        }
    }
    *to = '\0';
    return !quoted;
}

/* Its strings are kept where they are not those that sluice would make. */
static bool parse_txt(const char *name, uint32_t ttl, char *strings, struct dns_sets *out)
{
    static char zone[DNS_ZONE_MAX];
    char *text = strlen(strings) < DNS_ZONE_MAX ? strdup(strings) : NULL;
    bool ok = text && join_strings(strings) && strlen(strings) <= DNS_VALUE_MAX;
    if (ok) {
        dns_value_zone(DNS_TXT, strings, zone, sizeof(zone));
        ok = dns_sets_add_text(out, name, DNS_TXT, ttl, strings,
                               strcmp(zone, text) == 0 ? NULL : text);
    }
    free(text);
    return ok;
}

static bool parse_record(char *line, struct dns_sets *out)
{
    char *rest = NULL, name[DNSRECORD_NAME_MAX + 1];
    const char *owner = strtok_r(line, " ", &rest), *ttl = strtok_r(NULL, " ", &rest);
    const char *class = strtok_r(NULL, " ", &rest),
               *type_text = strtok_r(NULL, " ", &rest);
    enum dns_type type;
    char *end;
    if (!owner || !ttl || !class || !type_text || strcmp(class, "IN") != 0 ||
        !dnsrecord_name(owner, strlen(owner), name) || !dns_type_parse(type_text, &type))
        return false;
    unsigned long seconds = strtoul(ttl, &end, 10);
    if (*end || seconds > UINT32_MAX || *rest == '\0')
        return false;
    if (type == DNS_TXT)
        return parse_txt(name, (uint32_t)seconds, rest, out);
    return strlen(rest) <= DNS_VALUE_MAX &&
           dns_sets_add(out, name, type, (uint32_t)seconds, rest);
}

static bool parse_taken(const char *text, int64_t *out)
{
    struct tm tm = { 0 };
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec) != 6 ||
        tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
        tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
        tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    *out = timegm(&tm);
    return true;
}

/* A line of the head: "; key value". */
static bool parse_comment(char *line, struct dns_snap *out)
{
    char name[DNSRECORD_NAME_MAX + 1], owner[DNSRECORD_NAME_MAX + 2], word[8];
    enum dns_type type;
    unsigned number;
    bool writes = strncmp(line, "; writes ", 9) == 0;
    if (strncmp(line, WRITE, strlen(WRITE)) == 0)
        return parse_record(line + strlen(WRITE), &out->written);
    if (strncmp(line, WILD, strlen(WILD)) == 0)
        return parse_record(line + strlen(WILD), &out->wild);
    if (sscanf(line, "; zone %254s", owner) == 1)
        return dnsrecord_name(owner, strlen(owner), out->zone);
    if (sscanf(line, "; negative-ttl %u", &number) == 1) {
        out->negative_ttl = number;
        return true;
    }
    if (sscanf(line, "; back-to %63s", out->back_to) == 1)
        return true;
    if (strncmp(line, "; taken ", 8) == 0)
        return parse_taken(line + 8, &out->taken);
    if (writes || strncmp(line, "; asked ", 8) == 0)
        return sscanf(line + (writes ? 9 : 8), "%254s %7s", owner, word) == 2 &&
               dnsrecord_name(owner, strlen(owner), name) &&
               dns_type_parse(word, &type) &&
               dns_questions_add(writes ? &out->writes : &out->asked, name, type);
    return strcmp(line, HEAD) == 0 || strncmp(line, "; domain ", 9) == 0;
}

static size_t records_of(const struct dns_snap *snap)
{
    size_t n = 0;
    for (size_t i = 0; i < snap->sets.count; i++)
        n += snap->sets.items[i].count;
    return n;
}

/* text: all of it; line: its last one. NULL: it is whole and unchanged. */
static const char *check_end(const char *text, const char *line,
                             const struct dns_snap *snap)
{
    size_t number = 0;
    uint64_t hash = 0;
    int after_number = 0, after_hash = 0;
    const char *end = strstr(text, "\n" END);
    if (sscanf(line, END "%zu%n %16" SCNx64 "%n", &number, &after_number, &hash,
               &after_hash) < 1 ||
        !end || number != records_of(snap))
        return "is not whole: its end is missing";
    if (line[after_number] == '\0')
        return NULL; /* of an earlier sluice */
    return after_hash == 0 || line[after_hash] || line[after_number] != ' ' ||
                   hash != fnv_hash(0, text, (size_t)(end + 1 - text))
               ? "was changed since it was written"
               : NULL;
}

const char *dns_snap_parse(const char *text, struct dns_snap *out)
{
    const char *wrong = NULL, *last = "";
    bool ended = false;
    char *copy = strdup(text), *rest = NULL;
    if (!copy)
        return "out of memory";
    for (char *line = strtok_r(copy, "\n", &rest); line && !wrong;
         line = strtok_r(NULL, "\n", &rest)) {
        bool is_end = strncmp(line, END, strlen(END)) == 0;
        if (ended || !(is_end           ? (last = line) != NULL
                       : line[0] == ';' ? parse_comment(line, out)
                                        : parse_record(line, &out->sets)))
            wrong = "has a line that is no record";
        ended = is_end;
    }
    if (strncmp(text, HEAD "\n", strlen(HEAD) + 1) != 0)
        wrong = "is not a snapshot";
    else if (!strstr(text, "\n" END))
        wrong = "is not whole: its end is missing";
    else if (!wrong)
        wrong = check_end(text, last, out);
    if (!wrong && out->taken <= 0)
        wrong = "does not say when it was taken";
    if (!wrong && !out->zone[0])
        wrong = "does not say of which zone it is";
    free(copy);
    return wrong;
}
