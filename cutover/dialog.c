/*
 * dialog: see dialog.h. The socket is non-blocking, each read and write waits by
 * poll(2) up to the deadline. The handshake is made in any case and the certificate
 * judged after it, so that a message can say what the certificate is good for.
 */
#include "dialog.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "conf_value.h"

struct dialog {
    int fd;
    int64_t end;
    char host[ADDR_DOMAIN_MAX + 1];
    SSL_CTX *context;
    SSL *ssl;
    char in[DIALOG_LINE_MAX];
    size_t in_len;
    char error[512]; /* a host and a text */
};

static bool fail(struct dialog *dialog, const char *what)
{
    (void)snprintf(dialog->error, sizeof(dialog->error), "%s: %.250s", dialog->host,
                   what);
    return false;
}

/* ---- connecting ------------------------------------------------------------ */

static bool ready(struct dialog *dialog, short events)
{
    struct pollfd poll_fd = { .fd = dialog->fd, .events = events };
    for (;;) {
        int64_t left = dialog->end - clock_ms();
        int n = left > 0 ? poll(&poll_fd, 1, (int)left) : 0;
        if (n > 0)
            return true;
        if (n == 0 || errno != EINTR) {
            errno = n == 0 ? ETIMEDOUT : errno;
            return false;
        }
    }
}

/* 0, or errno. */
static int connect_one(struct dialog *dialog, const struct addrinfo *at)
{
    int wrong = 0;
    socklen_t len = sizeof(wrong);
    dialog->fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (dialog->fd < 0)
        return errno;
    if (connect(dialog->fd, at->ai_addr, at->ai_addrlen) == 0)
        return 0;
    wrong = errno;
    if (wrong == EINPROGRESS)
        wrong = !ready(dialog, POLLOUT) ||
                        getsockopt(dialog->fd, SOL_SOCKET, SO_ERROR, &wrong, &len) != 0
                    ? errno
                : wrong == EINPROGRESS ? 0
                                       : wrong;
    if (wrong == 0)
        return 0;
    close(dialog->fd);
    dialog->fd = -1;
    return wrong;
}

enum dialog_open_result dialog_open(const char *endpoint, const char *to, int timeout_ms,
                                    struct dialog **out, char *error, size_t error_size)
{
    struct conf_host_port at;
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    char port[8];
    *out = NULL;
    const char *wrong = conf_host_port(endpoint, &at);
    if (wrong || at.port == 0) {
        (void)snprintf(error, error_size, "%s: %s", endpoint,
                       wrong ? wrong : "has no port: write it as HOST:PORT");
        return DIALOG_FAILED;
    }
    struct dialog *dialog = calloc(1, sizeof(*dialog));
    if (!dialog) {
        (void)snprintf(error, error_size, "out of memory");
        return DIALOG_FAILED;
    }
    dialog->fd = -1;
    dialog->end = clock_ms() + timeout_ms;
    memcpy(dialog->host, at.host, sizeof(dialog->host));
    (void)snprintf(port, sizeof(port), "%u", (unsigned)at.port);
    int code = getaddrinfo(to ? to : at.host, port, &hints, &found), last = 0;
    for (struct addrinfo *each = found; each && dialog->fd < 0; each = each->ai_next)
        last = connect_one(dialog, each);
    if (found)
        freeaddrinfo(found);
    if (dialog->fd >= 0) {
        *out = dialog;
        return DIALOG_OPEN;
    }
    (void)snprintf(error, error_size, "%s%s%s: %s", endpoint, to ? " at " : "",
                   to ? to : "", code != 0 ? gai_strerror(code) : strerror(last));
    free(dialog);
    return code == 0 && last == ECONNREFUSED ? DIALOG_REFUSED : DIALOG_FAILED;
}

void dialog_close(struct dialog *dialog)
{
    if (!dialog)
        return;
    SSL_free(dialog->ssl);
    SSL_CTX_free(dialog->context);
    close(dialog->fd);
    free(dialog);
}

