/*
 * conf_file: the files that a configuration is read from, used by conf.c alone.
 */
#ifndef SLUICE_CONF_FILE_H
#define SLUICE_CONF_FILE_H

#include <stdbool.h>
#include <stddef.h>

struct conf_mistake {
    int line;       /* 0: none */
    char text[512]; /* what is wrong, and the way out */
};

/* The text of sluice.conf, comments blanked, every quote closed on its line;
 * *len bytes, to be freed. NULL: mistake is set. */
char *conf_read_file(const char *path, size_t *len, struct conf_mistake *mistake);

/* The password in a file that only root, this process or user may read. */
char *conf_read_password(const char *path, const char *user,
                         struct conf_mistake *mistake);

#endif
