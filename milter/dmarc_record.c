/*
 * dmarc_record: see dmarc_record.h.
 *
 * Measured of libopendmarc 1.4.2, and mended here by a strict reader of tags,
 * from which libopendmarc gets a record in one spelling:
 * - it takes any beginning of a word for the word ("p=r", "p=rej ect"), and
 *   "pct=5x" for 5;
 * - of a tag given twice, the last counts;
 * - "v=" may be anything in case, stand anywhere, or be missing;
 * - one bad value of a tag that does not matter (rf, fo, ri, pct, adkim) makes
 *   it refuse the whole record, where RFC 7489 6.3 wants the default;
 * - np, psd and t are not known to it: they are read here alone;
 * - it cuts a record at 8 KB and a value at 511 bytes.
 *
 * A tag given twice is an error of syntax (RFC 6376 3.2), so none of its values
 * counts: the default does, and a policy is not valid. A policy that is not valid
 * comes to p=none where rua names an address at least, else DMARC is not applied
 * (RFC 7489 6.6.3 step 6, RFC 9989 4.10.1). A missing p is p=none in RFC 9989,
 * not valid in RFC 7489.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <opendmarc/dmarc.h>

#include "dmarc_record.h"

/* ---- tags ---------------------------------------------------------------- */

enum tag_name { P, SP, NP, ADKIM, ASPF, PCT, PSD, T, TAG_NAMES };

static const char *const tag_names[TAG_NAMES] = {
    [P] = "p",       [SP] = "sp",   [NP] = "np",   [ADKIM] = "adkim",
    [ASPF] = "aspf", [PCT] = "pct", [PSD] = "psd", [T] = "t",
};

struct text {
    const char *start;
    size_t len;
};

