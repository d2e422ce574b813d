/*
 * helper: policyd's side of the queue helper, and what both sides agree on.
 *
 * helper_fork() makes a socketpair and a child that runs helper_child() (see
 * helper_child.c) and never returns here. A request is one packet, the answer
 * a stream of packets (helper_wire.h). Standard output is handed on line by
 * line, so a queue listing of any length needs no memory here; one line is
 * bounded by HELPER_LINE_MAX.
 *
 * The helper enforces the time limit of each command; when it does not answer
 * WAIT_MORE_S after that, or the caller's idle() says stop in mid-request, the
 * socketpair is closed: the stream has lost its place, and a closed socketpair
 * makes the helper end. After that every request fails; policyd ends and is
 * started anew by the service manager (see keeper.h).
 */
#include "helper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "helper_wire.h"
#include "log.h"

#define WAIT_MORE_S     15
#define HELPER_LINE_MAX (16 * 1024 * 1024)

struct helper {
    int fd;    /* -1: no child, or lost */
    pid_t pid; /* 0: policyd was not started as root */
    char error[WIRE_ERROR_MAX + 200];
    /* of the request under way */
    char *line;
    size_t line_len, line_size;
};

struct command_info {
    const char *program;
    const char *arguments[10]; /* after -c DIR */
    bool takes_ids;
    bool takes_keys;
    size_t most; /* items */
    int seconds; /* time limit; of each item for HELPER_FLUSH */
};

static const struct command_info commands[HELPER_COMMANDS] = {
    [HELPER_LIST] = { .program = "postqueue", .arguments = { "-j" }, .seconds = 120 },
    [HELPER_HOLD] = { .program = "postsuper",
                      .arguments = { "-h", "-", "deferred" },
                      .takes_ids = true,
                      .most = HELPER_ITEMS_MAX,
                      .seconds = 60 },
    [HELPER_RELEASE] = { .program = "postsuper",
                         .arguments = { "-r", "-", "hold" },
                         .takes_ids = true,
                         .most = HELPER_ITEMS_MAX,
                         .seconds = 60 },
    [HELPER_REQUEUE] = { .program = "postsuper",
                         .arguments = { "-r", "-", "deferred" },
                         .takes_ids = true,
                         .most = HELPER_ITEMS_MAX,
                         .seconds = 60 },
    [HELPER_FLUSH] = { .program = "postqueue",
                       .arguments = { "-i" }, /* and the id */
                       .takes_ids = true,
                       .most = HELPER_FLUSH_MAX,
                       .seconds = 5 },
    [HELPER_WAKE] = { .program = "postkick",
                      .arguments = { "public", "pickup", "W" },
                      .seconds = 10 },
    [HELPER_SCAN] = { .program = "postkick",
                      .arguments = { "public", "qmgr", "I" },
                      .seconds = 10 },
    [HELPER_RELOAD] = { .program = "postfix", .arguments = { "reload" }, .seconds = 60 },
    [HELPER_SETTINGS] = { .program = "postconf",
                          .arguments = { "-x", "queue_directory", "transport_maps",
                                         "mydestination", "myorigin", "relocated_maps",
                                         "maximal_queue_lifetime",
                                         "bounce_queue_lifetime", "enable_long_queue_ids",
                                         "recipient_delimiter" },
                          .seconds = 15 },
    [HELPER_ASK_MAP] = { .program = "postmap",
                         .arguments = { "-q", "-" }, /* and the map */
                         .takes_keys = true,
                         .most = HELPER_KEYS_MAX,
                         .seconds = 20 },
    [HELPER_DAEMONS] = { .program = NULL, .seconds = 10 },
};

int helper_command_seconds(enum helper_command command, size_t count)
{
    int seconds = commands[command].seconds;
    return command == HELPER_FLUSH && count > 0 ? seconds * (int)count : seconds;
}

/* ---- pure parts ---------------------------------------------------------- */

/* Postfix mail_queue.h, MQID_LG_*: base 52 are the digits and the consonants
 * of both cases; at least 6 digits of seconds and 4 of microseconds; then "z",
 * and the inode in base 51 (the same without "z"). */
static bool is_base52(char c)
{
    return c && strchr("0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz", c);
}

bool helper_id_valid(const char *id, size_t len)
{
    size_t separator = 0;
    if (len < 12 || len >= HELPER_ID_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!is_base52(id[i]))
            return false;
        if (id[i] == 'z')
            separator = i;
    }
    return separator >= 10 && separator < len - 1;
}

/* A key goes on a line of its own to postmap(1). */
static bool key_valid(const char *key)
{
    size_t len = strlen(key);
    if (len == 0 || len >= HELPER_ITEM_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)key[i] < ' ' || key[i] == 127)
            return false;
    /* postmap skips lines that are blank or begin with white space or "#" */
    return key[0] != ' ' && key[0] != '#';
}