const char *dialog_error(const struct dialog *dialog)
{
    return dialog->error;
}

/* ---- TLS -------------------------------------------------------------------- */

/* Whether a call of OpenSSL is to be repeated, after waiting. */
static bool again(struct dialog *dialog, int result)
{
    int why = SSL_get_error(dialog->ssl, result);
    if (why == SSL_ERROR_WANT_READ)
        return ready(dialog, POLLIN);
    return why == SSL_ERROR_WANT_WRITE && ready(dialog, POLLOUT);
}

/* The names that the certificate has, for a message. */
static void names_of(X509 *certificate, char *out, size_t size)
{
    GENERAL_NAMES *names =
        X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;
    out[0] = '\0';
    for (int i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_DNS)
            continue;
        int n = snprintf(out + used, size - used, "%s%.*s", used ? ", " : "",
                         ASN1_STRING_length(name->d.dNSName),
                         (const char *)ASN1_STRING_get0_data(name->d.dNSName));
        if (n < 0 || (size_t)n >= size - used)
            break;
        used += (size_t)n;
    }
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e)
            *c = '?';
    GENERAL_NAMES_free(names);
}

static bool judge_certificate(struct dialog *dialog)
{
    char text[400], names[160];
    long verify = SSL_get_verify_result(dialog->ssl);
    X509 *certificate = SSL_get1_peer_certificate(dialog->ssl);
    if (!certificate)
        return fail(dialog, "shows no certificate");
    names_of(certificate, names, sizeof(names));
    X509_free(certificate);
    if (verify == X509_V_OK)
        return true;
    if (verify == X509_V_ERR_HOSTNAME_MISMATCH ||
        verify == X509_V_ERR_IP_ADDRESS_MISMATCH)
        (void)snprintf(text, sizeof(text), "its certificate is for other names: %s",
                       names[0] ? names : "(none)");
    else
        (void)snprintf(text, sizeof(text), "its certificate is not good: %s",
                       X509_verify_cert_error_string(verify));
    return fail(dialog, text);
}

static bool set_up(struct dialog *dialog, const char *ca)
{
    X509_VERIFY_PARAM *parameters;
    dialog->context = SSL_CTX_new(TLS_client_method());
    if (!dialog->context || SSL_CTX_set_default_verify_paths(dialog->context) != 1)
        return fail(dialog, "TLS cannot be used here");
    if (ca && SSL_CTX_load_verify_file(dialog->context, ca) != 1) {
        (void)snprintf(dialog->error, sizeof(dialog->error),
                       "%.300s: no certificates in it (PEM) can be read", ca);
        return false;
    }
    SSL_CTX_set_verify(dialog->context, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_min_proto_version(dialog->context, TLS1_2_VERSION);
    dialog->ssl = SSL_new(dialog->context);
    if (!dialog->ssl || SSL_set_fd(dialog->ssl, dialog->fd) != 1)
        return fail(dialog, "TLS cannot be used here");
    parameters = SSL_get0_param(dialog->ssl);
    bool named = conf_is_address(dialog->host)
                     ? X509_VERIFY_PARAM_set1_ip_asc(parameters, dialog->host) == 1
                     : SSL_set1_host(dialog->ssl, dialog->host) == 1 &&
                           SSL_set_tlsext_host_name(dialog->ssl, dialog->host) == 1;
    return named || fail(dialog, "TLS cannot be used here");
}

bool dialog_tls(struct dialog *dialog, const char *ca)
{
    int result;
    if (dialog->in_len > 0)
        return fail(dialog, "sent text before TLS began"); /* an injection */
    if (!set_up(dialog, ca))
        return false;
    while ((result = SSL_connect(dialog->ssl)) != 1)
        if (!again(dialog, result))
            return fail(dialog, "does not speak TLS 1.2 or later");
    return judge_certificate(dialog);
}

int dialog_days(const struct dialog *dialog)
{
    int days = -1, seconds;
    X509 *certificate = dialog->ssl ? SSL_get1_peer_certificate(dialog->ssl) : NULL;
    if (certificate &&
        ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) != 1)
        days = -1;
    X509_free(certificate);
    return days;
}

