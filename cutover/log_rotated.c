/*
 * log_rotated: the files of one log by age (see log_rotated.h).
 */
#include "log_rotated.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NUMBER_DIGITS 4 /* more digits are a date */

struct entry {
    char *path;
    char digits[32]; /* of the suffix, without '-' between date and time */
    bool number;     /* the higher the older; else a date */
    bool gzip;
};

struct list {
    struct entry *items;
    size_t count, size;
};

static bool ends_in(const char *text, const char *tail)
{
    size_t len = strlen(text), tail_len = strlen(tail);
    return len >= tail_len && strcmp(text + len - tail_len, tail) == 0;
}

/* ".1", "-20261122", ".20261122-091432", with or without ".gz": its digits. */
static bool read_suffix(const char *suffix, struct entry *out)
{
    size_t used = 0;
    if ((*suffix != '.' && *suffix != '-') || suffix[1] < '0' || suffix[1] > '9')
        return false;
    for (suffix++; (*suffix >= '0' && *suffix <= '9') || *suffix == '-'; suffix++) {
        if (*suffix == '-')
            continue;
        if (used + 1 >= sizeof(out->digits))
            return false;
        out->digits[used++] = *suffix;
    }
    out->digits[used] = '\0';
    out->number = used <= NUMBER_DIGITS;
    out->gzip = strcmp(suffix, ".gz") == 0;
    return out->gzip || *suffix == '\0';
}

static int compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->number != b->number)
        return a->number ? 1 : -1;
    if (a->number && atoi(a->digits) != atoi(b->digits))
        return atoi(a->digits) > atoi(b->digits) ? -1 : 1;
    int order = strcmp(a->digits, b->digits);
    return order ? order : (int)a->gzip - (int)b->gzip;
}

static bool add(struct list *list, const char *folder, size_t folder_len,
                const char *name, const struct entry *like)
{
    if (list->count == LOG_ROTATED_MAX) {
        errno = E2BIG;
        return false;
    }
    if (list->count == list->size) {
        size_t size = list->size ? list->size * 2 : 16;
        struct entry *grown = realloc(list->items, size * sizeof(*grown));
        if (!grown)
            return false;
        list->items = grown;
        list->size = size;
    }
    struct entry *e = &list->items[list->count];
    *e = *like;
    if (asprintf(&e->path, "%.*s%s", (int)folder_len, folder, name) < 0)
        return false;
    list->count++;
    return true;
}

static bool scan(DIR *dir, const char *path, size_t folder_len, struct list *list,
                 struct log_rotated *out)
{
    static const char *const unread[] = { ".xz", ".bz2", ".zst", ".lz4", ".Z" };
    const char *base = path + folder_len;
    size_t base_len = strlen(base);
    struct dirent *d;
    while ((d = readdir(dir))) {
        struct entry e = { NULL, "", false, false };
        if (strncmp(d->d_name, base, base_len) != 0 || !d->d_name[base_len])
            continue;
        if (read_suffix(d->d_name + base_len, &e)) {
            if (!add(list, path, folder_len, d->d_name, &e))
                return false;
            continue;
        }
        for (size_t i = 0; i < sizeof(unread) / sizeof(unread[0]); i++)
            if (ends_in(d->d_name, unread[i]))
                (void)snprintf(out->other, sizeof(out->other), "%s", d->d_name);
    }
    return true;
}

static bool give(struct list *list, struct log_rotated *out)
{
    out->paths = calloc(list->count + 1, sizeof(char *));
    if (!out->paths)
        return false;
    if (list->count > 0)
        qsort(list->items, list->count, sizeof(list->items[0]), compare);
    for (size_t i = 0; i < list->count; i++) {
        struct entry *e = &list->items[i];
        if (i > 0 && e->gzip && !e[-1].gzip && e->number == e[-1].number &&
            strcmp(e->digits, e[-1].digits) == 0)
            continue;
        out->paths[out->count++] = e->path;
        e->path = NULL;
    }
    return true;
}

bool log_rotated_find(const char *path, struct log_rotated *out)
{
    const char *slash = strrchr(path, '/');
    size_t folder_len = slash ? (size_t)(slash - path) + 1 : 0;
    struct list list = { NULL, 0, 0 };
    *out = (struct log_rotated){ NULL, 0, "" };
    char *folder = slash ? strndup(path, folder_len) : strdup(".");
    DIR *dir = folder ? opendir(folder) : NULL;
    bool fine = dir && scan(dir, path, folder_len, &list, out) && give(&list, out);
    int saved = errno;
    if (dir)
        closedir(dir);
    free(folder);
    for (size_t i = 0; i < list.count; i++)
        free(list.items[i].path);
    free(list.items);
    errno = saved;
    return fine;
}

void log_rotated_free(struct log_rotated *rotated)
{
    for (size_t i = 0; i < rotated->count; i++)
        free(rotated->paths[i]);
    free(rotated->paths);
    *rotated = (struct log_rotated){ NULL, 0, "" };
}
