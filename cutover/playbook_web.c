/*
 * playbook_web: actions that ask web servers and change nothing: the pages of a web
 * client, and what mail programs are told when they ask for their settings.
 *
 * Names are looked up by the resolvers of sluice.conf, like those of `access`; without
 * any by the system. Each request has SERVER_MS. Redirects are followed by us, at most
 * REDIRECTS_MAX, from https to https alone. A login goes to the host that is asked first,
 * to those of the domain and to those of the new side, and to no other that a redirect
 * names.
 *
 * Autodiscover (Outlook: MS-OXDSCLI, plain XML), autoconfig (Mozilla) and SRV records
 * (RFC 6186, 8314). A mail program takes the first that answers, and which one that is
 * differs; so one way must name the new server, and none may name the old one.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "clientsetup.h"
#include "conf_value.h"
#include "output.h"
#include "playbook_action.h"
#include "playbook_mail.h"
#include "playbook_net.h"
#include "playbook_people.h"
#include "playbook_report.h"
#include "webclient.h"

#define SERVER_MS     20000
#define REDIRECTS_MAX 5
#define BODY_MAX      4096
#define PLACE_MAX     300
#define NAMES_MAX     4000
#define SHOWN_MAX     5
#define LIST_MAX      (SHOWN_MAX * (SETUP_NAME_MAX + 16) + 40)

static bool is_stopped(void)
{
    return command_stopped();
}

/* ---- one page ------------------------------------------------------------------ */

struct asking {
    const struct conf *conf;
    const char *ca;
    const char *body;            /* POST */
    const char *user, *password; /* where the server asks for them */
    const char *domain, *names;  /* with user: whose servers may have them */
    char url[WEB_URL_MAX];       /* the last one */
    char why[WEB_ERROR_MAX + 2 * WEB_URL_MAX + 64];
};

__attribute__((format(printf, 2, 3))) static bool fail(struct asking *it,
                                                       const char *format, ...)
{
    va_list list;
    va_start(list, format);
    (void)vsnprintf(it->why, sizeof(it->why), format, list);
    va_end(list);
    return false;
}

/* The host of a URL by the resolvers of the configuration; *at is NULL where the system
 * looks it up. */
static bool look_up(struct asking *it, const struct web_place *place, const char **at,
                    char address[DNSRECORD_NAME_MAX + 1])
{
    char target[DNSRECORD_NAME_MAX + 1], why[NET_WHY_MAX];
    *at = NULL;
    if (it->conf->dns.resolver_count == 0 || conf_is_address(place->host) ||
        mail_is_loopback(place->host))
        return true;
    if (!net_address(it->conf, place->host, address, target, why))
        return fail(it, "%s", why);
    *at = address;
    return true;
}

static bool ask_once(struct asking *it, bool log_in, struct web_page *page)
{
    struct web_place place;
    const char *at;
    char address[DNSRECORD_NAME_MAX + 1];
    *page = (struct web_page){ 0 };
    if (!web_place(it->url, &place))
        return fail(it, "%.300s: that is no URL of http or https", it->url);
    if (!look_up(it, &place, &at, address))
        return false;
    const struct web_request request = {
        .url = it->url,
        .at = at,
        .ca_file = it->ca,
        .body = it->body,
        .type = "text/xml; charset=utf-8",
        .user = log_in ? it->user : NULL,
        .password = log_in ? it->password : NULL,
        .timeout_ms = SERVER_MS,
        .stop = is_stopped,
    };
    return web_ask(&request, page) || fail(it, "%s: %s", it->url, page->error);
}

/* Where the answer says to go on: a redirect, or Autodiscover's own. */
static bool leads_on(const struct asking *it, const struct web_page *page,
                     char next[WEB_URL_MAX])
{
    if (page->location[0])
        memcpy(next, page->location, WEB_URL_MAX);
    else if (!it->body || page->status != 200 ||
             !setup_redirect(page->text ? page->text : "", page->len, next, WEB_URL_MAX))
        return false;
    return true;
}

/* Whether the host of it->url may have the password; first is the one that was asked. */
static bool may_log_in(struct asking *it, const char *first)
{
    struct web_place from, to;
    char below[DNSRECORD_NAME_MAX + 2];
    (void)snprintf(below, sizeof(below), ".%.253s", it->domain);
    return (web_place(first, &from) && web_place(it->url, &to) &&
            (strcmp(from.host, to.host) == 0 || strcmp(to.host, it->domain) == 0 ||
             setup_is_one(to.host, below) || setup_is_one(to.host, it->names))) ||
           fail(it,
                "%s asks for a login, and the password is not sent: %s leads there, and "
                "it is not of the new side: if it is, add it to names=",
                it->url, first);
}

