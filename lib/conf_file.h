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

/* The password in a file that only root, this process or user may read; key names
 * it in the mistake. To be wiped and freed. */
char *conf_read_password(const char *key, const char *path, const char *user,
                         struct conf_mistake *mistake);

/* The lines of such a file, NULL-terminated: at least one, empty lines left out.
 * Each of 8 to 1024 bytes, without control characters. */
#define CONF_SECRETS_MAX 16
char **conf_read_secrets(const char *key, const char *path, const char *user,
                         struct conf_mistake *mistake);
void conf_free_secret(char *secret);    /* wiped first; NULL is fine */
void conf_free_secrets(char **secrets); /* so too */

/* Whether path is a file that this process can read. */
bool conf_check_file(const char *key, const char *path, const char *user,
                     struct conf_mistake *mistake);

#endif
