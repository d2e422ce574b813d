/*
 * Heads of HTTP requests: one that is whole is not whole when anything of it is
 * missing, and is the same whatever follows; what comes out is text. Host and
 * Authorization fields of any kind are judged.
 *
 * Sources: policyd/http_request.c lib/addr.c lib/netaddr.c
 * Libraries: libidn2
 */
#include "../../policyd/http_request.h"
#include "fuzz.h"

static bool is_plain(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 && *text != '\t')
            return false;
    return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char hostname[] = "mx1.example.com", secret[] = "open sesame";
    static char *hosts[] = { hostname, NULL };
    struct conf conf = { .hostname = hostname,
                         .http = { .hosts = hosts, .password = secret } };
    struct http_request request, other;
    size_t used, other_used;
    char *text = exact_copy((const char *)data, size);
    int status = http_request_parse(text, size, &request, &used);
    free(text);
    HOLDS(status == 0 || used <= size);
    HOLDS(is_plain(request.host) && is_plain(request.authorization));
    (void)http_request_host(&conf, request.host);
    (void)http_request_allowed(&conf, request.authorization);
    if (status != 200)
        return 0;
    HOLDS(used > 0 && request.get + request.head <= 1);
    HOLDS(!request.path[0] || request.path[0] == '/');
    text = exact_copy((const char *)data, used);
    HOLDS(http_request_parse(text, used, &other, &other_used) == 200);
    HOLDS(other_used == used && strcmp(other.path, request.path) == 0 &&
          strcmp(other.host, request.host) == 0 && other.keep == request.keep);
    free(text);
    text = exact_copy((const char *)data, used - 1);
    HOLDS(http_request_parse(text, used - 1, &other, &other_used) == 0);
    free(text);
    return 0;
}
