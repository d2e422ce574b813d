/*
 * log_ahead: a second thread that reads lines ahead (see log_ahead.h).
 *
 * A ring of blocks under one lock, which is taken once for each block, not for each
 * line. Whoever waits does so for the other one alone: the caller for a full block, the
 * thread, when all are full, until half of them are free: to be woken for each one would
 * cost more than what it does then. The thread takes no signals: they are the caller's.
 */
#include "log_ahead.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCKS      6
#define BLOCK_ITEMS 1024
#define BLOCK_TEXT  (BLOCK_ITEMS * 160 + TEXT_MAX) /* a line has 150 bytes or so */
#define BLOCK_LINES 16384 /* read for one at most: few of them may be picked */
/* The parts of a line are all in LOG_LINE_MAX bytes, but of one of the journal each may
 * have so many. */
#define TEXT_MAX (5 * LOG_LINE_MAX)

struct block {
    size_t count, used;
    enum log_read end; /* LOG_READ_EVENT: more blocks come */
    struct log_counts counts;
    struct log_item items[BLOCK_ITEMS];
    char text[BLOCK_TEXT];
};

struct log_ahead {
    log_ahead_read *read;
    void *context;
    const struct log_counts *counts; /* the thread's */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t full; /* blocks that wait, with the one that the caller has */
    bool stopped;
    struct block blocks[BLOCKS];
    /* The caller's, away from the thread's: they would share a line of the cache. */
    struct block *has; /* NULL: none */
    size_t next_block, next_item;
    struct log_counts shown;
};

/* ---- copies ---------------------------------------------------------------- */

static void move(struct log_slice *slice, const char *from, const char *to)
{
    if (slice->len > 0)
        slice->text = to + (slice->text - from);
}

static void keep(struct block *block, struct log_slice *slice)
{
    char *to = block->text + block->used;
    memcpy(to, slice->text, slice->len);
    move(slice, slice->text, to);
    block->used += slice->len;
}

static void keep_parts(struct block *block, struct log_line *line)
{
    const char *program = line->program.text;
    keep(block, &line->stamp);
    keep(block, &line->host);
    keep(block, &line->program);
    move(&line->service, program, line->program.text); /* a part of it */
    keep(block, &line->id);
    keep(block, &line->rest);
}

static void keep_line(struct block *block, struct log_line *line)
{
    const char *from = line->stamp.text, *end = line->rest.text + line->rest.len;
    char *to = block->text + block->used;
    memcpy(to, from, (size_t)(end - from));
    block->used += (size_t)(end - from);
    move(&line->stamp, from, to);
    move(&line->host, from, to);
    move(&line->program, from, to);
    move(&line->service, from, to);
    move(&line->id, from, to);
    move(&line->rest, from, to);
}

static bool has_room(const struct block *block)
{
    return block->count < BLOCK_ITEMS && BLOCK_TEXT - block->used >= TEXT_MAX;
}

static void put(struct block *block, const struct log_item *item)
{
    struct log_item *own = &block->items[block->count++];
    *own = *item;
    if (own->line.stamp_kind == LOG_STAMP_JOURNAL)
        keep_parts(block, &own->line);
    else
        keep_line(block, &own->line);
}

/* ---- the thread ------------------------------------------------------------ */

/* false: stopped. */
static bool wait_for_room(struct log_ahead *ahead)
{
    pthread_mutex_lock(&ahead->lock);
    if (ahead->full == BLOCKS)
        while (ahead->full > BLOCKS / 2 && !ahead->stopped)
            pthread_cond_wait(&ahead->changed, &ahead->lock);
    bool stopped = ahead->stopped;
    pthread_mutex_unlock(&ahead->lock);
    return !stopped;
}

static void give(struct log_ahead *ahead)
{
    pthread_mutex_lock(&ahead->lock);
    ahead->full++;
    pthread_cond_signal(&ahead->changed);
    pthread_mutex_unlock(&ahead->lock);
}

static void fill(struct log_ahead *ahead, struct block *block)
{
    const uint64_t most = ahead->counts->lines + BLOCK_LINES;
    const struct log_item *item;
    block->count = block->used = 0;
    do {
        block->end = ahead->read(ahead->context, &item);
        if (block->end == LOG_READ_EVENT)
            put(block, item);
    } while (block->end == LOG_READ_EVENT && has_room(block) &&
             ahead->counts->lines < most);
    block->counts = *ahead->counts;
}

static void *run(void *context)
{
    struct log_ahead *ahead = context;
    for (size_t i = 0; wait_for_room(ahead); i = (i + 1) % BLOCKS) {
        struct block *block = &ahead->blocks[i];
        fill(ahead, block);
        bool over = block->end != LOG_READ_EVENT; /* given, it is the caller's */
        give(ahead);
        if (over)
            break;
    }
    return NULL;
}

static bool start(struct log_ahead *ahead)
{
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &before) != 0)
        return false;
    int error = pthread_create(&ahead->thread, NULL, run, ahead);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0;
}

/* ---- the caller ------------------------------------------------------------ */

static void destroy(struct log_ahead *ahead)
{
    pthread_cond_destroy(&ahead->changed);
    pthread_mutex_destroy(&ahead->lock);
    free(ahead);
}

struct log_ahead *log_ahead_new(log_ahead_read *read, void *context,
                                const struct log_counts *counts)
{
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
        return NULL;
    struct log_ahead *ahead = malloc(sizeof(*ahead)); /* its blocks need no zeros */
    if (!ahead)
        return NULL;
    ahead->read = read;
    ahead->context = context;
    ahead->counts = counts;
    ahead->full = ahead->next_block = ahead->next_item = 0;
    ahead->stopped = false;
    ahead->has = NULL;
    ahead->shown = *counts;
    if (pthread_mutex_init(&ahead->lock, NULL) != 0 ||
        pthread_cond_init(&ahead->changed, NULL) != 0) { /* neither fails here (glibc) */
        free(ahead);
        return NULL;
    }
    if (start(ahead))
        return ahead;
    destroy(ahead);
    return NULL;
}

void log_ahead_free(struct log_ahead *ahead)
{
    if (!ahead)
        return;
    pthread_mutex_lock(&ahead->lock);
    ahead->stopped = true;
    pthread_cond_signal(&ahead->changed);
    pthread_mutex_unlock(&ahead->lock);
    pthread_join(ahead->thread, NULL);
    destroy(ahead);
}

/* Gives back the block that is read through, and waits for the next one. */
static void take(struct log_ahead *ahead)
{
    pthread_mutex_lock(&ahead->lock);
    if (ahead->has) {
        if (--ahead->full == BLOCKS / 2)
            pthread_cond_signal(&ahead->changed);
    }
    while (ahead->full == 0)
        pthread_cond_wait(&ahead->changed, &ahead->lock);
    pthread_mutex_unlock(&ahead->lock);
    ahead->has = &ahead->blocks[ahead->next_block];
    ahead->next_block = (ahead->next_block + 1) % BLOCKS;
    ahead->next_item = 0;
    ahead->shown = ahead->has->counts;
}

enum log_read log_ahead_next(struct log_ahead *ahead, const struct log_item **out)
{
    while (!ahead->has || ahead->next_item == ahead->has->count) {
        if (ahead->has && ahead->has->end != LOG_READ_EVENT)
            return ahead->has->end;
        take(ahead);
    }
    *out = &ahead->has->items[ahead->next_item++];
    return LOG_READ_EVENT;
}

const struct log_counts *log_ahead_counts(const struct log_ahead *ahead)
{
    return &ahead->shown;
}
