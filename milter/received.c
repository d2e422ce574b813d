/*
 * received: the client that a host names in its Received line.
 *
 * What stands before "by", as the MTAs write it (RFC 5321 4.4 leaves it to them;
 * X is what the client said in HELO, N the name that its address has in DNS):
 *
 *     from X (N [ADDR])                    Postfix, Sendmail, Google, OpenSMTPD
 *     from X ([ADDR])                      the same without a name; IIS, Dovecot
 *     from X (ident@N [ADDR] (may be forged))       Sendmail
 *     from N ([ADDR]:port helo=X ident=I)  Exim; "from N ([ADDR])" where X is N
 *     from [ADDR]:port (helo=X ident=I)    Exim, no name in DNS
 *     from X (ADDR)                        Exchange, PowerMTA
 *     from N (HELO X) (ident@ADDR)         qmail; IronPort with ([ADDR])
 *     (from user@host), by H (Postfix, from userid U), from U by H with local
 *                                          a process of the host
 *     (qmail 1 invoked from network)       handed on within the host
 *
 * Comments of other kinds may follow (TLS, the login name).
 *
 * X, N, I and the names in a client's certificate are the client's own text. An
 * MTA that lets all of it through can be made to write a second address, a
 * second "by" or half a comment. So a line counts only if it can be read in one
 * way: each form as a whole, the address where that form has it, no other
 * comment that looks like one, "by" and "from" once each outside of comments,
 * none behind an inner comment's end, and all parentheses in pairs. Quotes do
 * not group: they are not in pairs either.
 */
#include "received.h"

#include <string.h>
#include <strings.h>

#define COMMENTS_MAX 12

struct span {
    const char *text;
    size_t len;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_control(char c)
{
    return ((unsigned char)c < ' ' && !is_blank(c)) || c == 0x7f;
}

static bool equals(struct span span, const char *word)
{
    return span.len == strlen(word) && strncasecmp(span.text, word, span.len) == 0;
}

static bool starts(struct span span, const char *prefix)
{
    size_t len = strlen(prefix);
    return span.len >= len && strncasecmp(span.text, prefix, len) == 0;
}

static struct span behind(struct span span, size_t len)
{
    return (struct span){ span.text + len, span.len - len };
}

/* Takes the word at the start of rest, up to a blank. */
static struct span take_word(struct span *rest)
{
    size_t skip = 0, len = 0;

    while (skip < rest->len && is_blank(rest->text[skip]))
        skip++;
    *rest = behind(*rest, skip);
    while (len < rest->len && !is_blank(rest->text[len]))
        len++;
    struct span word = { rest->text, len };
    *rest = behind(*rest, len);
    return word;
}

/* ---- words and comments of a line ---------------------------------------- */

enum part_kind { PART_END, PART_WORD, PART_COMMENT, PART_BAD };

/* A comment without its parentheses and the blanks inside of them. */
static enum part_kind take_comment(struct span *rest, struct span *part)
{
    size_t depth = 0, i = 0;

    for (; i < rest->len; i++) {
        char c = rest->text[i];
        if (is_control(c))
            return PART_BAD;
        if (c == '\\')
            i++;
        else if (c == '(')
            depth++;
        else if (c == ')' && --depth == 0)
            break;
    }
    if (i >= rest->len)
        return PART_BAD;
    *part = (struct span){ rest->text + 1, i - 1 };
    *rest = behind(*rest, i + 1);
    while (part->len > 0 && is_blank(part->text[0]))
        *part = behind(*part, 1);
    while (part->len > 0 && is_blank(part->text[part->len - 1]))
        part->len--;
    return PART_COMMENT;
}

static enum part_kind next_part(struct span *rest, struct span *part)
{
    size_t len = 0;

