/*
 * pool: a configuration and a few store handles that belong to it, shared by
 * libmilter's threads. It is counted: a message takes a reference when it
 * begins and so keeps its configuration, whatever is reloaded meanwhile.
 */
#ifndef SLUICE_MILTER_POOL_H
#define SLUICE_MILTER_POOL_H

#include <stdbool.h>

#include "conf.h"
#include "store.h"
#include "verify.h"

/* Connections to Redis at most. A lookup takes well under a millisecond, so
 * this serves far more mail than one Postfix passes on. */
#define POOL_HANDLES_MAX 16

struct pool;

/* A store handle for this configuration; head as in store_redis_new(). */
typedef struct store *pool_open_fn(struct conf *conf, struct journal_reader *head);

/* Takes over the reference to conf, also on failure. NULL: no memory. */
struct pool *pool_new(struct conf *conf, pool_open_fn *open);
struct pool *pool_ref(struct pool *pool);
void pool_unref(struct pool *pool); /* NULL is fine */

const struct conf *pool_conf(const struct pool *pool);

/* What verifies for this configuration; the pool takes it over. Before the pool
 * is in use. NULL: nothing is verified. */
void pool_set_verifier(struct pool *pool, struct verifier *verifier);
struct verifier *pool_verifier(const struct pool *pool);

/* A handle for the calling thread alone. Waits for a busy one at most as long
 * as a command may take (command-timeout). NULL: none came free, or no memory. */
struct store *pool_take(struct pool *pool);
void pool_give(struct pool *pool, struct store *store);

/* The key of the trace tokens, kept for a minute. false: not to be had now. */
bool pool_secret(struct pool *pool, struct store *store,
                 unsigned char out[STORE_SECRET_LEN]);

#endif