/* The page that a URL leads to, with status 200; else it->why says what came. */
static bool ask(struct asking *it, const char *url, struct web_page *page)
{
    char next[WEB_URL_MAX];
    bool log_in = false;
    int n = snprintf(it->url, sizeof(it->url), "%s", url);
    if (n < 0 || (size_t)n >= sizeof(it->url))
        return fail(it, "%.100s...: too long a URL", url);
    for (int i = 0; i <= REDIRECTS_MAX + 1; i++) {
        if (!ask_once(it, log_in, page))
            return false;
        if (page->status == 401 && page->asks_login && it->user && !log_in) {
            if (!may_log_in(it, url))
                return false;
            log_in = true;
        } else if (leads_on(it, page, next)) {
            if (strncasecmp(next, "https://", 8) != 0)
                return fail(it, "%s leads to %.300s, which is no https", it->url, next);
            memcpy(it->url, next, sizeof(it->url));
            log_in = false;
        } else if (page->status == 200) {
            return true;
        } else {
            return fail(it, "%s: HTTP status %ld%s", it->url, page->status,
                        page->status == 401
                            ? log_in ? ": it refuses the login" : ": it asks for a login"
                            : "");
        }
        web_page_free(page);
    }
    return fail(it, "%s: more than %d redirects", it->url, REDIRECTS_MAX);
}

/* ---- web ------------------------------------------------------------------------- */

static bool page_good(struct asking *it, const char *url, const char *says)
{
    struct web_page page = { 0 };
    bool good = ask(it, url, &page);
    if (good && page.len == 0)
        good = fail(it, "%s: the page is empty", it->url);
    if (good && says && !memmem(page.text, page.len, says, strlen(says)))
        good =
            fail(it, "%s: the page is there, and \"%.200s\" is not in it", it->url, says);
    if (good)
        print("%s: %zu bytes%s%s", url, page.len, strcmp(url, it->url) ? ", at " : "",
              strcmp(url, it->url) ? it->url : "");
    else
        message("%s", it->why);
    web_page_free(&page);
    return good;
}

int action_web(struct action_context *context, int argc, char **argv)
{
    const char *ca = NULL, *says = NULL;
    int bad = 0, pages = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "ca=", 3) == 0)
            ca = argv[i][3] ? argv[i] + 3 : NULL;
        else if (strncmp(argv[i], "says=", 5) == 0)
            says = argv[i][5] ? argv[i] + 5 : NULL;
        else if (strncmp(argv[i], "https://", 8) != 0) {
            message("web: %.200s: write it as https://NAME/...", argv[i]);
            return EXIT_USE;
        }
    }
    for (int i = 1; i < argc; i++) {
        struct asking it = { .conf = context->command->conf, .ca = ca };
        if (strncmp(argv[i], "https://", 8) != 0)
            continue;
        pages++;
        bad += !page_good(&it, argv[i], says);
    }
    if (bad > 1)
        message("%d of %d pages do not answer well; the step's log has each", bad, pages);
    if (bad == 0 && pages > 0)
        print("%d pages answer over HTTPS with a good certificate", pages);
    return bad > 0 || pages == 0 ? EXIT_CHECK : EXIT_DONE;
}

/* ---- autodiscover ------------------------------------------------------------------ */

struct setup {
    struct action_context *context;
    const char *domain, *address;
    const char *ca;
    const char *names;           /* of the new side, with commas between */
    struct conf_host_port old;   /* must not be named; host "": none */
    const char *user, *password; /* of the account */
    int ways, of_new, of_old;
    int unknown; /* ways that could not be looked at, all or in part */
};

static bool is_old(const struct setup *setup, const char *name, unsigned port)
{
    return setup->old.host[0] && strcasecmp(name, setup->old.host) == 0 &&
           (port == 0 || setup->old.port == 0 || port == setup->old.port);
}

/* "imap.new.test:993, smtp.new.test:587 and 3 more" */
static void list_servers(const struct setup_server *servers, size_t count,
                         char out[LIST_MAX])
{
    size_t used = 0;
    for (size_t i = 0; i < count && i < SHOWN_MAX; i++) {
        char port[16] = "";
        if (servers[i].port > 0)
            (void)snprintf(port, sizeof(port), ":%u", servers[i].port);
        int n = snprintf(out + used, LIST_MAX - used, "%s%s%s", i > 0 ? ", " : "",
                         servers[i].name, port);
        used += n > 0 ? (size_t)n : 0; /* fits */
    }
    if (count > SHOWN_MAX)
        (void)snprintf(out + used, LIST_MAX - used, " and %zu more", count - SHOWN_MAX);
    else if (count == 0)
        (void)snprintf(out, LIST_MAX, "names no server");
}

