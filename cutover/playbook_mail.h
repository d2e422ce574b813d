/*
 * playbook_mail: what the actions that send and read mail share: servers and accounts
 * as a playbook writes them, for mailclient.h.
 */
#ifndef SLUICE_PLAYBOOK_MAIL_H
#define SLUICE_PLAYBOOK_MAIL_H

#include "conf_value.h"
#include "mailclient.h"
#include "playbook_action.h"
#include "playbook_people.h"

/* Words after the arguments: tls, starttls, plain, ca=FILE. Without one of the first
 * three: TLS on ports 993 and 465, no TLS to a loopback address, else STARTTLS, so
 * that no password goes over a network in clear unless it says plain. */
struct mail_words {
    const char *tls, *starttls, *plain, *ca;
};
bool mail_words_take(int argc, char **argv, int from, struct mail_words *out);
/* NULL text: MAIL_FLOW_S. false: a message was printed. */
bool mail_within(const char *action, const char *text, int *seconds);

struct mail_place {
    struct conf_host_port at;
    struct mail_server server; /* points into at and words */
};
/* login: a password will be sent. false: a message was printed. */
bool mail_place(const char *endpoint, const struct mail_words *words, bool login,
                struct mail_place *out);

#define MAIL_LOGIN_S 30 /* for a login, or a short conversation */
/* Before the first call; false: a message was printed. */
bool mail_ready(void);
/* So many seconds, or until the step is stopped. */
struct mail_call mail_call_for(int seconds);
/* NULL: a message was printed. */
struct mail_imap *mail_log_in(const struct mail_place *place,
                              const struct person *person);

struct mail_figures {
    uint64_t folders, messages, bytes;
};
/* Of one mailbox. false: a message was printed. */
bool mail_count(const struct mail_place *place, const struct person *person,
                struct mail_figures *out);
/* Messages that came at that time (unix s, the server's clock) or later. */
bool mail_count_since(const struct mail_place *place, const struct person *person,
                      int64_t since, uint64_t *out);

/* Whether no network is between. */
bool mail_is_loopback(const char *host);

/* A name that nobody has. */
#define MAIL_RANDOM_LEN 32
bool mail_random(char out[MAIL_RANDOM_LEN + 1]);

/* catchall, for a server that accepts at RCPT: SMTP argv[1], IMAP argv[2], accounts
 * argv[3]; mail to the address must come back as a bounce to the first account. */
#define MAIL_FLOW_S 90 /* for a message to arrive, unless within=DURATION */
int mail_bounces(struct action_context *context, char **argv, const char *address,
                 const struct mail_words *words, int within_s);

#endif
