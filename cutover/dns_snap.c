/*
 * dns_snap: snapshots of a zone's mail records (see dns_snap.h).
 *
 *     ; sluice dns snapshot 1
 *     ; domain example.com
 *     ; zone example.com
 *     ; taken 2024-05-31T03:04:05Z
 *     ; negative-ttl 300
 *     ; asked example.com MX
 *     example.com. 3600 IN MX 10 mx.example.com.
 *     ; end 1
 *
 * "asked" names every set that was looked at, also one that was not there: the
 * way back removes it again. "end" with the number of records shows that the
 * text is whole. Files are written beside their place and linked into it, so
 * that no reader sees half of one and none is overwritten.
 */
#include "dns_snap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "write_all.h"

#define HEAD   "; sluice dns snapshot 1"
#define SUFFIX ".zone"

void dns_snap_free(struct dns_snap *snap)
{
    dns_questions_free(&snap->asked);
    dns_sets_free(&snap->sets);
}

void dns_snap_free_all(struct dns_snap *snaps, size_t count)
{
    for (size_t i = 0; i < count; i++)
        dns_snap_free(&snaps[i]);
    free(snaps);
}

/* ---- text ----------------------------------------------------------------- */

/* UTC: for a person, and for the name of a file. */
static void time_stamps(int64_t when, char line[32], char name[32])
{
    time_t seconds = (time_t)when;
    struct tm tm = { 0 };
    gmtime_r(&seconds, &tm);
    if (strftime(line, 32, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0 ||
        strftime(name, 32, "%Y%m%dT%H%M%SZ", &tm) == 0)
        line[0] = name[0] = '\0';
}

char *dns_snap_format(const struct dns_snap *snap, const char *domain)
{
    static char zone[DNS_ZONE_MAX];
    char taken[32], name[32], *text = NULL;
    size_t size = 0, records = 0;
    FILE *file = open_memstream(&text, &size);
    if (!file)
        return NULL;
    time_stamps(snap->taken, taken, name);
    fprintf(file, HEAD "\n; domain %s\n; zone %s\n; taken %s\n; negative-ttl %u\n",
            domain, snap->zone, taken, (unsigned)snap->negative_ttl);
    for (size_t i = 0; i < snap->asked.count; i++)
        fprintf(file, "; asked %s %s\n", snap->asked.items[i].name,
                dns_type_name(snap->asked.items[i].type));
    for (size_t i = 0; i < snap->sets.count; i++) {
        const struct dns_set *set = &snap->sets.items[i];
        for (size_t v = 0; v < set->count; v++, records++) {
            dns_value_zone(set->type, set->values[v], zone, sizeof(zone));
            fprintf(file, "%s. %u IN %s %s\n", set->name, (unsigned)set->ttl,
                    dns_type_name(set->type), zone);
        }
    }
    fprintf(file, "; end %zu\n", records);
    bool failed = ferror(file) != 0;
    if (fclose(file) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}

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

static bool parse_record(char *line, struct dns_snap *out)
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
    if (type == DNS_TXT && !join_strings(rest))
        return false;
    return strlen(rest) <= DNS_VALUE_MAX &&
           dns_sets_add(&out->sets, name, type, (uint32_t)seconds, rest);
}

/* A line of the head: "; key value". */
static bool parse_comment(char *line, struct dns_snap *out)
{
    char name[DNSRECORD_NAME_MAX + 1], owner[DNSRECORD_NAME_MAX + 2], word[8];
    struct tm tm = { 0 };
    enum dns_type type;
    unsigned number;
    if (sscanf(line, "; zone %254s", owner) == 1)
        return dnsrecord_name(owner, strlen(owner), out->zone);
    if (sscanf(line, "; negative-ttl %u", &number) == 1)
        out->negative_ttl = number;
    if (sscanf(line, "; taken %4d-%2d-%2dT%2d:%2d:%2dZ", &tm.tm_year, &tm.tm_mon,
               &tm.tm_mday, &tm.tm_hour, &tm.tm_min, &tm.tm_sec) == 6) {
        if (tm.tm_year < 1970 || tm.tm_mon < 1 || tm.tm_mon > 12 || tm.tm_mday < 1 ||
            tm.tm_mday > 31 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60 ||
            tm.tm_hour < 0 || tm.tm_min < 0 || tm.tm_sec < 0)
            return false;
        tm.tm_year -= 1900;
        tm.tm_mon--;
        out->taken = timegm(&tm);
    }
    if (sscanf(line, "; asked %254s %7s", owner, word) == 2)
        return dnsrecord_name(owner, strlen(owner), name) &&
               dns_type_parse(word, &type) && dns_questions_add(&out->asked, name, type);
    return true;
}

static size_t records_of(const struct dns_snap *snap)
{
    size_t n = 0;
    for (size_t i = 0; i < snap->sets.count; i++)
        n += snap->sets.items[i].count;
    return n;
}

const char *dns_snap_parse(const char *text, struct dns_snap *out)
{
    const char *wrong = NULL;
    size_t number = 0;
    bool ended = false;
    char *copy = strdup(text), *rest = NULL;
    if (!copy)
        return "out of memory";
    for (char *line = strtok_r(copy, "\n", &rest); line && !wrong;
         line = strtok_r(NULL, "\n", &rest)) {
        if (sscanf(line, "; end %zu", &number) == 1)
            ended = true;
        else if (!(line[0] == ';' ? parse_comment(line, out) : parse_record(line, out)))
            wrong = "has a line that is no record";
    }
    free(copy);
    if (!wrong && strncmp(text, HEAD "\n", strlen(HEAD) + 1) != 0)
        wrong = "is not a snapshot";
    if (!wrong && (!ended || number != records_of(out)))
        wrong = "is not whole: its end is missing";
    if (!wrong && out->taken <= 0)
        wrong = "does not say when it was taken";
    return wrong;
}

/* ---- files ---------------------------------------------------------------- */

static bool path_of(const struct conf *conf, const char *domain, const char *name,
                    char *out, size_t size)
{
    int n = snprintf(out, size, "%s/dns/%s%s%s", conf->state_dir, domain,
                     *name ? "/" : "", name);
    return n > 0 && (size_t)n < size;
}

static bool fail(char *error, size_t size, const char *path, const char *what)
{
    snprintf(error, size, "%s: %s", path, what);
    return false;
}

/* Whoever may write to state-dir must not lead root's files elsewhere. */
static bool make_own(const char *path)
{
    struct stat info;
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        return false;
    if (lstat(path, &info) != 0)
        return false;
    errno = S_ISDIR(info.st_mode) ? EPERM : ENOTDIR;
    return S_ISDIR(info.st_mode) && info.st_uid == geteuid() &&
           !(info.st_mode & (S_IWGRP | S_IWOTH));
}

static const char *why_not(int error)
{
    return error == EPERM     ? "belongs to somebody else, or others may write to it: "
                                "chown it, chmod go-w"
           : error == ENOTDIR ? "is not a directory: look at it, and remove it"
                              : strerror(error);
}

static bool make_directory(const struct conf *conf, const char *domain, char *error,
                           size_t error_size)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/dns", conf->state_dir);
    if (!make_own(path))
        return fail(error, error_size, path, why_not(errno));
    if (!path_of(conf, domain, "", path, sizeof(path)))
        return fail(error, error_size, conf->state_dir, "the path is too long");
    if (!make_own(path))
        return fail(error, error_size, path, why_not(errno));
    return true;
}

