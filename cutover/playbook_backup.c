/*
 * playbook_backup: reads a backup of mailboxes and compares it with the server it is of.
 *
 * DIRECTORY has, for each address, one of
 *     ADDRESS/                   Maildir: files in cur and new, in any folder below
 *     ADDRESS.mbox, ADDRESS      mbox: messages begin with "From " after an empty line
 *     DOMAIN/LOCAL/, DOMAIN/LOCAL.mbox
 * in small letters, as they stand in the list. A backup of another form is restored into
 * such a directory first, which shows that it can be. A mailbox is good when it has as
 * many messages as the server, less those that came on the day (UTC) of its newest
 * message or later, and each of them can be read and is not empty. One without any
 * message is of the second when its file, or one of its directories, was last written:
 * what came after that is not counted. Nothing is followed out of the directory. Depth
 * and number of files have limits. In a rehearsal the pilot group alone is looked at.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "output.h"
#include "playbook_mail.h"
#include "targets.h"

#define DEPTH_MAX 20
#define FILES_MAX 5000000
#define BAD_MAX   20
#define CHUNK     65536
#define FIGURE    24
#define DAY_S     86400

struct found {
    uint64_t messages, bytes, broken;
    uint64_t files;  /* of any kind */
    int64_t newest;  /* mtime, of its messages */
    int64_t written; /* mtime, of its directories or the mbox file */
    char wrong[400]; /* the first that is broken */
};

struct check {
    const char *directory;
    struct mail_place place;
    const struct target *pilots; /* NULL: everybody */
    size_t least;                /* so many must be in the list: the pilot group */
    int64_t not_before;          /* newer=: unix s; 0: any age */
    FILE *out;
    size_t good, bad;
    uint64_t messages, bytes;
    struct pace pace;
};

/* ---- reading ------------------------------------------------------------------ */

static void add_broken(struct found *found, const char *name, const char *why)
{
    if (found->broken++ == 0)
        (void)snprintf(found->wrong, sizeof(found->wrong), "%.250s: %s", name, why);
}

static void add_time(struct found *found, const struct stat *info)
{
    if ((int64_t)info->st_mtime > found->newest)
        found->newest = (int64_t)info->st_mtime;
    found->bytes += (uint64_t)info->st_size;
}

/* Of a directory, or of a mbox file. */
static void add_written(struct found *found, const struct stat *info)
{
    if ((int64_t)info->st_mtime > found->written)
        found->written = (int64_t)info->st_mtime;
}

/* A message of a Maildir: its beginning is read. */
static void take_message(struct found *found, int directory, const char *name)
{
    char text[512];
    struct stat info;
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    ssize_t n = is_file ? read(fd, text, sizeof(text)) : -1;
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n > 0) {
        found->messages++;
        add_time(found, &info);
    } else {
        add_broken(found, name,
                   n == 0                ? "is empty"
                   : fd >= 0 && !is_file ? "is no file"
                                         : strerror(error));
    }
}

/* Goes on over the pieces of a mbox file: messages begin with "From " at its beginning or
 * after an empty line. */
struct mbox {
    size_t column; /* of the line; how much of "From " has come, while it fits */
    bool after_empty, fits;
};

static void count_messages(struct mbox *mbox, const char *text, size_t len,
                           uint64_t *messages)
{
    static const char mark[] = "From ";
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n') {
            mbox->after_empty = mbox->column == 0;
            mbox->column = 0;
            mbox->fits = true;
        } else if (text[i] != '\r' || mbox->column > 0) {
            mbox->fits = mbox->fits && mbox->column < 5 && text[i] == mark[mbox->column];
            if (mbox->fits && mbox->column == 4 && mbox->after_empty)
                ++*messages;
            mbox->column++;
        }
    }
}

static void take_mbox(struct found *found, int directory, const char *name)
{
    static char text[CHUNK];
    struct stat info;
    struct mbox mbox = { .after_empty = true, .fits = true };
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool is_file = fd >= 0 && fstat(fd, &info) == 0 && S_ISREG(info.st_mode);
    ssize_t n = -1;
    while (is_file && !command_stopped() && (n = read(fd, text, sizeof(text))) > 0)
        count_messages(&mbox, text, (size_t)n, &found->messages);
    if (n < 0) {
        add_broken(found, name, fd >= 0 && !is_file ? "is no file" : strerror(errno));
    } else {
        add_written(found, &info);
        add_time(found, &info);
    }
    if (fd >= 0)
        close(fd);
}

