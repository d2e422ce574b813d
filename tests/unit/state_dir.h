/*
 * state_dir: a private directory for tests of what keeps something on the disk;
 * made when first asked for, removed with its content when the program ends.
 */
#ifndef SLUICE_TESTS_STATE_DIR_H
#define SLUICE_TESTS_STATE_DIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

static char state_dir_path[64];

static inline int state_dir_remove_one(const char *path, const struct stat *st, int type,
                                       struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

/* Removes the directory; the next state_dir() makes an empty one. */
static inline void state_dir_clear(void)
{
    if (state_dir_path[0])
        (void)nftw(state_dir_path, state_dir_remove_one, 8, FTW_DEPTH | FTW_PHYS);
    state_dir_path[0] = '\0';
}

static inline const char *state_dir(void)
{
    static int registered;
    if (!registered)
        registered = atexit(state_dir_clear) == 0;
    if (!state_dir_path[0]) {
        snprintf(state_dir_path, sizeof(state_dir_path), "/tmp/sluice-state.XXXXXX");
        if (!mkdtemp(state_dir_path))
            abort();
    }
    return state_dir_path;
}

#endif
