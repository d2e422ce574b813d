/*
 * signatures: what is done by whom.
 *
 * Every DKIM-Signature field is read by sigfield.c first. What it accepts goes,
 * with the header fields that these signatures name, into one libopendkim handle
 * for the message, which selects, canonicalises and hashes header and body. The
 * key is asked for by resolver.h when the field comes in, read by dkimkey.c, and
 * used there on the hashes that dkim_sig_gethashes() gives: libopendkim would
 * decode the key anew for each message, which costs more than all the rest
 * together. So none of its DNS hooks has anything to do; they are set to refuse,
 * that it may never ask on its own.
 *
 * What libopendkim 2.11.0~beta2 does wrong, and what is done about it here (for
 * what concerns a signature's own field see sigfield.c):
 *   - a malformed signature, or From, fails dkim_eoh() for all: such signatures
 *     are not given to it, DKIM_LIBFLAGS_BADSIGHANDLES lets From be anything
 *   - selecting header fields takes (names in h=) x (fields) steps, and writes
 *     past its array when h= names every field of the message and one more: it
 *     gets those fields alone that some signature covers, and one more which no
 *     h= can name
 *   - DKIM-Signature in h= may select the very signature (RFC 6376 3.5 excludes
 *     that), and other fields of the name are not all there: permerror, unless
 *     what would be selected is right
 *   - CR and LF that are not CR LF get lost from the body; so do they, VT and FF
 *     in the header: permerror, where they are covered
 *   - a body line is held in memory: permerror when over LINE_MAX_LEN
 *   - l= is not told from the end of the body: measured here
 *
 * l= that leaves something of the body unsigned: policy (RFC 6376 8.2: anybody
 * may have added it). When nothing is left the pass is reported with a reason.
 *
 * Several TXT records where the key should be are undefined (RFC 6376 3.6.2.2):
 * the one that is a key record is taken; two are a permerror, since their order
 * changes from answer to answer.
 *
 * A key in test mode (t=y) changes no result, but is told with it.
 */
#include "signatures.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <opendkim/dkim.h>

#include "dkimkey.h"
#include "dnsdata.h"
#include "sigfield.h"

#define FIELD_NAME       "DKIM-Signature"
#define HEADER_BYTES_MAX ((size_t)2 << 20)
#define FIELDS_MAX       20000
#define NAMES_MAX        1500              /* in h= of all signatures */
#define COVERED_MAX      ((size_t)4 << 20) /* bytes of header that they cover */
#define LENGTHS_MAX      4                 /* signatures with l= */
#define LINE_MAX_LEN     ((size_t)1 << 20)
#define KEY_RECORDS_MAX  16
#define ID_MAX           64
#define B_SHOWN_MIN      8 /* RFC 6008 */

struct dkim_verifier {
    DKIM_LIB *lib;
    struct resolver *resolver;
    struct dkimkeys *keys;
    size_t signatures_max;
};

struct header_field {
    size_t at, len, name_len, value; /* in the text; value: where it begins */
    bool odd;                        /* control characters that are not folding */
    bool covered;
};

struct pending {
    struct sigfield *field; /* NULL: result was final when it was read */
    size_t index;           /* of its header field */
    struct query *query;
    DKIM_SIGINFO *info;
    bool waits; /* no result yet */
};

/* The body as it goes by. */
struct watch {
    bool cr;   /* the last byte was one */
    bool bare; /* CR or LF alone */
    bool too_long;
    size_t line; /* bytes of the unfinished line */
    uint64_t total;
};

/* How long the canonical body is, for l=. */
struct measure {
    bool wanted, blank, cr;
    bool simple_line, relaxed_line; /* the line has something in it */
    int64_t simple_at, relaxed_at, simple, relaxed;
};

struct signatures {
    struct dkim_verifier *verifier;
    char id[ID_MAX];
    char *text; /* all fields as "Name: value", folded with CR LF */
    size_t used, size;
    struct header_field *fields;
    size_t field_count, field_size;
    bool too_long, no_memory;
    size_t count, beyond;
    DKIM *dkim;
    struct watch watch;
    struct measure measure;
    /* 40 KB that few messages need: not cleared but by add_signature() */
    struct pending pending[SIGNATURES_LIMIT];
    struct signature results[SIGNATURES_LIMIT];
};