/* What one way tells. */
static void judge(struct setup *setup, const char *way,
                  const struct setup_server *servers, size_t count)
{
    char list[LIST_MAX];
    bool is_new = false, old = false;
    for (size_t i = 0; i < count; i++) {
        bool this_old = is_old(setup, servers[i].name, servers[i].port);
        old = old || this_old;
        is_new = is_new || (!this_old && setup_is_one(servers[i].name, setup->names));
    }
    list_servers(servers, count, list);
    setup->ways++;
    setup->of_new += is_new;
    setup->of_old += old;
    if (old)
        message("%s still names the old server: %s", way, list);
    else
        print("%s: %s%s", way, list, is_new || count == 0 ? "" : " (not the new server)");
}

/* Not to be taken for "the old server is not named". */
static void unknown(struct setup *setup, const char *way, const char *why)
{
    setup->unknown++;
    message("%s: %s", way, why);
}

static void ask_way(struct setup *setup, const char *url, const char *body)
{
    struct setup_server servers[SETUP_SERVERS_MAX];
    struct web_page page = { 0 };
    bool more;
    struct asking it = {
        .conf = setup->context->command->conf,
        .ca = setup->ca,
        .body = body,
        .user = body ? setup->user : NULL,
        .password = body ? setup->password : NULL,
        .domain = setup->domain,
        .names = setup->names,
    };
    if (ask(&it, url, &page)) {
        size_t count =
            setup_servers(page.text ? page.text : "", page.len, servers, &more);
        judge(setup, it.url, servers, count);
        if (more)
            unknown(setup, it.url, "it names too many servers to look at");
    } else {
        notice("%s", it.why);
    }
    web_page_free(&page);
}

static void ask_outlook(struct setup *setup, const char *at)
{
    char url[WEB_URL_MAX], body[BODY_MAX];
    char *address = paper_escape(PAPER_HTML, setup->address); /* good for XML, too */
    int n = snprintf(
        body, sizeof(body),
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>"
        "<Autodiscover xmlns=\"http://schemas.microsoft.com/exchange/autodiscover/"
        "outlook/requestschema/2006\"><Request><EMailAddress>%s</EMailAddress>"
        "<AcceptableResponseSchema>http://schemas.microsoft.com/exchange/autodiscover/"
        "outlook/responseschema/2006a</AcceptableResponseSchema></Request>"
        "</Autodiscover>",
        address ? address : "");
    (void)snprintf(url, sizeof(url), "https://%s/autodiscover/autodiscover.xml", at);
    if (address && n > 0 && (size_t)n < sizeof(body))
        ask_way(setup, url, body);
    free(address);
}

/* An address in a URL (RFC 3986 2.1). */
static void encode(const char *text, char out[3 * ADDR_TEXT_MAX + 1])
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~@";
    for (; *text; text++)
        if (strchr(plain, *text))
            *out++ = *text;
        else
            out += snprintf(out, 4, "%%%02X", (unsigned)(unsigned char)*text);
    *out = '\0';
}

static void ask_mozilla(struct setup *setup, const char *at, const char *path)
{
    char url[WEB_URL_MAX], address[3 * ADDR_TEXT_MAX + 1];
    encode(setup->address, address);
    (void)snprintf(url, sizeof(url), "https://%s%s?emailaddress=%s", at, path,
                   address); /* fits */
    ask_way(setup, url, NULL);
}

/* "0 1 993 imap.example.com." */
static void ask_srv(struct setup *setup, const char *service)
{
    char name[DNSRECORD_NAME_MAX + 1];
    struct setup_server servers[SETUP_SERVERS_MAX];
    struct dns_reply reply;
    size_t count = 0;
    int n = snprintf(name, sizeof(name), "%s._tcp.%s", service, setup->domain);
    if (n < 0 || (size_t)n >= sizeof(name) ||
        setup->context->command->conf->dns.resolver_count == 0)
        return;
    net_resolve(setup->context->command->conf, name, DNS_SRV, &reply);
    const struct dns_set *set = dns_sets_find(&reply.answer, name, DNS_SRV);
    for (size_t i = 0; set && i < set->count && count < SETUP_SERVERS_MAX; i++) {
        unsigned port;
        char target[SETUP_NAME_MAX + 1];
        if (sscanf(set->values[i], "%*u %*u %u %255s", &port, target) != 2)
            continue;
        size_t len = strlen(target);
        if (len > 0 && target[len - 1] == '.')
            target[--len] = '\0';
        if (len == 0)
            continue; /* "this service is not offered" (RFC 2782) */
        memcpy(servers[count].name, target, len + 1);
        servers[count++].port = port;
    }
    if (count > 0)
        judge(setup, name, servers, count);
    if (reply.outcome == DNS_FAILED)
        unknown(setup, name, "no resolver answers for it: see dns { resolvers }");
    else if (set && set->count > SETUP_SERVERS_MAX)
        unknown(setup, name, "it has too many records to look at");
    dns_reply_free(&reply);
}