static bool sync_directory(const struct conf *conf, const char *domain)
{
    char path[4096];
    int fd = path_of(conf, domain, "", path, sizeof(path))
                 ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1;
    bool ok = fd >= 0 && fsync(fd) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

/* Whole beside its place, then there: by rename, or by link, which overwrites none. */
static bool place(const struct conf *conf, const char *domain, const char *name,
                  const char *text, bool overwrite)
{
    char temporary[4096], path[4096];
    if (!path_of(conf, domain, ".new-XXXXXX", temporary, sizeof(temporary)) ||
        !path_of(conf, domain, name, path, sizeof(path))) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write_all(fd, text, strlen(text)) && fsync(fd) == 0 && fchmod(fd, 0644) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && (overwrite ? rename(temporary, path) : link(temporary, path)) == 0;
    int wrong = errno;
    if (!ok || !overwrite)
        unlink(temporary);
    errno = wrong;
    return ok && sync_directory(conf, domain);
}

bool dns_snap_write(const struct conf *conf, const char *domain, struct dns_snap *snap,
                    char *error, size_t error_size)
{
    char line[32], stamp[32], name[80];
    if (!make_directory(conf, domain, error, error_size))
        return false;
    char *text = dns_snap_format(snap, domain);
    if (!text)
        return fail(error, error_size, domain, "out of memory");
    time_stamps(snap->taken, line, stamp);
    bool ok = false;
    for (int i = 1; i < 1000 && !ok; i++) { /* several within one second */
        if (i == 1)
            snprintf(snap->name, sizeof(snap->name), "%s", stamp);
        else
            snprintf(snap->name, sizeof(snap->name), "%s_%03d", stamp, i);
        snprintf(name, sizeof(name), "%s" SUFFIX, snap->name);
        ok = place(conf, domain, name, text, false);
        if (!ok && errno != EEXIST)
            break;
    }
    free(text);
    return ok || fail(error, error_size, conf->state_dir, strerror(errno));
}

bool dns_snap_note(const struct conf *conf, const char *domain, const char *name,
                   const char *text, char *path, size_t path_size, char *error,
                   size_t error_size)
{
    if (!make_directory(conf, domain, error, error_size))
        return false;
    if (!path_of(conf, domain, name, path, path_size))
        return fail(error, error_size, name, "the path is too long");
    return place(conf, domain, name, text, true) ||
           fail(error, error_size, path, strerror(errno));
}

static char *read_text(const char *path)
{
    char *text = NULL;
    size_t used = 0, n;
    FILE *file = fopen(path, "re");
    if (file && (text = malloc(DNS_SNAP_MAX + 1))) {
        while (used < DNS_SNAP_MAX &&
               (n = fread(text + used, 1, DNS_SNAP_MAX - used, file)) > 0)
            used += n;
        text[used] = '\0';
        if (ferror(file) || used == DNS_SNAP_MAX) {
            free(text);
            text = NULL;
        }
    }
    if (file)
        fclose(file);
    return text;
}

char *dns_snap_noted(const struct conf *conf, const char *domain, const char *name)
{
    char path[4096];
    return path_of(conf, domain, name, path, sizeof(path)) ? read_text(path) : NULL;
}

void dns_snap_forget(const struct conf *conf, const char *domain, const char *name)
{
    char path[4096];
    if (path_of(conf, domain, name, path, sizeof(path)))
        unlink(path);
}

static int is_snapshot(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name), tail = strlen(SUFFIX);
    return entry->d_name[0] != '.' && len > tail && len < 64 &&
           strcmp(entry->d_name + len - tail, SUFFIX) == 0;
}