struct tags {
    struct text values[TAG_NAMES];
    unsigned seen[TAG_NAMES];
    bool rua; /* one reporting address that is valid */
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static struct text trim(const char *start, const char *end)
{
    while (start < end && is_blank(*start))
        start++;
    while (end > start && is_blank(end[-1]))
        end--;
    return (struct text){ start, (size_t)(end - start) };
}

static bool is_word(struct text text, const char *word)
{
    return text.len == strlen(word) && strncasecmp(text.start, word, text.len) == 0;
}

/* name = value up to the next ';' or the end; false: there is no '='. */
static bool read_tag(const char *start, const char *end, struct text *name,
                     struct text *value)
{
    const char *equals = memchr(start, '=', (size_t)(end - start));
    if (!equals)
        return false;
    *name = trim(start, equals);
    *value = trim(equals + 1, end);
    return true;
}

static const char *tag_end(const char *start, const char *end)
{
    const char *semicolon = memchr(start, ';', (size_t)(end - start));
    return semicolon ? semicolon : end;
}

bool dmarc_record_claims(const char *text, size_t len)
{
    struct text name, value;

    /* No white space before it: RFC 7489 6.4, RFC 9989 4.8. */
    return len > 0 && !is_blank(text[0]) &&
           read_tag(text, tag_end(text, text + len), &name, &value) &&
           is_word(name, "v") && value.len == 6 && memcmp(value.start, "DMARC1", 6) == 0;
}

/* A scheme, ':' and something (RFC 3986); "mailto:" wants an address. What stands
 * behind '!' is a size (RFC 7489 6.2). */
static bool is_report_uri(struct text uri)
{
    const char *end = uri.start + uri.len;
    const char *size = memchr(uri.start, '!', uri.len);
    if (size)
        end = size;
    const char *colon = memchr(uri.start, ':', (size_t)(end - uri.start));
    if (!colon || colon == uri.start || end - colon < 2 ||
        !isalpha((unsigned char)uri.start[0]))
        return false;
    for (const char *c = uri.start; c < colon; c++)
        if (!isalnum((unsigned char)*c) && !strchr("+-.", *c))
            return false;
    for (const char *c = colon + 1; c < end; c++)
        if (*c <= ' ' || *c > '~' || strchr("\"<>\\^`{|}", *c))
            return false;
    if (!is_word((struct text){ uri.start, (size_t)(colon - uri.start) }, "mailto"))
        return true;
    const char *at = memchr(colon, '@', (size_t)(end - colon));
    return at && at > colon + 1 && at + 1 < end;
}

static bool has_report_uri(struct text list)
{
    const char *end = list.start + list.len;

    for (const char *start = list.start; start <= end;) {
        const char *comma = memchr(start, ',', (size_t)(end - start));
        const char *stop = comma ? comma : end;
        if (is_report_uri(trim(start, stop)))
            return true;
        start = stop + 1;
    }
    return false;
}

static void keep_tag(struct tags *tags, struct text name, struct text value)
{
    if (is_word(name, "rua"))
        tags->rua = tags->rua || has_report_uri(value);
    for (int i = 0; i < TAG_NAMES; i++) {
        if (is_word(name, tag_names[i])) {
            tags->values[i] = value;
            tags->seen[i]++;
        }
    }
}

/* What is no tag is passed over (RFC 7489 6.3, RFC 9989 4.7). */
static void read_tags(const char *text, size_t len, struct tags *tags)
{
    const char *end = text + len;
    struct text name, value;

    memset(tags, 0, sizeof(*tags));
    for (const char *start = text; start < end;) {
        const char *stop = tag_end(start, end);
        if (read_tag(start, stop, &name, &value))
            keep_tag(tags, name, value);
        start = stop + 1;
    }
}

/* ---- values -------------------------------------------------------------- */

/* Which of the words a tag is; -1: none, given twice, or not there. */
static int tag_word(const struct tags *tags, enum tag_name tag, const char *const *words)
{
    for (int i = 0; tags->seen[tag] == 1 && words[i]; i++)
        if (is_word(tags->values[tag], words[i]))
            return i;
    return -1;
}

static const char *const policies[] = { [DMARC_NONE] = "none",
                                        [DMARC_QUARANTINE] = "quarantine",
                                        [DMARC_REJECT] = "reject",
                                        NULL };
static const char *const modes[] = { "r", "s", NULL };

const char *dmarc_policy_name(enum dmarc_policy policy)
{
    return policies[policy];
}

static int tag_percent(const struct tags *tags)
{
    struct text value = tags->values[PCT];
    int percent = 0;

    if (tags->seen[PCT] != 1 || value.len < 1 || value.len > 3)
        return 100;
    for (size_t i = 0; i < value.len; i++) {
        if (!isdigit((unsigned char)value.start[i]))
            return 100;
        percent = percent * 10 + (value.start[i] - '0');
    }
    return percent <= 100 ? percent : 100;
}

static const char *policy_trouble(const struct tags *tags, enum conf_discovery rules)
{
    if (tags->seen[P] == 0 && rules == DISCOVERY_PSL)
        return "its record has no p=";
    if (tags->seen[P] && tag_word(tags, P, policies) < 0)
        return "p= of its record is not valid";
    if (tags->seen[SP] && tag_word(tags, SP, policies) < 0)
        return "sp= of its record is not valid";
    if (rules == DISCOVERY_TREEWALK && tags->seen[NP] && tag_word(tags, NP, policies) < 0)
        return "np= of its record is not valid";
    return NULL;
}

/* ---- libopendmarc -------------------------------------------------------- */

/* The record in the one spelling that it reads rightly. */
static bool write_plain(const struct tags *tags, char *out, size_t size)
{
    int p = tag_word(tags, P, policies), sp = tag_word(tags, SP, policies);
    int adkim = tag_word(tags, ADKIM, modes), aspf = tag_word(tags, ASPF, modes);
    int len =
        snprintf(out, size, "v=DMARC1;p=%s;adkim=%s;aspf=%s;pct=%d%s%s",
                 policies[p > 0 ? p : 0], modes[adkim > 0], modes[aspf > 0],
                 tag_percent(tags), sp >= 0 ? ";sp=" : "", sp >= 0 ? policies[sp] : "");
    return len > 0 && (size_t)len < size;
}

static enum dmarc_policy policy_of(int letter)
{
    return letter == DMARC_RECORD_P_REJECT       ? DMARC_REJECT
           : letter == DMARC_RECORD_P_QUARANTINE ? DMARC_QUARANTINE
                                                 : DMARC_NONE;
}

static bool fetch(DMARC_POLICY_T *context, struct dmarc_record *out)
{
    int p, sp, adkim, aspf;

    if (opendmarc_policy_fetch_p(context, &p) != DMARC_PARSE_OKAY ||
        opendmarc_policy_fetch_sp(context, &sp) != DMARC_PARSE_OKAY ||
        opendmarc_policy_fetch_adkim(context, &adkim) != DMARC_PARSE_OKAY ||
        opendmarc_policy_fetch_aspf(context, &aspf) != DMARC_PARSE_OKAY ||
        opendmarc_policy_fetch_pct(context, &out->pct) != DMARC_PARSE_OKAY)
        return false;
    out->p = policy_of(p);
    out->has_sp = sp != DMARC_RECORD_P_UNSPECIFIED;
    out->sp = out->has_sp ? policy_of(sp) : out->p;
    out->adkim_strict = adkim == DMARC_RECORD_A_STRICT;
    out->aspf_strict = aspf == DMARC_RECORD_A_STRICT;
    return true;
}

static bool library_read(char *plain, struct dmarc_record *out)
{
    /* Both are stored by it and matter to nothing that is asked of it here. */
    unsigned char address[] = "127.0.0.1", domain[] = "record";
    DMARC_POLICY_T *context =
        opendmarc_policy_connect_init(address, DMARC_POLICY_IP_TYPE_IPV4);
    if (!context)
        return false;
    bool ok = opendmarc_policy_store_dmarc(context, (unsigned char *)plain, domain,
                                           domain) == DMARC_PARSE_OKAY &&
              fetch(context, out);
    opendmarc_policy_connect_shutdown(context);
    return ok;
}

/* ---- a record ------------------------------------------------------------ */

void dmarc_record_unusable(struct dmarc_record *out, const char *trouble)
{
    memset(out, 0, sizeof(*out));
    out->pct = 100;
    out->trouble = trouble;
}

static void read_newer(const struct tags *tags, struct dmarc_record *out)
{
    static const char *const yes_no[] = { "y", "n", NULL };
    int np = tag_word(tags, NP, policies), psd = tag_word(tags, PSD, yes_no);

    out->has_np = np >= 0;
    out->np = out->has_np ? (enum dmarc_policy)np : out->sp;
    out->psd = psd == 0 ? DMARC_PSD_YES : psd == 1 ? DMARC_PSD_NO : DMARC_PSD_UNSAID;
    out->testing = tag_word(tags, T, yes_no) == 0;
    out->pct = 100; /* withdrawn, RFC 9989 appendix A.6 */
}

void dmarc_record_parse(const char *text, size_t len, enum conf_discovery rules,
                        struct dmarc_record *out)
{
    struct tags tags;
    char plain[96];

    dmarc_record_unusable(out, NULL);
    read_tags(text, len, &tags);
    const char *trouble = policy_trouble(&tags, rules);
    if (!write_plain(&tags, plain, sizeof(plain)) || !library_read(plain, out)) {
        dmarc_record_unusable(out, "its record could not be read: out of memory");
        return;
    }
    out->np = out->sp;
    if (rules == DISCOVERY_TREEWALK)
        read_newer(&tags, out);
    out->trouble = trouble;
    out->usable = !trouble || tags.rua;
    if (trouble) {
        out->p = out->sp = out->np = DMARC_NONE;
        out->has_sp = out->has_np = false;
    }
}