/* ---- the verifier ------------------------------------------------------------- */

static int refuse_start(void *service, int type, unsigned char *name,
                        unsigned char *buffer, size_t size, void **query)
{
    (void)service, (void)type, (void)name, (void)buffer, (void)size, (void)query;
    return DKIM_DNS_ERROR;
}

static int refuse_wait(void *service, void *query, struct timeval *timeout, size_t *bytes,
                       int *error, int *dnssec)
{
    (void)service, (void)query, (void)timeout, (void)bytes, (void)error, (void)dnssec;
    return DKIM_DNS_ERROR;
}

static int refuse_cancel(void *service, void *query)
{
    (void)service, (void)query;
    return DKIM_DNS_ERROR;
}

static int refuse_init(void **service)
{
    *service = NULL;
    return DKIM_DNS_ERROR;
}

static bool set_up(DKIM_LIB *lib)
{
    u_int flags = DKIM_LIBFLAGS_DELAYSIGPROC | DKIM_LIBFLAGS_BADSIGHANDLES;
    uint64_t drift = SIGFIELD_DRIFT;

    dkim_dns_set_init(lib, refuse_init);
    dkim_dns_set_query_start(lib, refuse_start);
    dkim_dns_set_query_waitreply(lib, refuse_wait);
    dkim_dns_set_query_cancel(lib, refuse_cancel);
    return dkim_libfeature(lib, DKIM_FEATURE_SHA256) &&
           dkim_libfeature(lib, DKIM_FEATURE_ED25519) &&
           dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_FLAGS, &flags, sizeof(flags)) ==
               DKIM_STAT_OK &&
           dkim_options(lib, DKIM_OP_SETOPT, DKIM_OPTS_CLOCKDRIFT, &drift,
                        sizeof(drift)) == DKIM_STAT_OK;
}

struct dkim_verifier *dkim_verifier_new(struct resolver *resolver, int signatures_max,
                                        char *error, size_t error_size)
{
    struct dkim_verifier *verifier = calloc(1, sizeof(*verifier));

    if (verifier) {
        verifier->resolver = resolver;
        verifier->signatures_max = signatures_max < 1 ? 1
                                   : signatures_max > SIGNATURES_LIMIT
                                       ? SIGNATURES_LIMIT
                                       : (size_t)signatures_max;
        verifier->keys = dkimkeys_new();
        verifier->lib = dkim_init(NULL, NULL);
    }
    if (!verifier || !verifier->keys || !verifier->lib || !set_up(verifier->lib)) {
        snprintf(error, error_size, "libopendkim: %s",
                 verifier && verifier->lib && verifier->keys
                     ? "it was built without SHA-256 or Ed25519"
                     : "out of memory");
        dkim_verifier_free(verifier);
        return NULL;
    }
    return verifier;
}

void dkim_verifier_free(struct dkim_verifier *verifier)
{
    if (!verifier)
        return;
    if (verifier->lib)
        dkim_close(verifier->lib);
    dkimkeys_free(verifier->keys);
    free(verifier);
}

/* ---- one message ---------------------------------------------------------------- */

struct signatures *signatures_new(struct dkim_verifier *verifier, const char *id)
{
    struct signatures *s = malloc(sizeof(*s));

    if (!s)
        return NULL;
    memset(s, 0, offsetof(struct signatures, pending));
    s->verifier = verifier;
    snprintf(s->id, sizeof(s->id), "%s", id); /* may be cut: it is for messages alone */
    return s;
}

void signatures_free(struct signatures *s)
{
    if (!s)
        return;
    if (s->dkim)
        dkim_free(s->dkim);
    for (size_t i = 0; i < s->count; i++) {
        query_drop(s->pending[i].query);
        free(s->pending[i].field);
    }
    free(s->fields);
    free(s->text);
    free(s);
}

static void settle(struct signatures *s, size_t i, enum auth_result result,
                   const char *reason)
{
    s->pending[i].waits = false;
    s->results[i].result = result;
    snprintf(s->results[i].reason, sizeof(s->results[i].reason), "%s", reason);
}

static void settle_all(struct signatures *s, enum auth_result result, const char *reason)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->pending[i].waits)
            settle(s, i, result, reason);
}

/* ---- header fields ------------------------------------------------------------- */