bool helper_request_valid(enum helper_command command, const char *const *items,
                          size_t count)
{
    if ((unsigned)command >= HELPER_COMMANDS)
        return false;
    const struct command_info *info = &commands[command];
    if (!info->takes_ids && !info->takes_keys)
        return count == 0;
    if (count == 0 || count > info->most)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (info->takes_ids && !helper_id_valid(items[i], strlen(items[i])))
            return false;
        if (info->takes_keys && !key_valid(items[i]))
            return false;
    }
    return true;
}

bool helper_command_line(enum helper_command command, const char *directory,
                         const char *config, const char *last, struct helper_argv *out)
{
    if ((unsigned)command >= HELPER_COMMANDS || !commands[command].program)
        return false;
    const struct command_info *info = &commands[command];
    bool wants_last = command == HELPER_FLUSH || command == HELPER_ASK_MAP;
    size_t n = 0, most = sizeof(info->arguments) / sizeof(info->arguments[0]);
    if (wants_last != (last != NULL) || (last && (last[0] == '-' || !last[0])))
        return false;
    int len =
        snprintf(out->program, sizeof(out->program), "%s/%s", directory, info->program);
    if (len < 0 || (size_t)len >= sizeof(out->program) || directory[0] != '/')
        return false;
    out->argv[n++] = out->program;
    out->argv[n++] = "-c";
    out->argv[n++] = config;
    for (size_t i = 0; i < most && info->arguments[i]; i++)
        out->argv[n++] = info->arguments[i];
    if (last)
        out->argv[n++] = last;
    out->argv[n] = NULL;
    return true;
}

/* ---- life ---------------------------------------------------------------- */

struct helper *helper_fork(const struct conf *conf)
{
    int pair[2];
    struct helper *helper = calloc(1, sizeof(*helper));
    if (!helper)
        return NULL;
    helper->fd = -1;
    if (geteuid() != 0)
        return helper;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        free(helper);
        return NULL;
    }
    helper->pid = fork();
    if (helper->pid < 0) {
        int saved = errno;
        close(pair[0]);
        close(pair[1]);
        free(helper);
        errno = saved;
        return NULL;
    }
    if (helper->pid == 0) {
        close(pair[0]);
        _exit(helper_child(pair[1], conf->postfix_commands, conf->postfix_config));
    }
    close(pair[1]);
    helper->fd = pair[0];
    return helper;
}

static void lose(struct helper *helper)
{
    if (helper->fd >= 0)
        close(helper->fd);
    helper->fd = -1;
}

void helper_close(struct helper *helper)
{
    if (!helper)
        return;
    lose(helper);
    /* It ends by itself; a command under way may still need its time. */
    for (int i = 0; helper->pid > 0 && i < 20; i++) {
        if (waitpid(helper->pid, NULL, WNOHANG) != 0)
            break;
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
    }
    free(helper->line);
    free(helper);
}

bool helper_available(const struct helper *helper)
{
    return helper->pid > 0;
}

bool helper_alive(struct helper *helper)
{
    struct pollfd wait = { .fd = helper->fd, .events = POLLIN };
    if (helper->pid == 0)
        return true;
    /* Between requests it has nothing to say: readable means closed. */
    if (helper->fd >= 0 && poll(&wait, 1, 0) == 1)
        lose(helper);
    return helper->fd >= 0;
}

const char *helper_error(const struct helper *helper)
{
    return helper->error;
}

/* ---- a request ------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static bool fail(struct helper *helper,
                                                       const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(helper->error, sizeof(helper->error), fmt, args);
    va_end(args);
    return false;
}

static bool send_request(struct helper *helper, const struct helper_request *request)
{
    struct wire_request head = { request->command, request->number,
                                 (uint32_t)request->count };
    char *packet = malloc(WIRE_REQUEST_MAX);
    size_t len = sizeof(head);
    if (!packet)
        return fail(helper, "out of memory");
    memcpy(packet, &head, sizeof(head));
    for (size_t i = 0; i < request->count; i++) {
        size_t size = strlen(request->items[i]) + 1;
        if (len + size > WIRE_REQUEST_MAX) {
            free(packet);
            return fail(helper, "queue helper: request too long");
        }
        memcpy(packet + len, request->items[i], size);
        len += size;
    }
    ssize_t sent = send(helper->fd, packet, len, MSG_NOSIGNAL);
    free(packet);
    if (sent == (ssize_t)len)
        return true;
    lose(helper);
    return fail(helper, "the queue helper has died: restart sluice-policyd");
}

static bool add_to_line(struct helper *helper, const char *text, size_t len)
{
    if (helper->line_len + len > HELPER_LINE_MAX)
        return false;
    if (helper->line_len + len > helper->line_size) {
        size_t size = helper->line_size ? helper->line_size : 4096;
        while (size < helper->line_len + len)
            size *= 2;
        char *line = realloc(helper->line, size);
        if (!line)
            return false;
        helper->line = line;
        helper->line_size = size;
    }
    memcpy(helper->line + helper->line_len, text, len);
    helper->line_len += len;
    return true;
}

/* Hands complete lines on, keeps the rest. false: a line without end. */
static bool take_output(struct helper *helper, const struct helper_request *request,
                        const char *text, size_t len)
{
    while (len > 0) {
        const char *end = memchr(text, '\n', len);
        size_t part = end ? (size_t)(end - text) : len;
        if (!add_to_line(helper, text, part))
            return false;
        if (!end)
            return true;
        if (request->line)
            request->line(request->context, helper->line, helper->line_len);
        helper->line_len = 0;
        text += part + 1;
        len -= part + 1;
    }
    return true;
}

