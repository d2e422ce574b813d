/*
 * redis: a blocking Redis client over hiredis, which no other file of lib
 * includes. hiredis parses the replies; sockets and time limits are ours,
 * since its own limits hold per read(2) and not for a whole round trip.
 *
 *     redis_begin(r, 200);                  one deadline for all that follows
 *     redis_args_reset(&args); redis_arg_text(&args, "GET"); ...
 *     redis_command(r, &args);              queued; any number of them
 *     redis_run(r)                          one round trip, connecting if need be
 *     redis_reply(r, i)                     valid until the next redis_begin()
 *
 * One caller at a time per handle.
 */
#ifndef SLUICE_REDIS_H
#define SLUICE_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conf.h"

struct redis;
struct resp;

/* Arguments of one command, kept in their wire form. */
struct redis_args {
    char *buf;
    size_t len, size;
    size_t count;
    bool failed; /* out of memory: the command is not sent */
};

void redis_args_reset(struct redis_args *args);
void redis_args_free(struct redis_args *args);
void redis_arg(struct redis_args *args, const void *data, size_t len);
void redis_arg_text(struct redis_args *args, const char *text);
/* Two texts as one argument: a key's prefix and the rest. */
void redis_arg_key(struct redis_args *args, const char *prefix, const char *name);
void redis_arg_number(struct redis_args *args, uint64_t number); /* decimal */
/* The command of these words, the last one NULL. */
void redis_args_words(struct redis_args *args, const char *word, ...)
    __attribute__((sentinel));

/* A Lua script: its text and, once Redis has told, its SHA-1. */
struct redis_script {
    const char *text;
    char sha[41];
};

enum redis_result {
    REDIS_DONE,   /* every reply is there (error replies among them) */
    REDIS_UNSENT, /* no connection: Redis has seen nothing of it */
    REDIS_LOST,   /* sent in part or whole, the replies did not come */
};

/* Never NULL. conf is referenced. Does not connect. */
struct redis *redis_new(struct conf *conf);
void redis_free(struct redis *redis);

/* Forgets replies and what is queued, and starts the deadline. A connection
 * with replies still under way is closed. */
void redis_begin(struct redis *redis, int timeout_ms);
/* Another deadline, for a pipeline that goes on. */
void redis_extend(struct redis *redis, int timeout_ms);
/* Queues a command. */
void redis_command(struct redis *redis, const struct redis_args *args);
/* Asks Redis for the script's SHA-1 when it is not known: a round trip of its
 * own, so before anything is queued. Then redis_script() queues EVALSHA. */
enum redis_result redis_script_load(struct redis *redis, struct redis_script *script);
void redis_script(struct redis *redis, const struct redis_script *script,
                  const struct redis_args *args);
/* Sends what is queued and collects all replies. */
enum redis_result redis_run(struct redis *redis);
/* For pipelines: sends what is queued without waiting for replies;
 * redis_receive() waits for the next one and forgets those before it. */
enum redis_result redis_send(struct redis *redis);
enum redis_result redis_receive(struct redis *redis, const struct resp **out);
/* Closes the connection; the next command opens another. */
void redis_close(struct redis *redis);

size_t redis_reply_count(const struct redis *redis);
const struct resp *redis_reply(const struct redis *redis, size_t i);
/* One line about the last UNSENT or LOST. */
const char *redis_error(const struct redis *redis);

enum resp_type { RESP_NIL, RESP_TEXT, RESP_INTEGER, RESP_ARRAY, RESP_ERROR };
/* NULL is RESP_NIL for all of these. */
enum resp_type resp_type(const struct resp *resp);
/* The text of RESP_TEXT and RESP_ERROR (NUL-terminated, may hold NULs);
 * NULL for others. len may be NULL. */
const char *resp_text(const struct resp *resp, size_t *len);
int64_t resp_integer(const struct resp *resp);
/* An integer or a text of decimal digits, else false. */
bool resp_number(const struct resp *resp, uint64_t *out);
size_t resp_count(const struct resp *resp);                    /* 0 unless RESP_ARRAY */
const struct resp *resp_at(const struct resp *resp, size_t i); /* NULL past the end */
/* Whether it is an error reply whose first word is this. */
bool resp_is_error(const struct resp *resp, const char *word);

#endif
