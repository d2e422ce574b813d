/*
 * null_milter: a libmilter filter that does nothing, as cheaply as libmilter can:
 * the peer that sluice-milter is measured against.
 *
 *     null_milter SOCKET [--decline]
 *
 * Takes every event, none of them with a reply (SMFIP_NR_*, the way a filter on
 * a unix socket should do it), and accepts at end of message. With --decline it
 * has the MTA leave out all events but MAIL and the end of message: no filter
 * costs less.
 * Listens on the unix socket SOCKET, which everybody may use, in the foreground
 * until SIGTERM. Exit 0, or 1 when libmilter cannot serve, 2 usage.
 */
#include <libmilter/mfapi.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define BACKLOG 1024

#define NO_REPLIES                                                                       \
    (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA |     \
     SMFIP_NR_UNKN | SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY)
#define NO_EVENTS                                                                        \
    (SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NORCPT | SMFIP_NODATA | SMFIP_NOUNKNOWN |    \
     SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY)

static bool decline;

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long events,
                             unsigned long unused2, unsigned long unused3,
                             unsigned long *want_actions, unsigned long *want_events,
                             unsigned long *want2, unsigned long *want3)
{
    (void)ctx;
    (void)actions;
    (void)unused2;
    (void)unused3;
    *want_actions = 0;
    *want_events = NO_REPLIES | (decline ? NO_EVENTS : 0UL);
    *want2 = *want3 = 0;
    if ((events & *want_events) == *want_events)
        return SMFIS_CONTINUE;
    fprintf(stderr, "null_milter: the MTA offers %#lx of the %#lx wanted\n", events,
            *want_events);
    return SMFIS_REJECT;
}

static sfsistat on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *address)
{
    (void)ctx;
    (void)name;
    (void)address;
    return SMFIS_NOREPLY;
}

/* HELO, and commands that the MTA does not know. */
static sfsistat on_text(SMFICTX *ctx, char *text)
{
    (void)ctx;
    (void)text;
    return SMFIS_NOREPLY;
}

static sfsistat on_unknown(SMFICTX *ctx, const char *text)
{
    (void)ctx;
    (void)text;
    return SMFIS_NOREPLY;
}

static sfsistat on_envelope(SMFICTX *ctx, char **words)
{
    (void)ctx;
    (void)words;
    return SMFIS_NOREPLY;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    (void)ctx;
    (void)name;
    (void)value;
    return SMFIS_NOREPLY;
}

/* DATA and the end of the headers. */
static sfsistat on_mark(SMFICTX *ctx)
{
    (void)ctx;
    return SMFIS_NOREPLY;
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *chunk, size_t len)
{
    (void)ctx;
    (void)chunk;
    (void)len;
    return SMFIS_NOREPLY;
}

static sfsistat on_end_of_message(SMFICTX *ctx)
{
    (void)ctx;
    return SMFIS_CONTINUE;
}

static bool serve(const char *socket_path)
{
    static char name[] = "null_milter";
    char connection[256];
    int n = snprintf(connection, sizeof(connection), "local:%s", socket_path);
    struct smfiDesc filter = {
        .xxfi_name = name,
        .xxfi_version = SMFI_VERSION,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_text,
        .xxfi_envfrom = on_envelope,
        .xxfi_envrcpt = on_envelope,
        .xxfi_header = on_header,
        .xxfi_eoh = on_mark,
        .xxfi_body = on_body,
        .xxfi_eom = on_end_of_message,
        .xxfi_unknown = on_unknown,
        .xxfi_data = on_mark,
        .xxfi_negotiate = on_negotiate,
    };
    umask(0); /* Postfix's daemons are another user */
    return n > 0 && (size_t)n < sizeof(connection) &&
           smfi_register(filter) == MI_SUCCESS &&
           smfi_setconn(connection) == MI_SUCCESS &&
           smfi_setbacklog(BACKLOG) == MI_SUCCESS && smfi_main() == MI_SUCCESS;
}

int main(int argc, char **argv)
{
    decline = argc == 3 && strcmp(argv[2], "--decline") == 0;
    if (argc != 2 && !decline) {
        fprintf(stderr, "usage: null_milter SOCKET [--decline]\n");
        return 2;
    }
    if (serve(argv[1]))
        return 0;
    fprintf(stderr, "null_milter: libmilter cannot serve on %s\n", argv[1]);
    return 1;
}