    while (rest->len > 0 && is_blank(rest->text[0]))
        *rest = behind(*rest, 1);
    if (rest->len == 0)
        return PART_END;
    if (rest->text[0] == '(')
        return take_comment(rest, part);
    while (len < rest->len && !is_blank(rest->text[len]) && rest->text[len] != '(') {
        if (rest->text[len] == ')' || is_control(rest->text[len]))
            return PART_BAD;
        len++;
    }
    *part = (struct span){ rest->text, len };
    *rest = behind(*rest, len);
    return PART_WORD;
}

struct line {
    bool from, by;    /* these words were there */
    struct span whom; /* the word after "from" */
    struct span comments[COMMENTS_MAX];
    size_t before; /* so many of the comments stand before "by" */
    size_t count;
    struct span with; /* the word after the first "with" behind "by" */
};

/* Whether "by" follows an inner comment's end: text that was meant to close a
 * comment and go on, or that closed too late. */
static bool hides_by(struct span comment)
{
    for (size_t i = 0; i < comment.len; i++) {
        if (comment.text[i] != ')')
            continue;
        struct span rest = behind(comment, i + 1);
        if (equals(take_word(&rest), "by"))
            return true;
    }
    return false;
}

static bool add_comment(struct line *line, struct span comment)
{
    if (hides_by(comment))
        return false;
    if (line->count == COMMENTS_MAX)
        return line->by; /* nobody asks for what comes late behind "by" */
    line->comments[line->count++] = comment;
    if (!line->by)
        line->before = line->count;
    return true;
}

/* A word that is not the one after "from". */
static bool add_word(struct line *line, struct span word, bool *with_next)
{
    bool first_with = *with_next && line->with.len == 0;

    if (equals(word, "by")) {
        if (line->by)
            return false;
        line->by = true;
    } else if (!line->by || equals(word, "from")) {
        return false;
    }
    if (first_with)
        line->with = word;
    *with_next = equals(word, "with");
    return true;
}

static bool split(struct span value, struct line *line)
{
    struct span part;
    bool with_next = false;

    memset(line, 0, sizeof(*line));
    for (bool first = true;; first = false) {
        enum part_kind kind = next_part(&value, &part);
        bool ok = true;
        if (kind == PART_END)
            return true;
        if (kind == PART_COMMENT) {
            ok = add_comment(line, part);
        } else if (kind == PART_WORD && first && equals(part, "from")) {
            line->from = true;
            ok = next_part(&value, &line->whom) == PART_WORD;
        } else if (kind == PART_WORD && !line->from && !line->by && part.text[0] == ';') {
            return true; /* qmail's: nothing but a comment and a date */
        } else {
            ok = kind == PART_WORD && add_word(line, part, &with_next);
        }
        if (!ok)
            return false;
    }
}

/* ---- addresses ----------------------------------------------------------- */

/* "192.0.2.1", "2001:db8::1", "IPv6:2001:db8::1", "fe80::1%3". */
static bool read_address(struct span text, struct netaddr *out)
{
    if (starts(text, "IPv6:"))
        text = behind(text, 5);
    const char *zone = memchr(text.text, '%', text.len);
    return netaddr_parse(text.text, zone ? (size_t)(zone - text.text) : text.len, out);
}

/* "[ADDR]" or "[ADDR]:port", the whole word. */
static bool read_bracketed(struct span word, struct netaddr *out)
{
    const char *close = memchr(word.text, ']', word.len);

    if (word.len < 2 || word.text[0] != '[' || !close)
        return false;
    struct span port = behind(word, (size_t)(close - word.text) + 1);
    if (port.len > 0) {
        if (port.text[0] != ':' || port.len == 1 || port.len > 6)
            return false;
        for (size_t i = 1; i < port.len; i++)
            if (port.text[i] < '0' || port.text[i] > '9')
                return false;
    }
    struct span inner = { word.text + 1, (size_t)(close - word.text) - 1 };
    return read_address(inner, out);
}

/* A host name, or with an "ident@": never text such as "helo=x". */
static bool is_name(struct span word)
{
    for (size_t i = 0; i < word.len; i++)
        if (strchr("()[]=\"\\,;", word.text[i]))
            return false;
    return word.len > 0;
}

/* "ADDR" or "ident@ADDR", the whole word. */
static bool read_bare(struct span word, struct netaddr *out)
{
    const char *at = memrchr(word.text, '@', word.len);
    struct span ident = { word.text, at ? (size_t)(at - word.text) : 0 };

    if (!at)
        return read_address(word, out);
    return is_name(ident) && read_address(behind(word, ident.len + 1), out);
}

/* ---- comments that name the client --------------------------------------- */

struct client {
    struct netaddr address;
    bool local;       /* "[local]": a process of the host */
    struct span helo; /* of "helo=X"; len 0: none */
};

/* "helo=X", "ident=I", "port=P" and "verified", to the end. */
static bool read_attributes(struct span rest, struct span *helo)
{
    for (;;) {
        struct span word = take_word(&rest);
        if (word.len == 0)
            return true;
        if (starts(word, "helo=") && helo->len == 0)
            *helo = behind(word, 5);
        else if (!starts(word, "ident=") && !starts(word, "port=") &&
                 !equals(word, "verified"))
            return false;
    }
}

static bool may_be_forged(struct span rest)
{
    struct span word = take_word(&rest);
    return word.len == 0 ||
           (equals(word, "(may") && equals(take_word(&rest), "be") &&
            equals(take_word(&rest), "forged)") && take_word(&rest).len == 0);
}

/* Whether a comment, as a whole, has one of the forms with an address. */
static bool read_client(struct span comment, struct client *out)
{
    struct span rest = comment, word = take_word(&rest);

    memset(out, 0, sizeof(*out));
    if (read_bracketed(word, &out->address))
        return may_be_forged(rest) || read_attributes(rest, &out->helo);
    struct span second = take_word(&rest);
    if (second.len == 0)
        return read_bare(word, &out->address);
    if (!is_name(word))
        return false;
    out->local = equals(second, "[local]");
    if (out->local || read_bracketed(second, &out->address))
        return may_be_forged(rest);
    return false;
}

static bool read_helo_comment(struct span comment, struct span *helo)
{
    struct span rest = comment, word = take_word(&rest);

    if (!equals(word, "HELO") && !equals(word, "EHLO"))
        return false;
    *helo = take_word(&rest);
    return take_word(&rest).len == 0;
}

static bool ends(struct span span, const char *suffix)
{
    size_t len = strlen(suffix);
    return span.len >= len && equals(behind(span, span.len - len), suffix);
}

/* Postfix's, on a client's certificate: the names in it are the client's. */
static bool is_certificate(struct span comment)
{
    return starts(comment, "Client CN \"") &&
           (ends(comment, "\" (verified OK)") || ends(comment, "\" (not verified)"));
}

/* Whether a comment could be meant to name a client, in whatever form. */
static bool could_name(struct span comment)
{
    struct netaddr address;
    struct span helo, rest = comment;

    if (read_helo_comment(comment, &helo))
        return true;
    if (is_certificate(comment))
        return false;
    for (;;) {
        struct span word = take_word(&rest);
        if (word.len == 0)
            return false;
        if (read_bracketed(word, &address) || read_bare(word, &address))
            return true;
    }
}

/* Whether any of the comments before "by" does, from the first-th on. */
static bool names_another(const struct line *line, size_t first)
{
    for (size_t i = first; i < line->before; i++)
        if (could_name(line->comments[i]))
            return true;
    return false;
}

/* ---- the forms ----------------------------------------------------------- */

/* from N (HELO X) (ident@ADDR), from [ADDR] (HELO X) */
static bool read_qmail(const struct line *line, struct client *out)
{
    struct span helo = out->helo;

    if (line->before == 1 && !read_bracketed(line->whom, &out->address))
        return false;
    if (line->before > 2 ||
        (line->before == 2 && (!read_client(line->comments[1], out) || out->local)))
        return false;
    out->helo = helo;
    return true;
}

static bool is_exim(const struct line *line)
{
    for (size_t i = line->before; i < line->count; i++)
        if (starts(line->comments[i], "Exim "))
            return true;
    return false;
}

/* from [ADDR] (helo=X), where no comment has the address */
static bool read_literal(const struct line *line, struct client *out)
{
    struct span none = { "", 0 };
    struct span first = line->before > 0 ? line->comments[0] : none;

    memset(out, 0, sizeof(*out));
    if (!read_bracketed(line->whom, &out->address) || names_another(line, 0))
        return false;
    if (line->before == 0)
        return is_exim(line);
    return starts(first, "using ") || starts(first, "account ") ||
           (line->before == 1 && read_attributes(first, &out->helo));
}

static bool read_from(const struct line *line, struct client *out)
{
    memset(out, 0, sizeof(*out));
    if (line->before == 0 && starts(line->with, "local")) {
        out->local = true;
        return is_exim(line);
    }
    if (line->before > 0 && read_helo_comment(line->comments[0], &out->helo))
        return read_qmail(line, out);
    if (line->before > 0 && read_client(line->comments[0], out)) {
        if (out->helo.len == 0)
            out->helo = line->whom;
        return !names_another(line, 1);
    }
    return read_literal(line, out);
}

/* Lines that begin with a comment, or with "by". */
static bool read_without_from(const struct line *line, struct client *out)
{
    memset(out, 0, sizeof(*out));
    if (line->count == 0)
        return false;
    struct span rest = line->comments[0], word = take_word(&rest);
    if (line->before == 0) {
        static const char userid[] = ", from userid ";
        out->local =
            memmem(rest.text - word.len, word.len + rest.len, userid, sizeof(userid) - 1);
        return out->local;
    }
    if (line->before != 1)
        return false;
    if (equals(word, "from") && line->by) {
        /* Sendmail without a HELO; of a process, "(from user@host)". */
        out->local = !memchr(rest.text, '[', rest.len);
        return out->local || (read_client(rest, out) && !out->local);
    }
    if (!equals(word, "qmail") || line->by)
        return false;
    take_word(&rest);
    struct span invoked = take_word(&rest), how = take_word(&rest);
    out->local = equals(how, "by") && equals(take_word(&rest), "uid");
    bool network = equals(how, "from") && equals(take_word(&rest), "network");
    return equals(invoked, "invoked") &&
           (out->local || (network && netaddr_parse("127.0.0.1", 9, &out->address)));
}

/* RFC 3848, RFC 6531 4.3; "asmtp" is an old Exim's. */
static bool is_authenticated(struct span with)
{
    static const char *const names[] = { "ESMTPA",    "ESMTPSA",    "LMTPA",
                                         "LMTPSA",    "UTF8SMTPA",  "UTF8SMTPSA",
                                         "UTF8LMTPA", "UTF8LMTPSA", "asmtp" };

    if (with.len > 0 && with.text[with.len - 1] == ';')
        with.len--;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (equals(with, names[i]))
            return true;
    return false;
}

bool received_parse(const char *value, size_t len, struct received *out)
{
    struct span whole = { value, len };
    struct line line;
    struct client client;

    memset(out, 0, sizeof(*out));
    out->client.family = AF_UNSPEC;
    if (len > RECEIVED_MAX || !split(whole, &line))
        return false;
    if (line.from ? !line.by || !read_from(&line, &client)
                  : !read_without_from(&line, &client))
        return false;
    out->authenticated = is_authenticated(line.with);
    if (client.local)
        return true;
    out->client = client.address;
    if (client.helo.len < sizeof(out->helo) &&
        !memchr(client.helo.text ? client.helo.text : "", '\0', client.helo.len))
        memcpy(out->helo, client.helo.text ? client.helo.text : "", client.helo.len);
    return true;
}
