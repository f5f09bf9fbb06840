/*
 * The harness. A suite is some TEST()s; the kernel runs all, or those named by test=A,B on its command line, prints
 *     run NAME / ok NAME / skip NAME: why / FAIL NAME: file:line: what, got X, expected Y
 * and at the end PVTEST N passed, N failed, and powers off. A failed check does not end its test.
 */
#ifndef GUEST_TEST_H
#define GUEST_TEST_H

#include "abi.h"
#include "console.h"
#include "traps.h"

struct test {
    const char *name;
    void (*run)(void);
};

#define TEST(name_)                                                                   \
    static void test_##name_(void);                                                   \
    static const struct test def_##name_ = { #name_, test_##name_ };                  \
    static const struct test *const ref_##name_                                       \
        __attribute__((section(".tests"), used)) = &def_##name_;                      \
    static void test_##name_(void)

void test_failed(const char *file, int line, const char *what);
void test_unequal(const char *file, int line, const char *what, u64 got, u64 expected);
void test_wrong_fault(const char *file, int line, const char *what, int expected);
void test_skip(const char *why);
bool test_has_failed(void);

#define HERE __FILE_NAME__, __LINE__
#define CHECK(cond) ((cond) ? true : (test_failed(HERE, #cond), false))
#define CHECK_EQ(got_, expected_) ({                            \
    u64 got__ = (u64)(got_), expected__ = (u64)(expected_);     \
    if (got__ != expected__)                                    \
        test_unequal(HERE, #got_, got__, expected__);           \
    got__ == expected__;                                        \
})
/* The call must return an error; which one is left open. */
#define CHECK_REFUSED(call) ({                                  \
    long got__ = (call);                                        \
    if (got__ >= 0)                                             \
        test_unequal(HERE, #call " refused", (u64)got__, (u64)-1); \
    got__ < 0;                                                  \
})
#define CHECK_OK(call) CHECK_EQ((long)(call), 0L)
#define REQUIRE(cond) do { if (!CHECK(cond)) return; } while (0)
#define REQUIRE_OK(call) do { if (!CHECK_OK(call)) return; } while (0)
#define SKIP(why) do { test_skip(why); return; } while (0)

/* The statement must raise this vector. last_fault then describes it. */
#define CHECK_FAULT(vector_, ...) ({                            \
    (void)FAULT_IN(__VA_ARGS__);                                \
    bool ok__ = last_fault.hit && last_fault.vector == (vector_); \
    if (!ok__)                                                  \
        test_wrong_fault(HERE, #__VA_ARGS__, (vector_));        \
    ok__;                                                       \
})
#define CHECK_NO_FAULT(...) ({                                  \
    (void)FAULT_IN(__VA_ARGS__);                                \
    if (last_fault.hit)                                         \
        test_wrong_fault(HERE, #__VA_ARGS__, -1);               \
    !last_fault.hit;                                            \
})

/* The value of a NAME=VALUE word of the command line, up to the next space; NULL if absent. */
const char *cmdline_value(const char *name);
bool cmdline_is(const char *name, const char *value);

/* Same sequence in every run. */
u64 random_u64(void);

#endif