/* Room for more bytes and one more field. */
static bool make_room(struct signatures *s, size_t more)
{
    if (s->size - s->used < more) {
        size_t size = s->size ? s->size : 4096;
        while (size - s->used < more)
            size *= 2;
        char *text = realloc(s->text, size);
        if (!text)
            return false;
        s->text = text;
        s->size = size;
    }
    if (s->field_count == s->field_size) {
        size_t size = s->field_size ? 2 * s->field_size : 32;
        struct header_field *fields = realloc(s->fields, size * sizeof(*fields));
        if (!fields)
            return false;
        s->fields = fields;
        s->field_size = size;
    }
    return true;
}

/* Appends the value with CR LF for each line break. Whether there is none but
 * folding, and no other control character that libopendkim takes for a blank. */
static bool store_value(struct signatures *s, const char *value)
{
    bool clean = true;

    for (; *value; value++) {
        if (*value == '\n') {
            if (s->text[s->used - 1] != '\r')
                s->text[s->used++] = '\r';
            clean = clean && (value[1] == ' ' || value[1] == '\t');
        } else {
            clean = clean && *value != '\v' && *value != '\f' &&
                    (*value != '\r' || value[1] == '\n');
        }
        s->text[s->used++] = *value;
    }
    return clean;
}

static struct header_field *store_field(struct signatures *s, const char *name,
                                        const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);

    if (s->field_count == FIELDS_MAX || name_len > HEADER_BYTES_MAX - s->used ||
        value_len > (HEADER_BYTES_MAX - s->used - name_len) / 2) {
        s->too_long = true;
        return NULL;
    }
    if (!make_room(s, name_len + 1 + 2 * value_len)) {
        s->no_memory = true;
        return NULL;
    }
    struct header_field *field = &s->fields[s->field_count++];
    *field = (struct header_field){ .at = s->used, .name_len = name_len };
    while (field->name_len > 0 && strchr(" \t", name[field->name_len - 1]))
        field->name_len--;
    memcpy(s->text + s->used, name, name_len);
    s->used += name_len;
    s->text[s->used++] = ':';
    field->value = s->used;
    field->odd = !store_value(s, value);
    field->len = s->used - field->at;
    return field;
}

static void ask_for_key(struct signatures *s, struct pending *pending)
{
    char name[512];
    int n = snprintf(name, sizeof(name), "%s._domainkey.%s", pending->field->selector,
                     pending->field->domain);

    if (n > 0 && (size_t)n < sizeof(name))
        pending->query = resolver_ask(s->verifier->resolver, name, RR_TXT);
}

static void add_signature(struct signatures *s, const struct header_field *field)
{
    struct pending *pending = &s->pending[s->count];
    struct signature *result = &s->results[s->count];
    struct sigfield *read = malloc(sizeof(*read));

    *pending = (struct pending){ .index = (size_t)(field - s->fields) };
    memset(result, 0, sizeof(*result));
    s->count++;
    if (!read) {
        settle(s, s->count - 1, AUTH_TEMPERROR, "out of memory");
        return;
    }
    sigfield_parse(s->text + field->value, field->at + field->len - field->value,
                   (int64_t)time(NULL), read);
    memcpy(result->domain, read->domain, sizeof(result->domain));
    memcpy(result->selector, read->selector, sizeof(result->selector));
    memcpy(result->identity, read->identity, sizeof(read->identity));
    memcpy(result->algorithm, read->algorithm, sizeof(result->algorithm));
    memcpy(result->b, read->b_text, sizeof(result->b));
    if (read->result == AUTH_NONE && !field->odd) {
        pending->field = read;
        pending->waits = true;
        ask_for_key(s, pending);
        return;
    }
    if (read->result == AUTH_NONE)
        settle(s, s->count - 1, AUTH_PERMERROR, "control characters in the field");
    else
        settle(s, s->count - 1, read->result, read->reason);
    free(read);
}

static bool name_is(const struct signatures *s, const struct header_field *field,
                    const char *name, size_t len)
{
    return field->name_len == len && strncasecmp(s->text + field->at, name, len) == 0;
}

void signatures_header(struct signatures *s, const char *name, const char *value)
{
    if (s->too_long || s->no_memory)
        return;
    const struct header_field *field = store_field(s, name, value);
    if (!field || !name_is(s, field, FIELD_NAME, strlen(FIELD_NAME)))
        return;
    if (s->count < s->verifier->signatures_max)
        add_signature(s, field);
    else
        s->beyond++;
}