bool dns_snap_read(const struct conf *conf, const char *domain, struct dns_snap **out,
                   size_t *count, char *error, size_t error_size)
{
    char path[4096];
    struct dirent **names = NULL;
    *out = NULL;
    *count = 0;
    if (!path_of(conf, domain, "", path, sizeof(path)))
        return fail(error, error_size, domain, "the path is too long");
    int n = scandir(path, &names, is_snapshot, alphasort);
    if (n < 0)
        return errno == ENOENT || fail(error, error_size, path, strerror(errno));
    bool ok = n <= DNS_SNAPS_MAX || fail(error, error_size, path,
                                         "has too many snapshots: move the oldest away");
    if (ok && !(*out = calloc((size_t)n + 1, sizeof(**out))))
        ok = fail(error, error_size, domain, "out of memory");
    for (int i = 0; i < n; i++) {
        char *text = ok ? dns_snap_noted(conf, domain, names[i]->d_name) : NULL;
        if (ok) {
            struct dns_snap *snap = &(*out)[(*count)++];
            snprintf(snap->name, sizeof(snap->name), "%.*s",
                     (int)(strlen(names[i]->d_name) - strlen(SUFFIX)), names[i]->d_name);
            const char *wrong = text ? dns_snap_parse(text, snap) : "cannot be read";
            if (wrong) {
                snprintf(error, error_size, "%s/%s %s", path, names[i]->d_name, wrong);
                ok = false;
            }
        }
        free(text);
        free(names[i]);
    }
    free(names);
    if (!ok) {
        dns_snap_free_all(*out, *count);
        *out = NULL;
        *count = 0;
    }
    return ok;
}

