/*
 * figures: see figures.h. A message costs a few atomic additions; the file is
 * written by a thread of its own, so a slow disk delays no message. A file that
 * cannot be written is said once, and tried again.
 */
#include "config.h"

#include "figures.h"

#include <pthread.h>
#include <time.h>

#include "counters.h"
#include "log.h"

void figures_message(const struct verified *verified)
{
    counters_add(COUNTER_MESSAGES);
    if (!verified->done)
        return;
    counters_add((enum counter)(COUNTER_SPF + (int)verified->spf));
    counters_add((enum counter)(COUNTER_DKIM + (int)verified->dkim));
    counters_add((enum counter)(COUNTER_DMARC + (int)verified->dmarc));
}

static enum counter counter_of(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_HOLD:
        return COUNTER_HOLD;
    case VERDICT_FORWARD:
        return COUNTER_FORWARD;
    case VERDICT_REDIRECT:
        return COUNTER_REDIRECT;
    case VERDICT_LATER:
        return COUNTER_LATER;
    case VERDICT_NONE:
    case VERDICT_DELIVER:
        break;
    }
    return COUNTER_DELIVER;
}

void figures_plan(const struct plan *plan, const struct session *session)
{
    for (size_t i = 0; i < session->count; i++) {
        switch (plan->ending) {
        case ENDING_ACCEPT:
            counters_add(counter_of(session->recipients[i]->route.verdict));
            break;
        case ENDING_HOLD:
        case ENDING_LOOP:
        case ENDING_DMARC:
            counters_add(COUNTER_HOLD);
            break;
        case ENDING_LATER:
            counters_add(COUNTER_LATER);
            break;
        }
    }
    if (plan->ending == ENDING_DMARC)
        counters_add(COUNTER_QUARANTINED);
}

static void *keep_writing(void *context)
{
    const struct timespec pause = { .tv_sec = FIGURES_SECONDS };
    const struct conf *conf = context;
    bool failing = false;
    for (;;) {
        bool good = counters_save(conf, time(NULL));
        if (!good && !failing)
            log_warn("%s/milter.counters: no figures for sluice-policyd",
                     conf->state_dir);
        failing = !good;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

bool figures_start(struct conf *conf)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, keep_writing, conf_ref(conf)) != 0) {
        conf_unref(conf);
        return false;
    }
    pthread_detach(thread);
    return true;
}

void figures_end(const struct conf *conf)
{
    (void)counters_save(conf, time(NULL));
}