/* ---- which fields the signatures cover --------------------------------------------- */

/* Header fields by name, the lowest first; groups of one name begin where
 * `first` says. */
struct index {
    const struct signatures *s;
    size_t *order;
    size_t *taken; /* of the group that begins here, by the present signature */
    size_t *stamp; /* which signature that was, from 1 */
};

static int compare_names(const char *a, size_t a_len, const char *b, size_t b_len)
{
    if (a_len != b_len)
        return a_len < b_len ? -1 : 1;
    return strncasecmp(a, b, a_len);
}

static int compare_fields(const void *left, const void *right, void *context)
{
    const struct signatures *s = context;
    const size_t *a = left, *b = right;
    const struct header_field *x = &s->fields[*a], *y = &s->fields[*b];
    int order = compare_names(s->text + x->at, x->name_len, s->text + y->at, y->name_len);

    return order ? order : *a > *b ? -1 : 1;
}

static bool index_fields(struct index *index, struct signatures *s)
{
    size_t n = s->field_count;

    index->s = s;
    index->order = calloc(3 * n + 1, sizeof(size_t));
    if (!index->order)
        return false;
    index->taken = index->order + n;
    index->stamp = index->taken + n;
    for (size_t i = 0; i < n; i++)
        index->order[i] = i;
    qsort_r(index->order, n, sizeof(size_t), compare_fields, s);
    return true;
}

/* The next field of this name from below for this signature; or NULL. */
static struct header_field *take_field(struct index *index, const char *name, size_t len,
                                       size_t stamp)
{
    const struct signatures *s = index->s;
    size_t low = 0, high = s->field_count;

    while (low < high) { /* the first that is not below the name */
        size_t middle = low + (high - low) / 2;
        const struct header_field *field = &s->fields[index->order[middle]];
        if (compare_names(s->text + field->at, field->name_len, name, len) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == s->field_count)
        return NULL;
    if (index->stamp[low] != stamp) {
        index->stamp[low] = stamp;
        index->taken[low] = 0;
    }
    size_t at = low + index->taken[low];
    if (at >= s->field_count)
        return NULL;
    struct header_field *field = &s->fields[index->order[at]];
    if (!name_is(s, field, name, len))
        return NULL;
    index->taken[low]++;
    return field;
}

/* Whether the field is one of a signature that libopendkim gets. */
static bool is_accepted(const struct signatures *s, const struct header_field *field)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->pending[i].field && &s->fields[s->pending[i].index] == field)
            return true;
    return false;
}

struct budget {
    size_t names, covered, lengths;
};

/* Marks what signature i covers; or settles it. */
static void cover(struct signatures *s, size_t i, struct index *index,
                  struct budget *budget)
{
    const struct pending *pending = &s->pending[i];
    const struct header_field *own = &s->fields[pending->index];
    const char *value = s->text + own->value;

    budget->names += pending->field->name_count;
    budget->lengths += pending->field->length >= 0;
    budget->covered += own->len;
    for (size_t n = 0; n < pending->field->name_count && budget->names <= NAMES_MAX;
         n++) {
        const char *name = value + pending->field->names[n].at;
        size_t len = pending->field->names[n].len;
        struct header_field *field = take_field(index, name, len, i + 1);
        bool signature = compare_names(name, len, FIELD_NAME, strlen(FIELD_NAME)) == 0;
        if (signature && (!field || field == own || !is_accepted(s, field)))
            settle(s, i, AUTH_PERMERROR,
                   "h= names DKIM-Signature fields not verified here");
        if (!field)
            continue;
        if (field->odd)
            settle(s, i, AUTH_PERMERROR, "control characters in a signed header field");
        field->covered = true;
        budget->covered += field->len;
    }
    if (budget->names > NAMES_MAX)
        settle(s, i, AUTH_PERMERROR, "the signatures name too many header fields");
    else if (budget->covered > COVERED_MAX)
        settle(s, i, AUTH_PERMERROR, "the signatures cover too much header");
    else if (budget->lengths > LENGTHS_MAX && pending->field->length >= 0)
        settle(s, i, AUTH_PERMERROR, "too many signatures with l=");
}

/* ---- libopendkim ----------------------------------------------------------------- */

