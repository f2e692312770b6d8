/* Tells helgrind which of Rust's locks and atomics order what: it knows pthread's, and the standard library has its own (futexes).
 *
 * Loaded into the program by LD_PRELOAD (tests/valgrind/run builds it). In a program that is not optimised these
 * functions are there as such, one for each type, with a layout that does not depend on the type; valgrind calls the
 * wrappers below instead. Without them every access under a Mutex looks like a race.
 *
 *   Mutex::lock            what was done under the lock before comes before this
 *   MutexGuard::drop       the other side of it
 *   Arc::drop, drop_slow   what each owner did comes before the end of the value
 *   Condvar::wait          gives the lock up and takes it again
 *   OnceLock::get_or_init  what the first one did comes before what all others do
 *
 *   atomics                what comes before a releasing store or exchange comes before what follows an acquiring load
 *                          or exchange (the other operations are compiled in place, and order nothing here)
 */
#include <valgrind/helgrind.h>
#include <valgrind/valgrind.h>

/* In these names Za is any text, Zu is _, Zd a point, ZD a dollar. */
#define LOCK Zapoison5mutexZa4lock17hZa
#define UNLOCK ZaMutexGuardZa4drop17hZa
#define ARC_DROP ZaZDLTZDallocZdZdsyncZdZdArcZDLTZaopsZdZddropZdZdDropZDGTZD4drop17hZa
#define ARC_END ZaArcZa9dropZuslow17hZa
#define WAIT ZapoisonZaCondvar4wait17hZa
#define WAIT_FOR ZapoisonZaCondvar12waitZutimeout17hZa
#define ONCE ZaonceZulockZaOnceLockZagetZuorZuinit17hZa
#define ONCE_MADE ZaonceZulockZaOnceLockZa10initialize28ZaclosureZa17hZa

/* LockResult<MutexGuard<T>> Mutex::lock(&self): the result is written to where the first argument points. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, LOCK)(void *result, void *mutex)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WW(returned, original, result, mutex);
    ANNOTATE_HAPPENS_AFTER(mutex);
    return returned;
}

/* MutexGuard::drop(&mut self): the guard's first word is the mutex. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, UNLOCK)(void **guard)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    ANNOTATE_HAPPENS_BEFORE(*guard);
    CALL_FN_W_W(returned, original, guard);
    return returned;
}

/* Arc::drop(&mut self), and what the last owner calls. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, ARC_DROP)(void **arc)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    ANNOTATE_HAPPENS_BEFORE(*arc);
    CALL_FN_W_W(returned, original, arc);
    return returned;
}

void *I_WRAP_SONAME_FNNAME_ZZ(NONE, ARC_END)(void **arc)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    ANNOTATE_HAPPENS_AFTER(*arc);
    CALL_FN_W_W(returned, original, arc);
    return returned;
}

/* LockResult<MutexGuard<T>> Condvar::wait(&self, MutexGuard): the guard is two words, the first one the mutex. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, WAIT)(void *result, void *condvar, void *mutex, void *poison)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    ANNOTATE_HAPPENS_BEFORE(mutex);
    CALL_FN_W_WWWW(returned, original, result, condvar, mutex, poison);
    ANNOTATE_HAPPENS_AFTER(mutex);
    return returned;
}

/* The same with a duration, which is two words. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, WAIT_FOR)(void *result, void *condvar, void *mutex, void *poison, void *seconds,
                                              void *nanos)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    ANNOTATE_HAPPENS_BEFORE(mutex);
    CALL_FN_W_6W(returned, original, result, condvar, mutex, poison, seconds, nanos);
    ANNOTATE_HAPPENS_AFTER(mutex);
    return returned;
}

/* core::sync::atomic's functions: the address, values, and the ordering as a byte. */
enum ordering { RELAXED, RELEASE, ACQUIRE, ACQUIRE_AND_RELEASE, SEQUENTIAL };
static void before(unsigned char order, void *atomic)
{
    if (order != RELAXED && order != ACQUIRE)
        ANNOTATE_HAPPENS_BEFORE(atomic);
}
static void after(unsigned char order, void *atomic)
{
    if (order != RELAXED && order != RELEASE)
        ANNOTATE_HAPPENS_AFTER(atomic);
}

void *I_WRAP_SONAME_FNNAME_ZZ(NONE, Za4core4sync6atomicZaatomicZuload17hZa)(void *atomic, void *order)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WW(returned, original, atomic, order);
    after((unsigned long)order, atomic);
    return returned;
}

void *I_WRAP_SONAME_FNNAME_ZZ(NONE, Za4core4sync6atomicZaatomicZustore17hZa)(void *atomic, void *value, void *order)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    before((unsigned long)order, atomic);
    CALL_FN_W_WWW(returned, original, atomic, value, order);
    return returned;
}

/* Result<T, T> comes back in two registers, and CALL_FN knows one. */
struct pair {
    unsigned long rax, rdx;
};
#define EXCHANGE(name) \
    struct pair I_WRAP_SONAME_FNNAME_ZZ(NONE, name)(void *atomic, void *old, void *new, void *order, void *otherwise) \
    { \
        OrigFn original; \
        struct pair returned; \
        VALGRIND_GET_ORIG_FN(original); \
        before((unsigned long)order, atomic); \
        CALL_FN_W_5W(returned.rax, original, atomic, old, new, order, otherwise); \
        __asm__ volatile("mov %%rdx, %0" : "=r"(returned.rdx)); \
        after((unsigned long)order, atomic); \
        return returned; \
    }
EXCHANGE(Za4core4sync6atomicZaatomicZucompareZuexchange17hZa)
EXCHANGE(Za4core4sync6atomicZaatomicZucompareZuexchangeZuweak17hZa)

/* One token for every OnceLock: the closure that makes the value does not tell which one it is for. */
static int made;

/* &T OnceLock::get_or_init(&self, closure): the closure is up to three words. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, ONCE)(void *once, void *a, void *b, void *c)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WWWW(returned, original, once, a, b, c);
    ANNOTATE_HAPPENS_AFTER(&made);
    return returned;
}

/* The closure that makes it and puts it in place, before those who wait are woken. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, ONCE_MADE)(void *closure, void *state)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WW(returned, original, closure, state);
    ANNOTATE_HAPPENS_BEFORE(&made);
    return returned;
}
