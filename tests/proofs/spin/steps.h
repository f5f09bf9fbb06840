/*
 * Steps that models share. Each is one access of a CPU's: atomic operations are locked instructions, which are whole steps on x86 and
 * empty the store buffer; loads and stores of a word are whole steps too.
 */
/* try_cmpxchg(): ok says whether it was done; if not, was becomes what there is. */
#define CMPXCHG(word, was, to) \
    atomic { if :: (word) == (was) -> word = to; ok = true :: else -> was = word; ok = false fi }
/* Ticket locks are fair and exclude; that a taking and a giving back are steps of their own is enough. */
#define LOCK(l)   atomic { !(l) -> l = true }
#define UNLOCK(l) atomic { assert(l); l = false }
