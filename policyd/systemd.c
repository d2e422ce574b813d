/*
 * systemd: what policyd says to and takes from the service manager. The
 * protocol is sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3); every
 * call is without effect when policyd was started by hand.
 */
#include "config.h"

#include "systemd.h"

#ifdef HAVE_SYSTEMD

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <systemd/sd-daemon.h>

int systemd_socket(const char *name)
{
    char **names = NULL;
    int found = -1;
    int n = sd_listen_fds_with_names(0, &names);
    for (int i = 0; i < n; i++) {
        int fd = SD_LISTEN_FDS_START + i;
        if (found < 0 && strcmp(names[i], name) == 0 &&
            sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) > 0 &&
            fcntl(fd, F_SETFL, O_NONBLOCK) == 0)
            found = fd;
        free(names[i]);
    }
    free(names);
    return found;
}

void systemd_ready(void)
{
    sd_notify(0, "READY=1");
}

void systemd_reloading(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64,
               (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000);
}

void systemd_stopping(void)
{
    sd_notify(0, "STOPPING=1");
}

void systemd_alive(void)
{
    sd_notify(0, "WATCHDOG=1");
}

uint64_t systemd_watchdog(void)
{
    uint64_t usec = 0;
    return sd_watchdog_enabled(0, &usec) > 0 ? usec : 0;
}

#else

int systemd_socket(const char *name)
{
    (void)name;
    return -1;
}

void systemd_ready(void)
{
}

void systemd_reloading(void)
{
}

void systemd_stopping(void)
{
}

void systemd_alive(void)
{
}

uint64_t systemd_watchdog(void)
{
    return 0;
}

#endif