static void ask_all(struct setup *setup, const char *at)
{
    static const char *const services[] = { "_autodiscover", "_imaps", "_imap",
                                            "_submissions", "_submission" };
    char host[400];
    (void)snprintf(host, sizeof(host), "%s%s", at ? "" : "autodiscover.",
                   at ? at : setup->domain);
    ask_outlook(setup, host);
    (void)snprintf(host, sizeof(host), "%s%s", at ? "" : "autoconfig.",
                   at ? at : setup->domain);
    ask_mozilla(setup, host, "/mail/config-v1.1.xml");
    if (!at)
        ask_mozilla(setup, setup->domain, "/.well-known/autoconfig/mail/config-v1.1.xml");
    for (size_t i = 0; i < sizeof(services) / sizeof(services[0]); i++)
        ask_srv(setup, services[i]);
}

static int verdict(const struct setup *setup)
{
    if (setup->of_old > 0) {
        message("%d of %d ways that mail programs ask still name the old server: change "
                "the records or the answer of Autodiscover; the step's log has each",
                setup->of_old, setup->ways);
        return EXIT_CHECK;
    }
    if (setup->unknown > 0) {
        message("%d of the ways that mail programs ask could not be looked at; the "
                "step's log has each: mend it and run the same command again",
                setup->unknown);
        return EXIT_CHECK;
    }
    if (setup->of_new == 0) {
        message("no way that mail programs ask for their settings names %s (%d answer): "
                "set up Autodiscover, autoconfig or SRV records; the step's log has each",
                setup->names, setup->ways);
        return EXIT_CHECK;
    }
    print("%d of %d ways that mail programs ask name %s, none the old server",
          setup->of_new, setup->ways, setup->names);
    return EXIT_DONE;
}

struct account {
    char address[ADDR_TEXT_MAX + 1], password[1024];
};

static bool take_account(void *context, const struct person *person)
{
    struct account *account = context;
    if (strlen(person->password) < sizeof(account->password)) {
        people_canonical(person->address, account->address);
        (void)snprintf(account->password, sizeof(account->password), "%s",
                       person->password); /* fits */
    }
    return false; /* the first is enough */
}

int action_autodiscover(struct action_context *context, int argc, char **argv)
{
    const char *ca = NULL, *more = NULL, *not = NULL, *at = NULL;
    const struct word_spec words[] = {
        { "ca=", &ca }, { "names=", &more }, { "not=", &not }, { "at=", &at }
    };
    struct account account = { 0 };
    struct conf_host_port server;
    char names[DNSRECORD_NAME_MAX + NAMES_MAX + 2];
    struct setup setup = { .context = context,
                           .domain = context->domain,
                           .address = account.address,
                           .user = account.address,
                           .password = account.password,
                           .names = names };
    if (!words_take(argc, argv, 3, words, 4))
        return EXIT_USE;
    if (conf_host_port(argv[2], &server) ||
        (not &&not [0] && conf_host_port(not, &setup.old))) {
        message("autodiscover: write a server as HOST:PORT");
        return EXIT_USE;
    }
    if ((at && strlen(at) > PLACE_MAX) || (more && strlen(more) > NAMES_MAX)) {
        message("autodiscover: at= has %d bytes at most, names= %d", PLACE_MAX,
                NAMES_MAX);
        return EXIT_USE;
    }
    (void)snprintf(names, sizeof(names), "%s%s%s", server.host,
                   more && more[0] ? "," : "", more ? more : ""); /* fits */
    setup.ca = ca && ca[0] ? ca : NULL;
    int code = people_each(argv[1], true, take_account, &account);
    if (code == EXIT_DONE && !account.address[0]) {
        message("%s: nobody is in it, or the first password is too long", argv[1]);
        code = EXIT_DATA;
    }
    if (code == EXIT_DONE) {
        ask_all(&setup, at && at[0] ? at : NULL);
        code = command_stopped() ? EXIT_AGAIN : verdict(&setup);
    }
    explicit_bzero(&account, sizeof(account));
    return code;
}
