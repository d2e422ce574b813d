/*
 * dmarc_align: see dmarc_align.h. Judged here and not by libopendmarc 1.4.2,
 * which does not enforce adkim=s and aspf=s where From is the organisational
 * domain and the identifier below it, aligns d=com with every From below com, and
 * misses the wildcard rules of the suffix list (*.mm, *.kobe.jp).
 */
#include <string.h>

#include "dmarc_align.h"

/* RFC 9989 4.10 step 4: from a longer name the walk goes on at seven labels. */
#define LABELS_AFTER_FIRST 7

bool dmarc_aligned(bool strict, const char *author, const char *author_organisation,
                   const char *identifier, const char *identifier_organisation)
{
    if (strcmp(author, identifier) == 0)
        return true;
    return !strict && strcmp(author_organisation, identifier_organisation) == 0;
}

bool dmarc_is_within(const char *name, const char *domain)
{
    size_t name_len = strlen(name), len = strlen(domain);

    return name_len >= len && strcmp(name + name_len - len, domain) == 0 &&
           (name_len == len || name[name_len - len - 1] == '.');
}

bool dmarc_aligned_by_list(const struct suffixes *suffixes, bool strict,
                           const char *author, const char *author_organisation,
                           const char *identifier)
{
    char own[ADDR_DOMAIN_MAX + 1];

    if (strict || strcmp(author, identifier) == 0)
        return strcmp(author, identifier) == 0;
    /* An organisational domain is the name itself or above it, and its own. */
    if (!dmarc_is_within(identifier, author_organisation))
        return false;
    if (strcmp(identifier, author_organisation) == 0)
        return true;
    suffixes_organisation(suffixes, identifier, own);
    return dmarc_aligned(false, author, author_organisation, identifier, own);
}

/* The last labels of a name: as many as count, or all. */
static const char *last_labels(const char *name, size_t count)
{
    const char *start = name + strlen(name);

    while (start > name) {
        if (start[-1] == '.' && --count == 0)
            break;
        start--;
    }
    return start;
}

size_t dmarc_tree_names(const char *domain, const char *names[DMARC_TREE_MAX])
{
    size_t count = 1;

    names[0] = domain;
    /* Seven labels of a longer name; of a shorter one all but the first. */
    const char *name = last_labels(domain, LABELS_AFTER_FIRST);
    if (name == domain) {
        const char *dot = strchr(domain, '.');
        name = dot ? dot + 1 : NULL;
    }
    while (name && count < DMARC_TREE_MAX) {
        names[count++] = name;
        const char *dot = strchr(name, '.');
        name = dot ? dot + 1 : NULL;
    }
    return count;
}

bool dmarc_tree_ends(const struct dmarc_step *step)
{
    return step->kind == DMARC_STEP_FAILED ||
           (step->kind == DMARC_STEP_RECORD && step->psd != DMARC_PSD_UNSAID);
}

/* The name with one label more on its left, of those domain has. */
static const char *one_below(const char *domain, const char *name)
{
    const char *start = name - 1; /* the dot */

    while (start > domain && start[-1] != '.')
        start--;
    return start;
}

const char *dmarc_tree_organisation(const char *domain, const struct dmarc_step *steps,
                                    size_t count)
{
    const char *shortest = domain;

    for (size_t i = 0; i < count; i++) {
        const struct dmarc_step *step = &steps[i];
        if (step->kind == DMARC_STEP_FAILED)
            return NULL;
        if (step->kind == DMARC_STEP_ABSENT)
            continue;
        if (step->psd == DMARC_PSD_YES && step->name != domain)
            return one_below(domain, step->name);
        shortest = step->name;
        if (step->psd != DMARC_PSD_UNSAID)
            break;
    }
    return shortest;
}