/* The fields in their order, and one that no h= can name (sigfield.c takes none
 * with a blank in it). false: refused, or no memory. */
static bool feed(struct signatures *s)
{
    static unsigned char filler[] = "not named:";

    for (size_t i = 0; i < s->field_count; i++) {
        struct header_field *field = &s->fields[i];
        bool signature = name_is(s, field, FIELD_NAME, strlen(FIELD_NAME));
        if (signature ? !is_accepted(s, field) : !field->covered)
            continue;
        if (dkim_header(s->dkim, (unsigned char *)s->text + field->at, field->len) !=
            DKIM_STAT_OK)
            return false;
    }
    return dkim_header(s->dkim, filler, sizeof(filler) - 1) == DKIM_STAT_OK &&
           dkim_eoh(s->dkim) == DKIM_STAT_OK;
}

/* Its signatures are ours that were accepted, in their order. */
static bool match_up(struct signatures *s)
{
    DKIM_SIGINFO **list = NULL;
    int n = 0, next = 0;

    if (dkim_getsiglist(s->dkim, &list, &n) != DKIM_STAT_OK)
        return false;
    for (size_t i = 0; i < s->count; i++) {
        if (!s->pending[i].field)
            continue;
        if (next == n)
            return false;
        DKIM_SIGINFO *info = s->pending[i].info = list[next++];
        int error = dkim_sig_geterror(info);
        if (error != DKIM_SIGERROR_UNKNOWN && error != DKIM_SIGERROR_OK &&
            s->pending[i].waits) {
            const char *why = dkim_sig_geterrorstr(error);
            settle(s, i, AUTH_PERMERROR, why ? why : "refused by libopendkim");
        }
        dkim_sig_ignore(info); /* no key processing: see above */
    }
    return next == n;
}

static bool any_waits(const struct signatures *s)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->pending[i].waits)
            return true;
    return false;
}

static void begin(struct signatures *s)
{
    struct index index = { 0 };
    struct budget budget = { 0 };
    DKIM_STAT status = DKIM_STAT_OK;

    if (!index_fields(&index, s)) {
        s->no_memory = true;
        return;
    }
    for (size_t i = 0; i < s->count; i++)
        if (s->pending[i].waits)
            cover(s, i, &index, &budget);
    free(index.order);
    for (size_t i = 0; i < s->count; i++)
        if (s->pending[i].waits && s->pending[i].field->length >= 0)
            s->measure.wanted = true;
    if (!any_waits(s))
        return;
    s->dkim = dkim_verify(s->verifier->lib, (const unsigned char *)s->id, NULL, &status);
    if (!s->dkim)
        s->no_memory = true;
    else if (!feed(s) || !match_up(s))
        settle_all(s, AUTH_TEMPERROR, "libopendkim took the header for malformed");
}

bool signatures_end_of_headers(struct signatures *s)
{
    if (s->too_long)
        settle_all(s, AUTH_PERMERROR, "the header is too long");
    if (!s->no_memory && any_waits(s))
        begin(s);
    if (s->no_memory)
        settle_all(s, AUTH_TEMPERROR, "out of memory");
    return any_waits(s);
}

/* ---- the body ------------------------------------------------------------------- */

static void watch_body(struct watch *w, const unsigned char *data, size_t len)
{
    w->total += len;
    while (len > 0) {
        const unsigned char *lf = memchr(data, '\n', len);
        size_t n = lf ? (size_t)(lf - data) : len;
        if (n > 0) {
            const unsigned char *cr = memchr(data, '\r', n);
            w->bare = w->bare || w->cr || (cr && cr != data + n - 1);
            w->cr = data[n - 1] == '\r';
            w->line += n;
            w->too_long = w->too_long || w->line > LINE_MAX_LEN;
        }
        if (!lf)
            return;
        w->bare = w->bare || !w->cr;
        w->cr = false;
        w->line = 0;
        data += n + 1;
        len -= n + 1;
    }
}

/* RFC 6376 3.4.3 and 3.4.4, counting only. */
static void measure_body(struct measure *m, const unsigned char *data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = data[i];
        m->simple_at++;
        if (c == '\n') {
            m->relaxed_at += 2;
            if (m->simple_line)
                m->simple = m->simple_at;
            if (m->relaxed_line)
                m->relaxed = m->relaxed_at;
            m->simple_line = m->relaxed_line = m->blank = false;
        } else if (c == ' ' || c == '\t') {
            m->simple_line = m->blank = true;
        } else if (c != '\r') {
            m->relaxed_at += m->blank ? 2 : 1;
            m->simple_line = m->relaxed_line = true;
            m->blank = false;
        }
    }
}

