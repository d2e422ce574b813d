/*
 * clientsetup: what mail programs are told when they ask for their settings: which
 * servers an answer of Autodiscover (Outlook's XML) or of autoconfig (Mozilla's XML)
 * names; and the parts of a URL. Pure; answers are hostile.
 */
#ifndef SLUICE_CLIENTSETUP_H
#define SLUICE_CLIENTSETUP_H

#include <stdbool.h>
#include <stddef.h>

/* The parts of a URL of http or https that has neither login nor fragment. false: it is
 * another, or too long. */
struct web_place {
    bool is_tls;
    char host[256]; /* without brackets */
    unsigned port;
};
bool web_place(const char *url, struct web_place *out);

#define SETUP_NAME_MAX    255
#define SETUP_SERVERS_MAX 64

struct setup_server {
    char name[SETUP_NAME_MAX + 1]; /* as it stands there, in small letters */
    unsigned port;                 /* 0: none is named */
};
/* Servers that an answer names: <Server> and <hostname> with the <Port> behind them, and
 * the hosts of https URLs in elements ending in Url. Each once. At most
 * SETUP_SERVERS_MAX, *more: there are others; the number. */
size_t setup_servers(const char *text, size_t len,
                     struct setup_server out[SETUP_SERVERS_MAX], bool *more);
/* The text of the first <RedirectUrl>. false: there is none, or it is too long. */
bool setup_redirect(const char *text, size_t len, char *out, size_t size);

/* Whether a name is one of the list "imap.example.com,.example.net": the same, or, for
 * one that begins with a dot, below it. */
bool setup_is_one(const char *name, const char *list);

#endif
