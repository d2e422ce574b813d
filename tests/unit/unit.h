/*
 * unit: what the CUnit tests share. Each test program is one suite; its main()
 * is UNIT_MAIN(name, { "case", function }, ...). A failed check prints what was
 * expected and what came.
 */
#ifndef SLUICE_TESTS_UNIT_H
#define SLUICE_TESTS_UNIT_H

#include <CUnit/Basic.h>
#include <stdio.h>
#include <string.h>

#define CHECK_STR(what, got, want)                                            \
    do {                                                                      \
        const char *unit_got = (got), *unit_want = (want);                    \
        int unit_same = unit_got && strcmp(unit_got, unit_want) == 0;         \
        if (!unit_same)                                                       \
            printf("\n  %s: expected \"%s\", got \"%s\"\n", (what), unit_want, \
                   unit_got ? unit_got : "(null)");                           \
        CU_ASSERT(unit_same);                                                 \
    } while (0)

#define CHECK_INT(what, got, want)                                            \
    do {                                                                      \
        long long unit_got = (long long)(got), unit_want = (long long)(want); \
        if (unit_got != unit_want)                                            \
            printf("\n  %s: expected %lld, got %lld\n", (what), unit_want,    \
                   unit_got);                                                 \
        CU_ASSERT(unit_got == unit_want);                                     \
    } while (0)

struct unit_case {
    const char *name;
    void (*run)(void);
};

static inline int unit_run(const char *suite_name, const struct unit_case *cases,
                           size_t n)
{
    if (CU_initialize_registry() != CUE_SUCCESS)
        return 2;
    CU_pSuite suite = CU_add_suite(suite_name, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        CU_add_test(suite, cases[i].name, cases[i].run);
    CU_basic_set_mode(CU_BRM_VERBOSE);
    CU_basic_run_tests();
    int failed = (int)CU_get_number_of_failures();
    CU_cleanup_registry();
    return failed ? 1 : 0;
}

#define UNIT_MAIN(suite, ...)                                                 \
    int main(void)                                                            \
    {                                                                         \
        static const struct unit_case cases[] = { __VA_ARGS__ };              \
        return unit_run(suite, cases, sizeof(cases) / sizeof(cases[0]));      \
    }

#endif