static void give_body(struct signatures *s, const unsigned char *data, size_t len)
{
    watch_body(&s->watch, data, len);
    if (s->measure.wanted)
        measure_body(&s->measure, data, len);
    if (s->watch.bare)
        settle_all(s, AUTH_PERMERROR, "the body has CR or LF that is not CR LF");
    else if (s->watch.too_long)
        settle_all(s, AUTH_PERMERROR, "a line of the body is too long");
    else if (dkim_body(s->dkim, (unsigned char *)(uintptr_t)data, len) != DKIM_STAT_OK)
        settle_all(s, AUTH_TEMPERROR, "libopendkim did not take the body");
}

void signatures_body(struct signatures *s, const unsigned char *data, size_t len)
{
    if (s->dkim && len > 0 && any_waits(s))
        give_body(s, data, len);
}

/* RFC 6376 3.4.3: a body whose last line is unfinished gets a CR LF. */
static void end_body(struct signatures *s)
{
    static const unsigned char crlf[] = "\r\n";

    if (s->watch.line > 0)
        give_body(s, crlf, 2);
    if (!any_waits(s))
        return;
    /* All are ignored: "no signature" is what it says when it has hashed. */
    DKIM_STAT status = dkim_eom(s->dkim, NULL);
    if (status != DKIM_STAT_NOSIG && status != DKIM_STAT_OK)
        settle_all(s, AUTH_TEMPERROR, "libopendkim did not take the body");
}

/* ---- results ---------------------------------------------------------------------- */

/* The text of the key record; or settles. */
static bool read_answer(struct signatures *s, size_t i, const struct answer *answer,
                        char record[DKIMKEY_RECORD_MAX + 1], size_t *len)
{
    char text[DKIMKEY_RECORD_MAX + 1];
    size_t n = 0, records = 0;
    bool readable = true;

    if (answer->count > KEY_RECORDS_MAX) {
        settle(s, i, AUTH_PERMERROR, "too many TXT records where the key should be");
        return false;
    }
    for (size_t r = 0; r < answer->count; r++) {
        bool ok = dns_txt(&answer->records[r], text, sizeof(text), &n);
        readable = readable && ok;
        if (!ok || (answer->count > 1 && !dkimkey_is_record(text, n)))
            continue;
        memcpy(record, text, n);
        *len = n;
        records++;
    }
    if (records != 1)
        settle(s, i, AUTH_PERMERROR,
               records > 1 ? "several key records"
               : readable  ? "no key record among the TXT records"
                           : "the key record is malformed or too long");
    return records == 1;
}

static struct dkimkey *fetch_key(struct signatures *s, size_t i, int64_t deadline_ms)
{
    const struct answer *answer = query_wait(s->pending[i].query, deadline_ms);
    char record[DKIMKEY_RECORD_MAX + 1], reason[128];
    size_t len = 0;

    s->results[i].secure = answer->secure;
    if (answer->kind == ANSWER_FAILED) {
        snprintf(reason, sizeof(reason), "no answer about the key: %s",
                 answer->trouble ? answer->trouble : "DNS failed");
        settle(s, i, AUTH_TEMPERROR, reason);
        return NULL;
    }
    if (answer->kind != ANSWER_DATA || answer->count == 0) {
        settle(s, i, AUTH_PERMERROR, "no key");
        return NULL;
    }
    if (!read_answer(s, i, answer, record, &len))
        return NULL;
    struct dkimkey *key = dkimkeys_get(s->verifier->keys, record, len);
    if (!key)
        settle(s, i, AUTH_TEMPERROR, "out of memory");
    return key;
}

/* Whether a signature may be judged by this key at all. */
static bool key_fits(struct signatures *s, size_t i, const struct dkimkey_facts *key)
{
    const struct sigfield *field = s->pending[i].field;

    s->results[i].key_bits = key->bits;
    if (key->result != AUTH_NONE)
        settle(s, i, key->result, key->reason);
    else if (key->ed25519 != field->ed25519)
        settle(s, i, AUTH_PERMERROR,
               key->ed25519 ? "the key is for ed25519, not for rsa"
                            : "the key is for rsa, not for ed25519");
    else if (key->no_subdomain && field->subdomain)
        settle(s, i, AUTH_PERMERROR, "the key is not for subdomains in i= (t=s)");
    return s->pending[i].waits;
}

