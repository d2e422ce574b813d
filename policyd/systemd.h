/*
 * systemd: sd_notify and socket activation; without libsystemd, nothing of it.
 */
#ifndef SLUICE_POLICYD_SYSTEMD_H
#define SLUICE_POLICYD_SYSTEMD_H

#include <stdint.h>

/* The listening socket that the service manager passed under this name
 * (FileDescriptorName=), non-blocking. -1: none. */
int systemd_socket(const char *name);

void systemd_ready(void);
void systemd_reloading(void);
void systemd_stopping(void);
void systemd_alive(void);
/* Microseconds within which systemd_alive() is expected; 0: never. */
uint64_t systemd_watchdog(void);

#endif
