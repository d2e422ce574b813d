/*
 * What a web server says to a mail program that asks for its settings: every name is
 * one, within its buffer, once; a URL's parts are those of a URL.
 *
 * Sources: cutover/clientsetup.c
 */
#include "../../cutover/clientsetup.h"
#include "fuzz.h"

static void check_servers(const uint8_t *data, size_t size)
{
    struct setup_server servers[SETUP_SERVERS_MAX];
    bool more;
    size_t count = setup_servers((const char *)data, size, servers, &more);
    HOLDS(count <= SETUP_SERVERS_MAX && (!more || count == SETUP_SERVERS_MAX));
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(servers[i].name);
        HOLDS(len > 0 && len <= SETUP_NAME_MAX && servers[i].port <= 65535);
        HOLDS(strspn(servers[i].name, "abcdefghijklmnopqrstuvwxyz0123456789.-_:") == len);
        HOLDS(servers[i].name[0] == '.' ||
              setup_is_one(servers[i].name, servers[i].name));
        for (size_t j = 0; j < i; j++)
            HOLDS(strcmp(servers[i].name, servers[j].name) != 0 ||
                  servers[i].port != servers[j].port);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char url[64], *text = malloc(size + 1);
    struct web_place place;
    if (!text)
        return 0;
    if (size > 0)
        memcpy(text, data, size);
    text[size] = '\0';
    check_servers(data, size);
    if (setup_redirect((const char *)data, size, url, sizeof(url)))
        HOLDS(url[0] && strlen(url) < sizeof(url));
    if (web_place(text, &place)) {
        size_t len = strlen(place.host);
        HOLDS(len > 0 && len < sizeof(place.host) && place.port > 0 &&
              place.port <= 65535);
        HOLDS(!strpbrk(place.host, "@/?# \r\n"));
    }
    free(text);
    return 0;
}