/* ---- waiting -------------------------------------------------------------- */

/* The longest that a cache keeps what a snapshot has and the plan has not; 0: all is as
 * planned there. */
static uint32_t old_ttl(const struct dns_snap *snap, const struct dns_sets *planned)
{
    uint32_t most = 0;
    for (size_t i = 0; i < planned->count; i++) {
        const struct dns_set *plan = &planned->items[i];
        const struct dns_set *live = dns_sets_find(&snap->sets, plan->name, plan->type);
        struct dns_sets scope = { 0 };
        /* A TXT set is cached whole, whatever its kinds. */
        bool known = dns_plan_scope(plan, live, &scope);
        bool as_planned =
            known && dns_plan_state(plan, dns_sets_find(&scope, plan->name, plan->type),
                                    false) == DNS_AS_PLANNED;
        uint32_t ttl = live ? live->ttl : snap->negative_ttl;
        dns_sets_free(&scope);
        if (as_planned)
            continue;
        if (ttl < 1)
            ttl = 1; /* it differs all the same */
        if (ttl > most)
            most = ttl;
    }
    return most;
}

const struct dns_snap *dns_snap_last_old(const struct dns_snap *snaps, size_t count,
                                         const struct dns_sets *planned)
{
    for (size_t i = count; i > 0; i--)
        if (old_ttl(&snaps[i - 1], planned) > 0)
            return &snaps[i - 1];
    return NULL;
}

int64_t dns_snap_quiet(const struct dns_snap *snaps, size_t count,
                       const struct dns_sets *planned, int64_t agreed, uint32_t *ttl)
{
    int64_t quiet = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t old = old_ttl(&snaps[i], planned);
        if (old == 0)
            continue;
        *ttl = old;
        int64_t gone = i + 1 < count ? snaps[i + 1].taken : agreed;
        if (gone > agreed)
            gone = agreed;
        if (gone + old > quiet)
            quiet = gone + old;
    }
    if (*ttl > 0 && agreed + 2 * (int64_t)*ttl > quiet)
        quiet = agreed + 2 * (int64_t)*ttl;
    return quiet;
}

int64_t dns_snap_lowered(const struct dns_snap *snaps, size_t count,
                         const struct dns_sets *planned, int64_t since, uint32_t *ttl)
{
    int64_t out = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t gone =
            i + 1 < count && snaps[i + 1].taken < since ? snaps[i + 1].taken : since;
        for (size_t p = 0; p < planned->count; p++) {
            const struct dns_set *plan = &planned->items[p];
            const struct dns_set *live =
                dns_sets_find(&snaps[i].sets, plan->name, plan->type);
            if (!live || live->ttl <= plan->ttl)
                continue;
            *ttl = live->ttl > *ttl ? live->ttl : *ttl;
            out = gone + live->ttl > out ? gone + live->ttl : out;
        }
    }
    return out;
}

int64_t dns_snap_cached(const struct dns_snap *snaps, size_t count,
                        const struct dns_set *set, uint32_t *ttl)
{
    int64_t end = 0;
    *ttl = 0;
    for (size_t i = 0; i < count; i++) {
        const struct dns_set *was = dns_sets_find(&snaps[i].sets, set->name, set->type);
        if (!was || was->count == 0 || was->ttl <= set->ttl)
            continue;
        int64_t gone = i + 1 < count ? snaps[i + 1].taken + was->ttl : INT64_MAX;
        if (gone > end) {
            end = gone;
            *ttl = was->ttl;
        }
    }
    return end;
}