static void take_error(struct helper *helper, const char *text, size_t len)
{
    size_t have = strlen(helper->error);
    for (size_t i = 0; i < len && have + 3 < sizeof(helper->error); i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') {
            if (i + 1 < len) {
                helper->error[have++] = ';';
                helper->error[have++] = ' ';
            }
        } else {
            helper->error[have++] = c < ' ' || c > 126 ? '?' : (char)c;
        }
    }
    helper->error[have] = '\0';
}

enum step { STEP_MORE, STEP_DONE, STEP_FAILED };

static enum step take_packet(struct helper *helper, struct helper_request *request,
                             const char *packet, size_t len)
{
    switch (packet[0]) {
    case WIRE_OUTPUT:
        if (take_output(helper, request, packet + 1, len - 1))
            return STEP_MORE;
        lose(helper);
        fail(helper, "queue helper: a line of output longer than %d bytes",
             HELPER_LINE_MAX);
        return STEP_FAILED;
    case WIRE_ERROR:
        take_error(helper, packet + 1, len - 1);
        return STEP_MORE;
    case WIRE_EXIT: {
        char digits[16] = "";
        memcpy(digits, packet + 1, len - 1 < 15 ? len - 1 : 15);
        request->exit_status = atoi(digits);
        return STEP_DONE;
    }
    case WIRE_REFUSED:
        helper->error[0] = '\0';
        take_error(helper, packet + 1, len - 1);
        return STEP_FAILED;
    }
    lose(helper);
    fail(helper, "queue helper: answer not understood");
    return STEP_FAILED;
}

/* Waits for the next packet. 0: the helper is lost (the error is set). */
static size_t receive(struct helper *helper, struct helper_request *request,
                      int64_t until, char packet[WIRE_ANSWER_MAX])
{
    int64_t beat = clock_ms() + 1000;
    for (;;) {
        struct pollfd wait = { .fd = helper->fd, .events = POLLIN };
        int ready = poll(&wait, 1, 250);
        if (ready > 0) {
            ssize_t got = recv(helper->fd, packet, WIRE_ANSWER_MAX, 0);
            if (got > 0)
                return (size_t)got;
            lose(helper);
            fail(helper, "the queue helper has died: restart sluice-policyd");
            return 0;
        }
        bool late = clock_ms() > until;
        if (late || (ready < 0 && errno != EINTR)) {
            lose(helper);
            fail(helper, "the queue helper does not answer: restart sluice-policyd");
            return 0;
        }
        if (request->idle && clock_ms() >= beat) {
            beat = clock_ms() + 1000;
            if (!request->idle(request->idle_context)) {
                lose(helper);
                fail(helper, "given up: policyd ends");
                return 0;
            }
        }
    }
}

static bool read_answer(struct helper *helper, struct helper_request *request)
{
    char packet[WIRE_ANSWER_MAX];
    int seconds = helper_command_seconds(request->command, request->count);
    int64_t until = clock_ms() + ((int64_t)seconds + WAIT_MORE_S) * 1000;
    int64_t beat = clock_ms() + 1000;
    for (;;) {
        size_t len = receive(helper, request, until, packet);
        if (len == 0)
            return false;
        enum step step = take_packet(helper, request, packet, len);
        if (step != STEP_MORE)
            return step == STEP_DONE;
        /* A long listing keeps packets coming: the caller still gets its turn. */
        if (request->idle && clock_ms() >= beat) {
            beat = clock_ms() + 1000;
            (void)request->idle(request->idle_context);
        }
    }
}

bool helper_run(struct helper *helper, struct helper_request *request)
{
    helper->error[0] = '\0';
    helper->line_len = 0;
    request->exit_status = -1;
    if (helper->pid == 0)
        return fail(helper, "sluice-policyd was not started as root: it has no queue "
                            "helper and runs no queue commands");
    if (helper->fd < 0)
        return fail(helper, "the queue helper has died: restart sluice-policyd");
    if (!helper_request_valid(request->command, request->items, request->count))
        return fail(helper, "queue helper: request refused before it was sent");
    if (!send_request(helper, request) || !read_answer(helper, request))
        return false;
    if (helper->line_len > 0 && request->line)
        request->line(request->context, helper->line, helper->line_len);
    return true;
}