/* ---- lines ------------------------------------------------------------------- */

static ssize_t put_some(struct dialog *dialog, const char *data, size_t len)
{
    for (;;) {
        int result = dialog->ssl ? SSL_write(dialog->ssl, data, (int)len)
                                 : (int)send(dialog->fd, data, len, MSG_NOSIGNAL);
        if (result > 0)
            return result;
        if (dialog->ssl ? !again(dialog, result)
                        : (errno != EAGAIN && errno != EINTR) || !ready(dialog, POLLOUT))
            return -1;
    }
}

static bool put_all(struct dialog *dialog, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = put_some(dialog, data, len);
        if (n <= 0)
            return fail(dialog, "the connection broke while sending");
        data += n;
        len -= (size_t)n;
    }
    return true;
}

bool dialog_send(struct dialog *dialog, const char *line)
{
    return put_all(dialog, line, strlen(line)) && put_all(dialog, "\r\n", 2);
}

static bool get_some(struct dialog *dialog)
{
    size_t room = sizeof(dialog->in) - dialog->in_len;
    char *to = dialog->in + dialog->in_len;
    if (room == 0)
        return fail(dialog, "sent a line that is too long");
    for (;;) {
        int result = dialog->ssl ? SSL_read(dialog->ssl, to, (int)room)
                                 : (int)recv(dialog->fd, to, room, 0);
        if (result > 0) {
            dialog->in_len += (size_t)result;
            return true;
        }
        if (result == 0 && !dialog->ssl)
            return fail(dialog, "closed the connection");
        if (dialog->ssl ? !again(dialog, result)
                        : (errno != EAGAIN && errno != EINTR) || !ready(dialog, POLLIN))
            return fail(dialog, "no answer in time");
    }
}

bool dialog_line(struct dialog *dialog, char out[DIALOG_LINE_MAX])
{
    const char *lf;
    while (!(lf = memchr(dialog->in, '\n', dialog->in_len)))
        if (!get_some(dialog))
            return false;
    size_t len = (size_t)(lf - dialog->in), used = len + 1;
    if (len > 0 && dialog->in[len - 1] == '\r')
        len--;
    memcpy(out, dialog->in, len);
    out[len] = '\0';
    dialog->in_len -= used;
    memmove(dialog->in, dialog->in + used, dialog->in_len);
    return true;
}

/* ---- the protocols -------------------------------------------------------------- */

int dialog_smtp(struct dialog *dialog, const char *command, char text[DIALOG_LINE_MAX])
{
    text[0] = '\0';
    if (command && !dialog_send(dialog, command))
        return 0;
    for (int lines = 0; lines < 128 && dialog_line(dialog, text); lines++) {
        if (strspn(text, "0123456789") < 3)
            break;
        if (text[3] != '-')
            return (text[0] - '0') * 100 + (text[1] - '0') * 10 + (text[2] - '0');
    }
    if (dialog->error[0] == '\0')
        fail(dialog, "does not answer as SMTP does");
    return 0;
}

bool dialog_imap(struct dialog *dialog, const char *command,
                 void (*each)(void *context, const char *line), void *context,
                 char text[DIALOG_LINE_MAX])
{
    char line[DIALOG_LINE_MAX + 8];
    int n = snprintf(line, sizeof(line), "a1 %s", command);
    if (n < 0 || (size_t)n >= sizeof(line) || !dialog_send(dialog, line)) {
        (void)snprintf(text, DIALOG_LINE_MAX, "%s", dialog->error);
        return false;
    }
    for (int lines = 0; lines < 100000 && dialog_line(dialog, text); lines++) {
        if (strncmp(text, "a1 ", 3) == 0)
            return strncmp(text + 3, "OK", 2) == 0;
        if (each)
            each(context, text);
    }
    (void)snprintf(text, DIALOG_LINE_MAX, "%s", dialog->error);
    return false;
}
