/*
 * store_redis_playbook: the run of a domain's playbook, a hash whose values begin
 * with the epoch of the change that wrote them. A write names the epoch that it
 * expects (lua/playbook.lua), so of two operators one is refused.
 */
#include "config.h"

#include "store_redis.h"

#include <stdlib.h>
#include <string.h>

static const char playbook_text[] =
#include "lib/lua/common.lua.h"
#include "lib/lua/playbook.lua.h"
    ;

void sr_playbook_scripts(struct redis_script scripts[SCRIPT_COUNT])
{
    scripts[SCRIPT_PLAYBOOK].text = playbook_text;
}

enum commit sr_playbook_put(struct store *store, const struct playbook_put *put,
                            uint64_t *epoch)
{
    struct store_redis *sr = (struct store_redis *)store;
    const struct resp *reply;
    if (!sr_script_args(sr))
        return COMMIT_UNCERTAIN;
    redis_arg_text(&sr->args, put->domain);
    redis_arg_number(&sr->args, put->expect_epoch);
    redis_arg_number(&sr->args, put->anew);
    redis_arg_number(&sr->args, put->run_epoch);
    for (size_t i = 0; i < put->count; i++) {
        redis_arg_text(&sr->args, put->fields[i].name);
        redis_arg_text(&sr->args, put->fields[i].value);
    }
    enum commit commit = sr_script(sr, SCRIPT_PLAYBOOK, &reply);
    if (commit == COMMIT_DONE && !resp_number(resp_at(reply, 1), epoch)) {
        store_set_error(store, "Redis gave an answer that is none to a playbook's step");
        return COMMIT_UNCERTAIN;
    }
    return commit;
}

struct each_playbook {
    store_playbook_fn *each;
    void *context;
};

static bool playbook_field(void *context, const char *field, size_t field_len,
                           const char *value, size_t value_len)
{
    const struct each_playbook *walk = context;
    (void)field_len;
    (void)value_len;
    return walk->each(walk->context, field, value);
}

bool sr_each_playbook(struct store *store, const char *domain, store_playbook_fn *each,
                      void *context)
{
    struct each_playbook walk = { .each = each, .context = context };
    return sr_each_field((struct store_redis *)store, STORE_PLAYBOOK_OF, domain,
                         playbook_field, &walk);
}
