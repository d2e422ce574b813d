/*
 * http_request: see http_request.h. The head is scanned once from its beginning
 * whenever more of it has come: at most HTTP_HEAD_MAX bytes, however often.
 */
#include "http_request.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "addr.h"
#include "netaddr.h"

/* RFC 9110 5.6.2 */
static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* The head's length, its empty line included; 0: not complete. *bad: a line end that
 * is none, or a control character. */
static size_t head_length(const char *buf, size_t len, bool *bad)
{
    *bad = false;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)buf[i];
        if (c == '\r' && i + 1 == len)
            return 0;
        if (c == '\r' && buf[i + 1] == '\n') {
            if (i >= 2 && buf[i - 1] == '\n')
                return i + 2;
            i++;
        } else if ((c < 0x20 && c != '\t') || c == 0x7f) {
            *bad = true;
            return 0;
        }
    }
    return 0;
}

/* The part of a line up to a blank; *line moves behind it. */
static size_t take_word(const char **line, const char *end, const char **word)
{
    const char *blank = memchr(*line, ' ', (size_t)(end - *line));
    const char *stop = blank ? blank : end;
    *word = *line;
    *line = blank ? blank + 1 : end;
    return (size_t)(stop - *word);
}

/* "GET /path?query HTTP/1.1" */
static int take_request_line(const char *line, const char *end, struct http_request *out)
{
    const char *method, *target, *version;
    size_t method_len = take_word(&line, end, &method);
    size_t target_len = take_word(&line, end, &target);
    size_t version_len = take_word(&line, end, &version);
    if (method_len == 0 || method_len > 32 || target_len == 0 || version_len != 8 ||
        version + version_len != end || strncmp(version, "HTTP/", 5) != 0)
        return 400;
    for (size_t i = 0; i < method_len; i++)
        if (!is_token(method[i]))
            return 400;
    if (strncmp(version, "HTTP/1.1", 8) != 0 && strncmp(version, "HTTP/1.0", 8) != 0)
        return 505;
    out->get = method_len == 3 && strncmp(method, "GET", 3) == 0;
    out->head = method_len == 4 && strncmp(method, "HEAD", 4) == 0;
    out->keep = version[7] == '1';
    if (!out->get && !out->head)
        return 200; /* "*" and authorities belong to other methods */
    if (target[0] != '/')
        return 400;
    for (size_t i = 0; i < target_len; i++)
        if ((unsigned char)target[i] <= 0x20 || (unsigned char)target[i] >= 0x7f)
            return 400;
    const char *query = memchr(target, '?', target_len);
    size_t path_len = query ? (size_t)(query - target) : target_len;
    if (path_len <= HTTP_PATH_MAX)
        memcpy(out->path, target, path_len);
    out->path[path_len <= HTTP_PATH_MAX ? path_len : 0] = '\0';
    return 200;
}

struct field {
    const char *name, *value;
    size_t name_len, value_len;
};

static bool is_named(const struct field *field, const char *name)
{
    return field->name_len == strlen(name) &&
           strncasecmp(field->name, name, field->name_len) == 0;
}

static bool split_field(const char *line, const char *end, struct field *out)
{
    const char *colon = memchr(line, ':', (size_t)(end - line));
    if (!colon || colon == line)
        return false;
    for (const char *c = line; c < colon; c++)
        if (!is_token(*c))
            return false; /* a blank before the colon, or a folded line */
    const char *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *out = (struct field){ line, value, (size_t)(colon - line), (size_t)(end - value) };
    return true;
}

static int copy_once(const struct field *field, char *out, size_t size)
{
    if (out[0] || field->value_len >= size || field->value_len == 0)
        return 400;
    memcpy(out, field->value, field->value_len);
    out[field->value_len] = '\0';
    return 200;
}

/* Whether a list ("keep-alive, close") has the word. */
static bool has_word(const struct field *field, const char *word)
{
    const char *at = field->value, *end = at + field->value_len;
    while (at < end) {
        while (at < end && (*at == ' ' || *at == ',' || *at == '\t'))
            at++;
        const char *stop = at;
        while (stop < end && *stop != ',' && *stop != ' ' && *stop != '\t')
            stop++;
        if ((size_t)(stop - at) == strlen(word) &&
            strncasecmp(at, word, strlen(word)) == 0)
            return true;
        at = stop;
    }
    return false;
}

