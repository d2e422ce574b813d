/*
 * playbook_state: the state machine of a run. See playbook_state.h.
 *
 * The ways between the states are one table. A step that failed may be run again
 * or undone; one that is undone may be run again; what was acknowledged or done
 * stays until a rollback.
 */
#include "playbook_state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATE_LETTERS "prwtdfbu" /* in the order of the enum */
#define RUN_LETTERS   "-gfb"
#define FIELDS_MAX    9

const char *step_state_name(enum step_state state)
{
    static const char *const names[] = {
        "pending",          "running", "waiting for a person",
        "waiting for time", "done",    "failed",
        "undoing",          "undone"
    };
    return (size_t)state < STATE_COUNT ? names[state] : "unknown";
}

const char *run_state_name(enum run_state state)
{
    static const char *const names[] = { "not started", "going on", "finished",
                                         "rolled back" };
    return (size_t)state < 4 ? names[state] : "unknown";
}

bool step_state_way(enum step_state from, enum step_state to)
{
    static const char *const ways[STATE_COUNT] = {
        [STATE_PENDING] = "r",   [STATE_RUNNING] = "rwtdfb", [STATE_PERSON] = "rwdfb",
        [STATE_TIME] = "rtdfb",  [STATE_DONE] = "b",         [STATE_FAILED] = "rb",
        [STATE_UNDOING] = "buf", [STATE_UNDONE] = "r",
    };
    return (size_t)from < STATE_COUNT && (size_t)to < STATE_COUNT &&
           strchr(ways[from], STATE_LETTERS[to]) != NULL;
}

/* ---- records ----------------------------------------------------------------- */

void state_text(const char *text, char *out, size_t size)
{
    size_t len = strlen(text), room = size - 1;
    size_t n = len <= room ? len : room;
    memcpy(out, text, n);
    out[n] = '\0';
    if (len > room && room > 3) {
        n -= 3;
        while (n > 0 && ((unsigned char)out[n] & 0xc0) == 0x80)
            n--; /* not in the middle of a UTF-8 character */
        memcpy(out + n, "...", 4);
    }
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
}

/* Cuts a copy of text at its tabs. false: another number of fields. */
static bool split(const char *text, size_t len, char copy[STATE_RECORD_MAX],
                  char *fields[], size_t n)
{
    if (len >= STATE_RECORD_MAX || memchr(text, '\0', len))
        return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    for (size_t i = 0; i < n; i++) {
        fields[i] = copy;
        char *tab = strchr(copy, '\t');
        if ((tab == NULL) != (i == n - 1))
            return false;
        if (tab) {
            *tab = '\0';
            copy = tab + 1;
        }
    }
    return true;
}

static bool number(const char *text, int64_t *out)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    *out = strtoll(text, &end, 10);
    return *end == '\0';
}

static bool flag(const char *text, bool *out)
{
    *out = text[0] == '1';
    return (text[0] == '0' || text[0] == '1') && text[1] == '\0';
}

static bool hex(const char *text, uint64_t *out)
{
    char *end;
    *out = strtoull(text, &end, 16);
    return strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16 && *end == '\0';
}

static bool letter(const char *letters, const char *text, int *out)
{
    const char *at = text[0] ? strchr(letters, text[0]) : NULL;
    *out = at ? (int)(at - letters) : 0;
    return at && text[1] == '\0';
}

