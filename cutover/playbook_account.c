/*
 * playbook_account: servers and accounts as a playbook writes them (playbook_mail.h), and
 * the action imap-login.
 *
 * Accounts come from a CSV file with the columns address (or email) and password;
 * passwords are used and neither kept nor printed. A login has MAIL_LOGIN_S.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "netaddr.h"
#include "output.h"
#include "playbook_mail.h"

#define BAD_MAX 20 /* accounts; then the server is at fault, or the file */

/* ---- servers and accounts ------------------------------------------------ */

bool mail_words_take(int argc, char **argv, int from, struct mail_words *out)
{
    const struct word_spec words[] = { { "tls", &out->tls },
                                       { "starttls", &out->starttls },
                                       { "plain", &out->plain },
                                       { "ca=", &out->ca } };
    return words_take(argc, argv, from, words, 4);
}

bool mail_is_loopback(const char *host)
{
    struct netaddr address;
    return strcmp(host, "localhost") == 0 ||
           (netaddr_parse(host, strlen(host), &address) && netaddr_is_loopback(&address));
}

bool mail_place(const char *endpoint, const struct mail_words *words, bool login,
                struct mail_place *out)
{
    const char *wrong = conf_host_port(endpoint, &out->at);
    if (wrong || out->at.port == 0) {
        message("%s: %s", endpoint, wrong ? wrong : "has no port: write it as HOST:PORT");
        return false;
    }
    enum mail_tls tls =
        !login || mail_is_loopback(out->at.host) ? MAIL_PLAIN : MAIL_STARTTLS;
    if (out->at.port == 993 || out->at.port == 465 || words->tls)
        tls = MAIL_TLS;
    if (words->starttls || words->plain)
        tls = words->plain ? MAIL_PLAIN : MAIL_STARTTLS;
    out->server = (struct mail_server){
        .host = out->at.host, .port = out->at.port, .tls = tls, .ca_file = words->ca
    };
    return true;
}

struct mail_call mail_call_for(int seconds)
{
    return (struct mail_call){ .until = clock_ms() + seconds * 1000L,
                               .stop = command_stopped };
}

/* What to do about it. */
static const char *way_out(enum mail_result result)
{
    switch (result) {
    case MAIL_LOGIN:
        return ": right the password in the file, or make the account";
    case MAIL_UNTRUSTED:
        return ": ca=FILE names a CA of your own; plain does without TLS";
    case MAIL_NETWORK:
    case MAIL_TIMEOUT:
        return ": is the server up, the port open?";
    default:
        return "";
    }
}

struct mail_imap *mail_log_in(const struct mail_place *place, const struct person *person)
{
    struct mail_server server = place->server;
    struct mail_call call = mail_call_for(MAIL_LOGIN_S);
    struct mail_imap *imap = NULL;
    server.user = person->address;
    server.password = person->password;
    enum mail_result result = mail_imap_open(&server, &call, &imap);
    if (result == MAIL_DONE)
        return imap;
    message("%s: %s%s", person->address, call.error, way_out(result));
    mail_imap_close(imap);
    return NULL;
}

bool mail_ready(void)
{
    if (mail_begin())
        return true;
    message("out of memory");
    return false;
}

/* ---- logins -------------------------------------------------------------- */

struct accounts {
    struct mail_place place;
    size_t good, bad;
    struct pace pace;
};

static bool log_in_one(void *context, const struct person *person)
{
    struct accounts *accounts = context;
    struct mail_imap *imap = mail_log_in(&accounts->place, person);
    accounts->good += imap != NULL;
    accounts->bad += imap == NULL;
    mail_imap_close(imap);
    if (pace_due(&accounts->pace))
        notice("%zu accounts log in so far", accounts->good);
    return accounts->bad < BAD_MAX && !command_stopped();
}

static int judge_accounts(const struct accounts *accounts, char **argv)
{
    if (command_stopped()) {
        message("stopped after %zu accounts", accounts->good + accounts->bad);
        return EXIT_AGAIN;
    }
    if (accounts->bad <= 1) /* who it is was said already */
        return accounts->bad == 0 ? EXIT_DONE : EXIT_CHECK;
    message(
        "%s: %zu of the accounts of %s cannot log in (the step's log names each): right "
        "the passwords, or make the accounts%s",
        argv[1], accounts->bad, argv[2],
        accounts->bad == BAD_MAX ? "; the others were not tried" : "");
    return EXIT_CHECK;
}

int action_imap_login(struct action_context *context, int argc, char **argv)
{
    struct accounts accounts = { 0 };
    struct mail_words words = { 0 };
    (void)context;
    if (!mail_words_take(argc, argv, 3, &words) ||
        !mail_place(argv[1], &words, true, &accounts.place))
        return EXIT_USE;
    if (!mail_ready())
        return EXIT_SERVICE;
    command_catch_signals();
    int code = people_each(argv[2], true, log_in_one, &accounts);
    if (code == EXIT_DONE)
        code = judge_accounts(&accounts, argv);
    if (code == EXIT_DONE)
        print("%s: all %zu accounts log in", argv[1], accounts.good);
    return code;
}