static int take_field(const struct field *field, struct http_request *out)
{
    if (is_named(field, "host"))
        return copy_once(field, out->host, sizeof(out->host));
    if (is_named(field, "authorization"))
        return copy_once(field, out->authorization, sizeof(out->authorization));
    if (is_named(field, "transfer-encoding") ||
        (is_named(field, "content-length") &&
         !(field->value_len == 1 && field->value[0] == '0')))
        return 413;
    if (is_named(field, "connection") && has_word(field, "close"))
        out->keep = false;
    return 200;
}

static int take_fields(const char *line, const char *end, struct http_request *out)
{
    int body = 200;
    for (int n = 0; line < end; n++) {
        const char *stop = memchr(line, '\r', (size_t)(end - line));
        struct field field;
        if (n == HTTP_FIELDS_MAX)
            return 431;
        if (!split_field(line, stop, &field))
            return 400;
        int status = take_field(&field, out);
        if (status == 413)
            body = 413;
        else if (status != 200)
            return status;
        line = stop + 2;
    }
    /* Another method is told so first, body or not. */
    return out->get || out->head ? body : 200;
}

int http_request_parse(const char *buf, size_t len, struct http_request *out,
                       size_t *used)
{
    bool bad;
    size_t head = head_length(buf, len, &bad);
    *out = (struct http_request){ .keep = false };
    *used = 0;
    if (bad)
        return 400;
    if (head == 0)
        return len < HTTP_HEAD_MAX ? 0 : memchr(buf, '\n', len) ? 431 : 414;
    const char *line_end = memchr(buf, '\r', head);
    int status = take_request_line(buf, line_end, out);
    if (status == 200)
        status = take_fields(line_end + 2, buf + head - 2, out);
    if (status == 200 && !out->get && !out->head)
        out->keep = false; /* whatever follows may be its body */
    *used = head;
    return status;
}

/* ---- who may ask ------------------------------------------------------------------ */

bool http_request_host(const struct conf *conf, const char *host)
{
    char name[ADDR_DOMAIN_MAX + 1];
    struct netaddr address;
    size_t len = strlen(host);
    const char *colon = strrchr(host, ':');
    if (host[0] == '[') {
        const char *end = strchr(host, ']');
        return end &&
               (!end[1] ||
                (end[1] == ':' && strspn(end + 2, "0123456789") == strlen(end + 2))) &&
               netaddr_parse(host + 1, (size_t)(end - host - 1), &address);
    }
    if (colon) {
        if (strspn(colon + 1, "0123456789") != strlen(colon + 1))
            return false;
        len = (size_t)(colon - host);
    }
    if (netaddr_parse(host, len, &address))
        return true;
    if (!addr_domain(host, len, name))
        return false;
    if (strcmp(name, "localhost") == 0 || strcmp(name, conf->hostname) == 0)
        return true;
    for (char **known = conf->http.hosts; known && *known; known++)
        if (strcmp(name, *known) == 0)
            return true;
    return false;
}

static int base64_value(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Length of what was decoded; -1: it is no base64. out has room for 3/4 of text. */
static long base64_decode(const char *text, char *out)
{
    uint32_t bits = 0;
    int have = 0;
    long n = 0;
    size_t len = strlen(text);
    while (len > 0 && text[len - 1] == '=')
        len--;
    for (size_t i = 0; i < len; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return -1;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (char)(bits >> have & 0xff);
        }
    }
    return n;
}

static bool same_secret(const char *given, size_t given_len, const char *secret)
{
    size_t len = strlen(secret);
    volatile unsigned char difference = given_len != len;
    for (size_t i = 0; i < given_len; i++)
        difference |= (unsigned char)(given[i] ^ secret[i % len]);
    return difference == 0;
}

bool http_request_allowed(const struct conf *conf, const char *authorization)
{
    char plain[HTTP_AUTH_MAX];
    if (!conf->http.password)
        return true;
    if (strncasecmp(authorization, "basic ", 6) != 0)
        return false;
    while (authorization[6] == ' ')
        authorization++;
    long len = base64_decode(authorization + 6, plain);
    const char *colon = len > 0 ? memchr(plain, ':', (size_t)len) : NULL;
    bool same = colon && same_secret(colon + 1, (size_t)(plain + len - colon - 1),
                                     conf->http.password);
    explicit_bzero(plain, sizeof(plain));
    return same;
}