static void walk(struct found *found, int parent, const char *name, int depth);

static void take_entry(struct found *found, int directory, const char *name, bool is_mail,
                       int depth)
{
    struct stat info;
    if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        add_broken(found, name, strerror(errno));
    else if (S_ISDIR(info.st_mode))
        walk(found, directory, name, depth + 1);
    else if (is_mail && name[0] != '.')
        take_message(found, directory, name);
}

static void walk(struct found *found, int parent, const char *name, int depth)
{
    int fd = depth > DEPTH_MAX
                 ? -1
                 : openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    bool is_mail = strcmp(name, "cur") == 0 || strcmp(name, "new") == 0;
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0)
        add_written(found, &info);
    if (!directory) {
        add_broken(found, name, depth > DEPTH_MAX ? "too deep" : strerror(errno));
        if (fd >= 0)
            close(fd);
        return;
    }
    for (struct dirent *entry; !command_stopped() && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (found->files++ == FILES_MAX) {
            add_broken(found, name, "more than 5 million files");
            break;
        }
        if (found->files > FILES_MAX)
            break;
        take_entry(found, dirfd(directory), entry->d_name, is_mail, depth);
    }
    closedir(directory);
}

/* One of the places where a mailbox may be. */
static bool take_place(struct found *found, int top, const char *name)
{
    struct stat info;
    if (fstatat(top, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return false;
    if (S_ISDIR(info.st_mode))
        walk(found, top, name, 0);
    else
        take_mbox(found, top, name);
    return true;
}

/* false: it is nowhere. */
static bool read_backup(const char *path, const char *address, struct found *found)
{
    char names[4][2 * ADDR_TEXT_MAX + 8];
    const char *at = strrchr(address, '@');
    int local = at ? (int)(at - address) : 0;
    int top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), below = -1;
    bool is_there = false;
    *found = (struct found){ 0 };
    if (top < 0 || !at || strchr(address, '/') || address[0] == '.') {
        if (top >= 0)
            close(top);
        return false;
    }
    (void)snprintf(names[0], sizeof(names[0]), "%s", address);
    (void)snprintf(names[1], sizeof(names[1]), "%s.mbox", address);
    (void)snprintf(names[2], sizeof(names[2]), "%.*s", local, address);
    (void)snprintf(names[3], sizeof(names[3]), "%.*s.mbox", local, address);
    below = openat(top, at + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    for (int i = 0; i < (below >= 0 ? 4 : 2) && !is_there; i++)
        is_there = take_place(found, i < 2 ? top : below, names[i]);
    if (below >= 0)
        close(below);
    close(top);
    return is_there;
}

/* ---- judging --------------------------------------------------------------------- */

/* When it is of: what the server has from then on may be missing. By the day where there
 * are messages: their files may be newer than the messages are. */
static int64_t since_when(const struct found *found)
{
    return found->messages > 0 ? found->newest - found->newest % DAY_S
                               : found->written + 1;
}

/* What is wrong with a mailbox's backup; "" when nothing is. false: the server could not
 * be asked, a message was printed. */
static bool judge(struct check *it, const struct person *person,
                  const struct found *found, uint64_t server, char why[600])
{
    char when[TIME_TEXT_MAX];
    uint64_t late = 0;
    why[0] = '\0';
    if (found->broken > 0) {
        (void)snprintf(why, 600, "%" PRIu64 " files of it cannot be read: %s",
                       found->broken, found->wrong);
        return true;
    }
    int64_t newest = found->messages > 0 ? found->newest : found->written;
    if (server > 0 && it->not_before > 0 && newest < it->not_before) {
        (void)snprintf(why, 600, "its newest file is of %s", time_text(newest, when));
        return true;
    }
    if (server <= found->messages)
        return true;
    if (!mail_count_since(&it->place, person, since_when(found), &late))
        return false;
    if (server > found->messages + late)
        (void)snprintf(why, 600,
                       "it has %" PRIu64 " messages, the server %" PRIu64
                       ", of which %" PRIu64 " came since",
                       found->messages, server, late);
    return true;
}

static bool is_pilot(const struct target *pilots, const char *address)
{
    const char *at = strrchr(address, '@');
    size_t len = at ? (size_t)(at - address) : 0;
    for (size_t i = 0; i < pilots->count; i++)
        if (strlen(pilots->locals[i]) == len &&
            strncmp(pilots->locals[i], address, len) == 0)
            return true;
    return false;
}

static bool check_one(void *context, const struct person *person)
{
    struct check *it = context;
    struct found found;
    struct mail_figures server;
    char address[ADDR_TEXT_MAX + 1], texts[3][FIGURE], why[600], when[TIME_TEXT_MAX];
    people_canonical(person->address, address);
    if (it->pilots && !is_pilot(it->pilots, address))
        return true;
    bool is_there = read_backup(it->directory, address, &found);
    bool good = mail_count(&it->place, person, &server);
    if (good && !is_there)
        (void)snprintf(why, sizeof(why), "it is not in %.400s", it->directory);
    else if (good)
        good = judge(it, person, &found, server.messages, why);
    if (good) {
        const uint64_t figures[] = { server.messages, found.messages, found.bytes };
        for (size_t i = 0; i < 3; i++)
            (void)snprintf(texts[i], sizeof(texts[i]), "%" PRIu64, figures[i]);
        const char *cells[] = {
            address, texts[0], texts[1], texts[2], time_text(found.newest, when), why
        };
        paper_row(it->out, cells, 6);
    }
    if (good && why[0])
        message("the backup of %s: %s", address, why);
    good = good && !why[0];
    it->good += good;
    it->bad += !good;
    it->messages += found.messages;
    it->bytes += found.bytes;
    if (pace_due(&it->pace))
        notice("%zu mailboxes looked at", it->good + it->bad);
    return it->bad < BAD_MAX && !command_stopped();
}

static int sum_up(const struct check *it, const char *list, const char *name)
{
    if (command_stopped()) {
        message("stopped after %zu mailboxes", it->good + it->bad);
        return EXIT_AGAIN;
    }
    if (it->bad > 1)
        message("the backup of %zu mailboxes is not good, of %zu it is; the step's log "
                "names each%s",
                it->bad, it->good,
                it->bad == BAD_MAX ? ", the others were not read" : "");
    if (it->bad > 0)
        return EXIT_CHECK;
    if (it->good < it->least) {
        message("%s has %zu of the %zu mailboxes of the pilot group: add the others, or "
                "choose other pilots",
                list, it->good, it->least);
        return EXIT_DATA;
    }
    print("the backup of all %zu mailboxes can be read: %" PRIu64 " messages, %" PRIu64
          " MB: %s",
          it->good, it->messages, it->bytes / 1000000, name);
    return EXIT_DONE;
}

static int check_all(struct action_context *context, struct check *it, const char *path)
{
    struct targets pilots = { 0 };
    char *who[] = { (char *)(uintptr_t)context->who, NULL };
    bool is_rehearsal = strcmp(context->who, context->domain) != 0;
    int code = is_rehearsal ? targets_resolve(context->command->conf, 1, who, &pilots)
                            : EXIT_DONE;
    if (code == EXIT_DONE) {
        it->pilots = is_rehearsal ? &pilots.items[0] : NULL;
        it->least = is_rehearsal ? pilots.items[0].count : 0;
        code = people_each(path, true, check_one, it);
        targets_free(&pilots);
    }
    return code;
}

int action_backup(struct action_context *context, int argc, char **argv)
{
    static const char *const header[] = { "address",  "messages on the server",
                                          "messages", "bytes",
                                          "newest",   "what" };
    const char *newer = NULL;
    struct mail_words mail = { 0 };
    const struct word_spec words[] = { { "tls", &mail.tls },
                                       { "starttls", &mail.starttls },
                                       { "plain", &mail.plain },
                                       { "ca=", &mail.ca },
                                       { "newer=", &newer } };
    struct check it = { .directory = argv[1] };
    char name[200];
    int age = 0;
    if (!words_take(argc, argv, 4, words, 5) ||
        !mail_place(argv[2], &mail, true, &it.place))
        return EXIT_USE;
    if (newer && !duration_parse(newer, &age)) {
        message("backup: newer=%s is not a duration: write it as 2d", newer);
        return EXIT_USE;
    }
    it.not_before = newer ? (int64_t)time(NULL) - age : 0;
    (void)snprintf(name, sizeof(name), "%.150s.csv", context->step);
    it.out = mail_ready() ? paper_open(context, name) : NULL;
    if (!it.out)
        return EXIT_SERVICE;
    command_catch_signals();
    paper_row(it.out, header, 6);
    int code = check_all(context, &it, argv[3]);
    int closed = paper_close(context, it.out, name, code == EXIT_DONE);
    if (code == EXIT_DONE)
        code = closed;
    return code == EXIT_DONE ? sum_up(&it, argv[3], name) : code;
}
