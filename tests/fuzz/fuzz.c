/* See fuzz.h. */
#include <stdio.h>
#include <stdlib.h>

void fuzz_failed(const char *file, int line, const char *what);
int LLVMFuzzerInitialize(int *argc, char ***argv);
void (*fuzz_explain)(void);

void fuzz_failed(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    if (fuzz_explain)
        fuzz_explain();
    abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    return setenv("CMOCKA_TEST_ABORT", "1", 1);
}
