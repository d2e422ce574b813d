/*
 * conf_host: the addresses of this host's interfaces, used by conf.c alone.
 */
#ifndef SLUICE_CONF_HOST_H
#define SLUICE_CONF_HOST_H

/* As address literals in canonical form ("[192.0.2.1]"), each once or more often,
 * NULL-terminated, malloc'ed one by one. NULL: out of memory. */
char **conf_host_literals(void);

#endif