static bool take_text(const char *text, char *out, size_t size)
{
    if (strlen(text) >= size)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

size_t step_record_encode(const struct step_record *record, char out[STATE_RECORD_MAX])
{
    char by[STATE_BY_MAX + 1], note[STATE_NOTE_MAX + 1];
    state_text(record->by, by, sizeof(by));
    state_text(record->note, note, sizeof(note));
    int n = snprintf(out, STATE_RECORD_MAX,
                     "%c\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%s\t%s\t%d",
                     STATE_LETTERS[record->state], record->began, record->ended,
                     record->due, by, note, record->acted);
    return n > 0 ? (size_t)n : 0;
}

bool step_record_decode(const char *text, size_t len, struct step_record *out)
{
    char copy[STATE_RECORD_MAX], *f[FIELDS_MAX];
    int state, epoch_len = 0;
    *out = (struct step_record){ 0 };
    if (sscanf(text, "%" SCNu64 "\t%n", &out->epoch, &epoch_len) != 1 || epoch_len == 0 ||
        !split(text + epoch_len, len - (size_t)epoch_len, copy, f, 7) ||
        !letter(STATE_LETTERS, f[0], &state))
        return false;
    out->state = (enum step_state)state;
    return number(f[1], &out->began) && number(f[2], &out->ended) &&
           number(f[3], &out->due) && take_text(f[4], out->by, sizeof(out->by)) &&
           take_text(f[5], out->note, sizeof(out->note)) && flag(f[6], &out->acted);
}

size_t run_record_encode(const struct run_record *record, char out[STATE_RECORD_MAX])
{
    char by[STATE_BY_MAX + 1], note[STATE_NOTE_MAX + 1];
    state_text(record->by, by, sizeof(by));
    state_text(record->note, note, sizeof(note));
    int n = snprintf(out, STATE_RECORD_MAX,
                     "%c\t%" PRId64 "\t%" PRId64 "\t%" PRId64 "\t%d\t%s\t%s\t%s"
                     "\t%016" PRIx64,
                     RUN_LETTERS[record->state], record->started, record->opened,
                     record->window_s, record->rehearsal, record->playbook, by, note,
                     record->digest);
    return n > 0 && n < STATE_RECORD_MAX ? (size_t)n : 0;
}

bool run_record_decode(const char *text, size_t len, struct run_record *out)
{
    char copy[STATE_RECORD_MAX], *f[FIELDS_MAX];
    int state, epoch_len = 0;
    *out = (struct run_record){ 0 };
    if (sscanf(text, "%" SCNu64 "\t%n", &out->epoch, &epoch_len) != 1 || epoch_len == 0 ||
        !split(text + epoch_len, len - (size_t)epoch_len, copy, f, 9) ||
        !letter(RUN_LETTERS, f[0], &state))
        return false;
    out->state = (enum run_state)state;
    return number(f[1], &out->started) && number(f[2], &out->opened) &&
           number(f[3], &out->window_s) && flag(f[4], &out->rehearsal) &&
           take_text(f[5], out->playbook, sizeof(out->playbook)) &&
           take_text(f[6], out->by, sizeof(out->by)) &&
           take_text(f[7], out->note, sizeof(out->note)) && hex(f[8], &out->digest);
}

size_t rehearsal_encode(const struct rehearsal_record *record, char out[STATE_RECORD_MAX])
{
    char by[STATE_BY_MAX + 1];
    state_text(record->by, by, sizeof(by));
    int n = snprintf(out, STATE_RECORD_MAX,
                     "%" PRId64 "\t%" PRId64 "\t%016" PRIx64 "\t%s\t%s\t%s",
                     record->ended, record->mailboxes, record->digest, record->playbook,
                     record->variant, by);
    return n > 0 && n < STATE_RECORD_MAX ? (size_t)n : 0;
}

bool rehearsal_decode(const char *text, struct rehearsal_record *out)
{
    char copy[STATE_RECORD_MAX], *f[FIELDS_MAX];
    *out = (struct rehearsal_record){ 0 };
    return split(text, strlen(text), copy, f, 6) && number(f[0], &out->ended) &&
           number(f[1], &out->mailboxes) && hex(f[2], &out->digest) &&
           take_text(f[3], out->playbook, sizeof(out->playbook)) &&
           take_text(f[4], out->variant, sizeof(out->variant)) &&
           take_text(f[5], out->by, sizeof(out->by));
}

/* Adds to out; *used is SIZE_MAX from the first thing on that does not fit. */
static void add(char *out, size_t *used, const char *mark, const char *text)
{
    size_t mark_len = strlen(mark), len = strlen(text);
    if (*used == SIZE_MAX || *used + mark_len + len >= STATE_OUTLINE_MAX) {
        *used = SIZE_MAX;
        return;
    }
    memcpy(out + *used, mark, mark_len);
    char *at = out + *used + mark_len;
    memcpy(at, text, len + 1);
    for (; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = ' ';
    *used += mark_len + len;
}

size_t state_outline(const struct playbook *playbook, char out[STATE_OUTLINE_MAX])
{
    size_t used = 0, phase = SIZE_MAX;
    out[0] = '\0';
    add(out, &used, "", playbook->title);
    for (size_t i = 0; i < playbook->step_count; i++) {
        const struct playbook_step *step = &playbook->steps[i];
        bool first = step->phase != phase;
        if (first)
            add(out, &used, "\t", playbook->phases[step->phase]);
        phase = step->phase;
        add(out, &used, first ? "\t" : ",", step->id);
    }
    return used == SIZE_MAX ? 0 : used;
}

/* ---- what comes next ------------------------------------------------------------- */

static bool ready(const struct playbook *playbook, const struct step_record *records,
                  size_t step)
{
    for (size_t i = 0; i < playbook->steps[step].need_count; i++)
        if (records[playbook->steps[step].needs[i]].state != STATE_DONE)
            return false;
    return true;
}

struct next state_next(const struct playbook *playbook, const struct step_record *records,
                       int64_t now)
{
    struct next wait = { NEXT_DONE, SIZE_MAX };
    for (size_t i = 0; i < playbook->step_count; i++) {
        enum step_state state = records[i].state;
        if (state == STATE_DONE || !ready(playbook, records, i))
            continue;
        if (state == STATE_UNDOING)
            return (struct next){ NEXT_PERSON, i };
        if (state == STATE_PERSON || (state == STATE_TIME && records[i].due > now)) {
            /* A person may be asked now; time passes by itself. */
            if (wait.kind == NEXT_DONE ||
                (wait.kind == NEXT_TIME && state == STATE_TIME &&
                 records[i].due < records[wait.step].due) ||
                (wait.kind == NEXT_TIME && state == STATE_PERSON))
                wait =
                    (struct next){ state == STATE_PERSON ? NEXT_PERSON : NEXT_TIME, i };
            continue;
        }
        return (struct next){ NEXT_STEP, i };
    }
    return wait;
}

size_t state_next_back(const struct playbook *playbook, const struct step_record *records,
                       size_t first)
{
    for (size_t i = playbook->step_count; i > first; i--)
        if (records[i - 1].state != STATE_PENDING && records[i - 1].state != STATE_UNDONE)
            return i - 1;
    return SIZE_MAX;
}

size_t state_no_return(const struct playbook *playbook, const struct step_record *records,
                       size_t first)
{
    for (size_t i = first; i < playbook->step_count; i++)
        if (playbook->steps[i].no_return && records[i].acted &&
            (records[i].state == STATE_DONE || records[i].state == STATE_RUNNING ||
             records[i].state == STATE_FAILED))
            return i;
    return SIZE_MAX;
}

/* ---- clocks ------------------------------------------------------------------------ */

enum clock_state state_clock(const struct playbook *playbook,
                             const struct run_record *run,
                             const struct step_record *records, int64_t now,
                             int64_t local, int64_t *since)
{
    *since = run->started > run->opened ? run->started : run->opened;
    for (size_t i = 0; i < playbook->step_count; i++) {
        if (records[i].began > *since)
            *since = records[i].began;
        if (records[i].ended > *since)
            *since = records[i].ended;
    }
    if (*since > now + STATE_CLOCK_S)
        return CLOCK_BACK;
    return now > local + STATE_CLOCK_S || local > now + STATE_CLOCK_S ? CLOCK_APART
                                                                      : CLOCK_GOOD;
}

/* ---- the change window ------------------------------------------------------------- */

bool state_in_window(const struct playbook *playbook, size_t step)
{
    bool open = false;
    for (size_t i = 0; i < playbook->step_count; i++) {
        open = open || playbook->steps[i].opens;
        if (i == step)
            return open;
        if (playbook->steps[i].closes)
            open = false;
    }
    return false;
}

/* What a step usually still needs. */
static int64_t remaining(const struct playbook_step *step,
                         const struct step_record *record, int64_t now)
{
    switch (record->state) {
    case STATE_DONE:
        return 0;
    case STATE_TIME:
        return record->due > now ? record->due - now : 0;
    case STATE_RUNNING:
        return record->began + step->usually_s > now
                   ? record->began + step->usually_s - now
                   : 0;
    default:
        return step->usually_s;
    }
}

void state_forecast(const struct playbook *playbook, const struct run_record *run,
                    const struct step_record *records, int64_t now, struct forecast *out)
{
    bool closed = false;
    *out = (struct forecast){ 0 };
    for (size_t i = 0; i < playbook->step_count; i++) {
        int64_t need = remaining(&playbook->steps[i], &records[i], now);
        out->all_s += need;
        if (state_in_window(playbook, i))
            out->need_s += need;
        closed = closed || (playbook->steps[i].closes && records[i].state == STATE_DONE);
    }
    out->open = run->opened > 0 && !closed;
    out->ends = run->opened > 0 ? run->opened + run->window_s : 0;
    out->left_s = run->opened > 0 ? out->ends - now : run->window_s;
    out->over = !closed && out->need_s > out->left_s;
}
