/*
 * dns_key: reads a TSIG key (see dns_key.h).
 *
 * All three forms are words: the name, the word "algorithm" with its value and
 * the word "secret" with its. So the text is cut into words at blanks, quotes,
 * braces, ":" and ";", and the words are looked for.
 */
#include "dns_key.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX  4096
#define WORDS_MAX 16

struct words {
    char text[FILE_MAX + 1];
    const char *list[WORDS_MAX];
    size_t count;
};

/* Comments (#, //) are left out to the end of the line. "/" alone is base64. */
static void cut(const char *text, struct words *words)
{
    size_t used = 0;
    bool in_word = false;
    words->count = 0;
    for (; *text && used < FILE_MAX; text++) {
        bool comment = *text == '#' || (!in_word && text[0] == '/' && text[1] == '/');
        if (comment)
            text += strcspn(text, "\n");
        bool gap = *text == '\0' || isspace((unsigned char)*text) ||
                   strchr("\"{};:", *text) != NULL;
        if (!gap && !in_word && words->count < WORDS_MAX)
            words->list[words->count++] = words->text + used;
        in_word = !gap;
        words->text[used++] = gap ? '\0' : *text;
        if (*text == '\0')
            break;
    }
    words->text[used] = '\0';
}

static const char *after(const struct words *words, const char *word)
{
    for (size_t i = 0; i + 1 < words->count; i++)
        if (strcasecmp(words->list[i], word) == 0)
            return words->list[i + 1];
    return NULL;
}

static bool is_base64(const char *text)
{
    size_t len = strlen(text);
    return len >= 4 && len % 4 == 0 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                        "0123456789+/=") == len;
}

static const char *take(const char *name, const char *algorithm, const char *secret,
                        struct dns_key *out)
{
    static const char *const known[] = { "hmac-sha256", "hmac-sha512", "hmac-sha1" };
    if (!name || !dnsrecord_name(name, strlen(name), out->name) || out->name[0] == '\0')
        return "has no key name";
    if (!secret || !is_base64(secret) || strlen(secret) >= sizeof(out->secret))
        return "has no secret in base64";
    if (!algorithm)
        return "has no algorithm";
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (strcasecmp(algorithm, known[i]) == 0) {
            snprintf(out->algorithm, sizeof(out->algorithm), "%s", known[i]);
            snprintf(out->secret, sizeof(out->secret), "%s", secret);
            return NULL;
        }
    return "has an algorithm that is not hmac-sha256, hmac-sha512 or hmac-sha1";
}

const char *dns_key_parse(const char *text, struct dns_key *out)
{
    struct words words;
    const char *wrong;
    memset(out, 0, sizeof(*out));
    cut(text, &words);
    const char *secret = after(&words, "secret");
    const char *name = after(&words, "id"); /* Knot: "key: - id: NAME" */
    if (secret)
        wrong = take(name ? name : after(&words, "key"), after(&words, "algorithm"),
                     secret, out);
    else if (words.count == 3) /* kdig: ALGORITHM:NAME:SECRET */
        wrong = take(words.list[1], words.list[0], words.list[2], out);
    else
        wrong = "is no TSIG key: tsig-keygen makes one";
    explicit_bzero(&words, sizeof(words));
    return wrong;
}

bool dns_key_read(const char *path, struct dns_key *out, char *error, size_t error_size)
{
    char text[FILE_MAX + 2]; /* one more than may be, and the end */
    struct stat st;
    const char *wrong = NULL;
    ssize_t n = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) != 0 || (n = read(fd, text, sizeof(text) - 1)) < 0)
        wrong = strerror(errno);
    else if (!S_ISREG(st.st_mode))
        wrong = "is not a regular file";
    else if (st.st_mode & (S_IRWXG | S_IRWXO))
        wrong = "may be read by others: chmod 0600";
    else if (n > FILE_MAX)
        wrong = "is too large for a key";
    if (fd >= 0)
        close(fd);
    if (!wrong && n >= 0) {
        text[n] = '\0';
        wrong = strlen(text) == (size_t)n ? dns_key_parse(text, out) : "is not text";
    }
    explicit_bzero(text, sizeof(text));
    if (wrong)
        snprintf(error, error_size, "key-file %s: %s", path, wrong);
    return !wrong;
}

void dns_key_forget(struct dns_key *key)
{
    explicit_bzero(key, sizeof(*key));
}
