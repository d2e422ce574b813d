/*
 * playbook_traffic: figures of a mail log: messages by hour of the week, and the most
 * frequent names. Pure.
 */
#ifndef SLUICE_PLAYBOOK_TRAFFIC_H
#define SLUICE_PLAYBOOK_TRAFFIC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRAFFIC_HOURS (7 * 24)

/* Hours of the week, Monday 00:00 is 0, in local time. */
struct traffic {
    uint64_t hours[TRAFFIC_HOURS];
    uint64_t messages;
    int64_t first, last; /* unix s */
};
void traffic_add(struct traffic *traffic, int64_t unix_s);

/* Where the fewest messages fall into so many hours in a row (1 to 24): the first hour
 * of the week of it. weeks > 1: a log of several weeks. Hours that the log does not
 * cover do not count: a log of three days has nothing to say about Sunday. */
struct traffic_window {
    int begins;        /* 0 to 167; -1: the log covers no such span */
    uint64_t messages; /* in all weeks together */
};
struct traffic_window traffic_quietest(const struct traffic *traffic, int hours);
/* "Sunday 03:00". */
#define TRAFFIC_HOUR_TEXT 24
const char *traffic_hour_text(int hour, char out[TRAFFIC_HOUR_TEXT]);
const char *traffic_day(int day); /* 0: Monday */

/* ---- the most frequent --------------------------------------------------- */

struct ranking; /* names and how often each came; so many different ones at most */
struct ranking *ranking_new(size_t names_max); /* NULL: no memory */
void ranking_free(struct ranking *ranking);
/* false: no memory. A name past the limit is counted as missed. */
bool ranking_add(struct ranking *ranking, const char *name, size_t len);
uint64_t ranking_missed(const struct ranking *ranking);
size_t ranking_count(const struct ranking *ranking);
struct ranked {
    const char *name; /* lives as long as the ranking */
    uint64_t count;
};
/* All of them, the most frequent first, then by name; to be freed. NULL: no memory. */
struct ranked *ranking_list(const struct ranking *ranking);

#endif
