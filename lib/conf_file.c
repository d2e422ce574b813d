/*
 * conf_file: reads sluice.conf and the files with secrets that it names.
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
#define SECRET_MIN   8
#define SECRET_MAX   1024
#define SECRETS_SIZE (CONF_SECRETS_MAX * (SECRET_MAX + 2))

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

/* ---- secrets ----------------------------------------------------------- */

static bool may_own_secret(uid_t owner, const char *user)
{
    struct passwd entry, *found = NULL;
    char buffer[4096];

    if (owner == 0 || owner == geteuid())
        return true;
    /* A daemon that is still root reads the file of the user it will be. */
    return getpwnam_r(user, &entry, buffer, sizeof(buffer), &found) == 0 && found &&
           found->pw_uid == owner;
}

static bool check_secret_file(int fd, const char *key, const char *path, const char *user,
                              struct conf_mistake *mistake)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return wrong(mistake, 0, "%s %s: %s", key, path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return wrong(mistake, 0, "%s %s is not a regular file", key, path);
    if (st.st_mode & (S_IRWXG | S_IRWXO))
        return wrong(mistake, 0, "%s %s has mode %04o: chmod 0600 %s", key, path,
                     (unsigned)(st.st_mode & 07777), path);
    if (!may_own_secret(st.st_uid, user))
        return wrong(mistake, 0, "%s %s belongs to uid %lu: chown %s %s", key, path,
                     (unsigned long)st.st_uid, user, path);
    return true;
}

/* Reads a file with a secret in it into text of size bytes. -1: mistake is set. */
static ssize_t read_secret_file(const char *key, const char *path, const char *user,
                                char *text, size_t size, struct conf_mistake *mistake)
{
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        int error = errno;
        wrong(mistake, 0, "%s %s: %s%s%s", key, path, strerror(error),
              error == EACCES ? ": it must belong to user " : "",
              error == EACCES ? user : "");
        return -1;
    }
    if (check_secret_file(fd, key, path, user, mistake)) {
        n = read_all(fd, text, size);
        if (n < 0)
            wrong(mistake, 0, "%s %s: %s", key, path, strerror(errno));
    }
    close(fd);
    return n;
}

void conf_free_secret(char *secret)
{
    if (secret)
        explicit_bzero(secret, strlen(secret));
    free(secret);
}

void conf_free_secrets(char **secrets)
{
    for (size_t i = 0; secrets && secrets[i]; i++)
        conf_free_secret(secrets[i]);
    free(secrets);
}

char *conf_read_password(const char *key, const char *path, const char *user,
                         struct conf_mistake *mistake)
{
    char text[PASSWORD_MAX + 2];
    char *password = NULL;
    ssize_t n = read_secret_file(key, path, user, text, sizeof(text), mistake);
    size_t len = n > 0 ? (size_t)n : 0;

    if (len > 0 && text[len - 1] == '\n')
        len--;
    if (len > 0 && text[len - 1] == '\r')
        len--;
    if (n >= 0 && (len == 0 || len > PASSWORD_MAX || memchr(text, '\0', len) ||
                   memchr(text, '\n', len)))
        wrong(mistake, 0, "%s %s must hold one line of 1 to %d bytes", key, path,
              PASSWORD_MAX);
    else if (n >= 0 && !(password = strndup(text, len)))
        wrong(mistake, 0, "out of memory");
    explicit_bzero(text, sizeof(text));
    return password;
}

static bool is_secret(const char *line, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            return false;
    return len >= SECRET_MIN && len <= SECRET_MAX;
}

/* Cuts the file's text into the lines of out, which has room for all. */
static bool split_secrets(const char *key, const char *path, const char *text, size_t len,
                          char **out, struct conf_mistake *mistake)
{
    const char *at = text, *end = text + len;
    size_t n = 0;

    for (int line = 1; at < end; line++) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        const char *next = lf ? lf + 1 : end;
        size_t line_len = (size_t)((lf ? lf : end) - at);
        if (line_len > 0 && at[line_len - 1] == '\r')
            line_len--;
        if (line_len > 0 && n == CONF_SECRETS_MAX)
            return wrong(mistake, 0, "%s %s has more than %d secrets", key, path,
                         CONF_SECRETS_MAX);
        if (line_len > 0 && !is_secret(at, line_len))
            return wrong(mistake, 0, "%s %s, line %d: a secret is %d to %d bytes of text",
                         key, path, line, SECRET_MIN, SECRET_MAX);
        if (line_len > 0 && !(out[n++] = strndup(at, line_len)))
            return wrong(mistake, 0, "out of memory");
        at = next;
    }
    return n > 0 || wrong(mistake, 0, "%s %s holds no secret", key, path);
}

char **conf_read_secrets(const char *key, const char *path, const char *user,
                         struct conf_mistake *mistake)
{
    char *text = malloc(SECRETS_SIZE + 1);
    char **secrets = calloc(CONF_SECRETS_MAX + 1, sizeof(*secrets));
    ssize_t n = -1;
    bool ok = false;

    if (!text || !secrets)
        wrong(mistake, 0, "out of memory");
    else
        n = read_secret_file(key, path, user, text, SECRETS_SIZE + 1, mistake);
    if (n > SECRETS_SIZE)
        wrong(mistake, 0, "%s %s is larger than %d bytes", key, path, SECRETS_SIZE);
    else if (n >= 0)
        ok = split_secrets(key, path, text, (size_t)n, secrets, mistake);
    if (n > 0)
        explicit_bzero(text, (size_t)n);
    free(text);
    if (ok)
        return secrets;
    conf_free_secrets(secrets);
    return NULL;
}

/* ---- other files --------------------------------------------------------- */

bool conf_check_file(const char *key, const char *path, const char *user,
                     struct conf_mistake *mistake)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        int error = errno;
        return wrong(mistake, 0, "%s %s: %s%s%s%s", key, path, strerror(error),
                     error == EACCES ? ": user " : "", error == EACCES ? user : "",
                     error == EACCES ? " must be able to read it" : "");
    }
    bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    close(fd);
    return regular || wrong(mistake, 0, "%s %s is not a regular file", key, path);
}
