/*
 * log_pool: log_flow's messages: their memory, their table, their texts and
 * recipients. For log_flow*.c alone.
 */
#ifndef SLUICE_LOG_POOL_H
#define SLUICE_LOG_POOL_H

#include "log_flow.h"

struct log_flow {
    struct log_message **buckets;
    size_t bucket_count; /* a power of two; 0 before the first message */
    size_t sweep_at;     /* messages in flight at which old ones are looked for */
    struct log_message *free_list;
    bool settling;               /* log_flow_settle(): its lines are read again */
    struct log_message *loading; /* log_flow_load(): whose recipients follow */
    struct log_flow_counts counts;
};

/* The message, unless it is so old that it is forgotten (it is dropped then). */
struct log_message *log_pool_find(struct log_flow *flow, struct log_slice host,
                                  struct log_slice id, int64_t us);
/* NULL: the limit, or no memory; counted. */
struct log_message *log_pool_add(struct log_flow *flow, struct log_slice host,
                                 struct log_slice id, int64_t us);
/* Memory that lives as long as the message; NULL: none. */
void *log_pool_memory(struct log_message *message, size_t size);
/* Empties a message, which stays in the table under its id. */
void log_pool_reset(struct log_message *message, int64_t us);

/* Puts value, cut to LOG_FLOW_TEXT_MAX, into *place. false: no memory. */
bool log_pool_text(struct log_message *message, char **place, struct log_slice value);

/* The recipient of these, added where there is none; NULL: the limit or no memory. */
struct log_recipient *log_pool_recipient(struct log_flow *flow,
                                         struct log_message *message, struct log_slice to,
                                         struct log_slice orig_to);

/* log_flow.c: the message of this id on the line's host, made where there is none. NULL:
 * the limit, or no memory; counted. */
struct log_message *log_flow_get(struct log_flow *flow, const struct log_line *line,
                                 struct log_slice id, int64_t us);

bool log_status_is_final(enum log_status status);

#endif
