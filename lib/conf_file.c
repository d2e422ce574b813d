/*
 * conf_file: reads sluice.conf and the password file.
 *
 * Comments are blanked here, before libConfuse sees the text, and a quote must
 * be closed on its own line. Both for libConfuse's sake (3.3): its scanner
 * counts the lines of comments more than once, so that its messages would name
 * the wrong line; and an open quote leaves it in a state that spoils the next
 * load in the same process, a reload. For the same reason, and because it would
 * make the configuration depend on who starts the program, "${" is refused;
 * so are numeric escapes, which could write a NUL that cuts a value short.
 *
 * Comments are # and // to the end of the line, and C comments; the latter two
 * only where a word could begin, so that http://host needs no quotes.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf_file.h"

#define FILE_MAX     ((size_t)4 * 1024 * 1024)
#define PASSWORD_MAX 1024

__attribute__((format(printf, 3, 4))) static bool wrong(struct conf_mistake *mistake,
                                                        int line, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    mistake->line = line;
    if (vsnprintf(mistake->text, sizeof(mistake->text), fmt, args) < 0)
        mistake->text[0] = '\0';
    va_end(args);
    return false;
}

/* Reads up to size bytes, or to the end of the file. -1: errno. */
static ssize_t read_all(int fd, char *out, size_t size)
{
    size_t used = 0;

    while (used < size) {
        ssize_t n = read(fd, out + used, size - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        used += (size_t)n;
    }
    return (ssize_t)used;
}

/* ---- comments ---------------------------------------------------------- */

struct text {
    char *at, *end;
    int line;
};

static void blank(struct text *t, size_t n)
{
    for (; n > 0 && t->at < t->end; n--, t->at++) {
        if (*t->at == '\n')
            t->line++;
        else
            *t->at = ' ';
    }
}

static bool starts(const struct text *t, const char *with)
{
    size_t len = strlen(with);

    return (size_t)(t->end - t->at) >= len && memcmp(t->at, with, len) == 0;
}

static bool blank_line(struct text *t)
{
    const char *lf = memchr(t->at, '\n', (size_t)(t->end - t->at));

    blank(t, lf ? (size_t)(lf - t->at) : (size_t)(t->end - t->at));
    return true;
}

static bool blank_block(struct text *t, struct conf_mistake *mistake)
{
    int line = t->line;

    blank(t, 2);
    while (t->at < t->end && !starts(t, "*/"))
        blank(t, 1);
    if (t->at == t->end)
        return wrong(mistake, line, "the comment that begins here is not closed");
    blank(t, 2);
    return true;
}

static bool skip_quoted(struct text *t, struct conf_mistake *mistake)
{
    char quote = *t->at++;

    for (; t->at < t->end && *t->at != '\n'; t->at++) {
        if (*t->at == quote) {
            t->at++;
            return true;
        }
        if (starts(t, "${"))
            return wrong(mistake, t->line, "${...} is not supported");
        if (*t->at != '\\')
            continue;
        if (++t->at == t->end || *t->at == '\n')
            break;
        if (quote == '"' && ((*t->at >= '0' && *t->at <= '9') || *t->at == 'x'))
            return wrong(mistake, t->line, "numeric escapes are not supported");
    }
    return wrong(mistake, t->line, "the quote is not closed on its line");
}

static bool blank_comments(char *text, size_t len, struct conf_mistake *mistake)
{
    struct text t = { text, text + len, 1 };
    bool word = false; /* inside an unquoted word */
    bool ok = true;

    while (ok && t.at < t.end) {
        char c = *t.at;
        if (c == '#' || (!word && starts(&t, "//"))) {
            ok = blank_line(&t);
        } else if (!word && starts(&t, "/*")) {
            ok = blank_block(&t, mistake);
        } else if (c == '"' || c == '\'') {
            ok = skip_quoted(&t, mistake);
            word = false;
        } else if (starts(&t, "${")) {
            ok = wrong(mistake, t.line, "${...} is not supported");
        } else {
            t.line += c == '\n';
            word = !strchr(" \t\r\n={}(),+", c);
            t.at++;
        }
    }
    return ok;
}

/* ---- sluice.conf ------------------------------------------------------- */

/* *text is malloc'ed, whether the answer is true or false. */
static bool read_text(int fd, char **text, size_t *len, struct conf_mistake *mistake)
{
    struct stat st;

    *text = NULL;
    if (fstat(fd, &st) < 0)
        return wrong(mistake, 0, "cannot read: %s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return wrong(mistake, 0, "is not a regular file");
    if ((size_t)st.st_size > FILE_MAX)
        return wrong(mistake, 0, "is larger than %zu bytes", FILE_MAX);
    *text = malloc(FILE_MAX + 1); /* it may have grown meanwhile */
    if (!*text)
        return wrong(mistake, 0, "out of memory");
    ssize_t n = read_all(fd, *text, FILE_MAX + 1);
    if (n < 0)
        return wrong(mistake, 0, "cannot read: %s", strerror(errno));
    if ((size_t)n > FILE_MAX)
        return wrong(mistake, 0, "is larger than %zu bytes", FILE_MAX);
    *len = (size_t)n;
    if (memchr(*text, '\0', *len))
        return wrong(mistake, 0, "is not a text file: it has a NUL byte");
    if (*len >= 3 && memcmp(*text, "\xef\xbb\xbf", 3) == 0)
        memset(*text, ' ', 3); /* a byte order mark */
    return blank_comments(*text, *len, mistake);
}

char *conf_read_file(const char *path, size_t *len, struct conf_mistake *mistake)
{
    char *text;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        wrong(mistake, 0, "cannot open: %s", strerror(errno));
        return NULL;
    }
    if (!read_text(fd, &text, len, mistake)) {
        free(text);
        text = NULL;
    }
    close(fd);
    return text;
}

/* ---- the password ------------------------------------------------------ */

static bool may_own_password(uid_t owner, const char *user)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (owner == 0 || owner == geteuid())
        return true;
    /* A daemon that is still root reads the file of the user it will be. */
    return getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) == 0 && found &&
           found->pw_uid == owner;
}