/* "reason", and what else is worth telling. */
static void conclude(struct signatures *s, size_t i, enum auth_result result,
                     const char *reason, const struct dkimkey_facts *key)
{
    char text[128];
    int n = snprintf(text, sizeof(text), "%s%s%s", reason,
                     key->testing && reason[0] ? ", " : "",
                     key->testing ? "the key is in test mode" : "");

    settle(s, i, result, n > 0 && (size_t)n < sizeof(text) ? text : reason);
}

static void judge(struct signatures *s, size_t i, const struct dkimkey *key)
{
    const struct pending *pending = &s->pending[i];
    const struct sigfield *field = pending->field;
    const struct dkimkey_facts *facts = dkimkey_facts(key);
    void *header = NULL, *body = NULL;
    size_t header_len = 0, body_len = 0;
    int64_t whole = field->relaxed_body     ? s->measure.relaxed
                    : s->measure.simple > 0 ? s->measure.simple
                                            : 2;

    if (!key_fits(s, i, facts))
        return;
    if (dkim_sig_gethashes(pending->info, &header, &header_len, &body, &body_len) !=
        DKIM_STAT_OK)
        settle(s, i, AUTH_TEMPERROR, "libopendkim gave no hash");
    else if (field->length > whole)
        conclude(s, i, AUTH_PERMERROR, "l= is more than the body has", facts);
    else if (body_len != SIGFIELD_BH_LEN || memcmp(body, field->bh, body_len) != 0)
        conclude(s, i, AUTH_FAIL, "body hash did not verify", facts);
    else if (!dkimkey_verify(key, field->b, field->b_len, header, header_len))
        conclude(s, i, AUTH_FAIL, "signature did not verify", facts);
    else if (field->length >= 0 && field->length < whole)
        conclude(s, i, AUTH_POLICY, "l= leaves part of the body unsigned", facts);
    else
        conclude(s, i, AUTH_PASS, field->length >= 0 ? "l= covers the whole body" : "",
                 facts);
}

/* RFC 6008: so much of b= that it tells this signature from the others. */
static void shorten_b(struct signatures *s)
{
    size_t shown[SIGNATURES_LIMIT];

    for (size_t i = 0; i < s->count; i++) {
        shown[i] = B_SHOWN_MIN;
        for (size_t j = 0; j < s->count; j++)
            while (j != i && shown[i] < sizeof(s->results[i].b) - 1 &&
                   strncmp(s->results[i].b, s->results[j].b, shown[i]) == 0)
                shown[i]++;
    }
    for (size_t i = 0; i < s->count; i++)
        s->results[i].b[shown[i]] = '\0';
}

const struct signature *signatures_finish(struct signatures *s, int64_t deadline_ms,
                                          size_t *count, size_t *beyond)
{
    if (s->dkim && any_waits(s))
        end_body(s);
    for (size_t i = 0; i < s->count; i++) {
        if (!s->pending[i].waits)
            continue;
        struct dkimkey *key = fetch_key(s, i, deadline_ms);
        if (key)
            judge(s, i, key);
        dkimkey_drop(key);
    }
    shorten_b(s);
    *count = s->count;
    *beyond = s->beyond;
    return s->results;
}

bool signatures_forbid(const struct signatures *s, const char *field)
{
    size_t len = strlen(field), present = 0, named_most = 0;

    for (size_t i = 0; i < s->count; i++) {
        size_t named = 0;
        if (!s->pending[i].field)
            continue;
        const char *value = s->text + s->fields[s->pending[i].index].value;
        for (size_t n = 0; n < s->pending[i].field->name_count; n++) {
            const struct sigfield_name *name = &s->pending[i].field->names[n];
            named += compare_names(value + name->at, name->len, field, len) == 0;
        }
        if (named > named_most)
            named_most = named;
    }
    for (size_t i = 0; named_most > 0 && i < s->field_count; i++)
        present += name_is(s, &s->fields[i], field, len);
    return named_most > present;
}