static bool check_password_file(int fd, const char *path, const char *user,
                                struct conf_mistake *mistake)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return wrong(mistake, 0, "redis-password-file %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return wrong(mistake, 0, "redis-password-file %s is not a regular file", path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return wrong(mistake, 0, "redis-password-file %s has mode %04o: chmod 0600 %s",
                     path, (unsigned)(st.st_mode & 07777), path);
    if (!may_own_password(st.st_uid, user))
        return wrong(mistake, 0, "redis-password-file %s belongs to uid %lu: chown %s %s",
                     path, (unsigned long)st.st_uid, user, path);
    return true;
}

static char *read_password_line(int fd, const char *path, struct conf_mistake *mistake)
{
    char text[PASSWORD_MAX + 2];
    char *password = NULL;
    ssize_t n = read_all(fd, text, sizeof(text));
    size_t len = n > 0 ? (size_t)n : 0;

    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    if (n < 0)
        wrong(mistake, 0, "redis-password-file %s: %s", path, strerror(errno));
    else if (len == 0 || len > PASSWORD_MAX || memchr(text, '\0', len) ||
             memchr(text, '\n', len))
        wrong(mistake, 0, "redis-password-file %s must hold one line of 1 to %d bytes",
              path, PASSWORD_MAX);
    else if (!(password = strndup(text, len)))
        wrong(mistake, 0, "out of memory");
    explicit_bzero(text, sizeof(text));
    return password;
}

char *conf_read_password(const char *path, const char *user, struct conf_mistake *mistake)
{
    char *password = NULL;

    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int error = errno;
        wrong(mistake, 0, "redis-password-file %s: %s%s%s", path, strerror(error),
              error == EACCES ? ": it must belong to user " : "",
              error == EACCES ? user : "");
        return NULL;
    }
    if (check_password_file(fd, path, user, mistake))
        password = read_password_line(fd, path, mistake);
    close(fd);
    return password;
}
