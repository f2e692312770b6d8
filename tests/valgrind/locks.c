/* Tells helgrind which of Rust's locks order what: it knows pthread's, and the standard library has its own (futexes).
 *
 * Loaded into the program by LD_PRELOAD (tests/valgrind/run builds it). In a program that is not optimised these
 * functions are there as such, one for each type, with a layout that does not depend on the type; valgrind calls the
 * wrappers below instead. Without them every access under a Mutex looks like a race.
 *
 *   Mutex::lock            what was done under the lock before comes before this
 *   MutexGuard::drop       the other side of it
 *   Arc::drop, drop_slow   what each owner did comes before the end of the value
 *   OnceLock::get_or_init  what the first one did comes before what all others do
 *
 * Atomics order nothing here: what is published through one alone would be reported. Nothing of ours is.
 */
#include <valgrind/helgrind.h>
#include <valgrind/valgrind.h>

/* In these names Za is any text, Zu is _, Zd a point, ZD a dollar. */
#define LOCK Zapoison5mutexZa4lock17hZa
#define UNLOCK ZaMutexGuardZa4drop17hZa
#define ARC_DROP ZaZDLTZDallocZdZdsyncZdZdArcZDLTZaopsZdZddropZdZdDropZDGTZD4drop17hZa
#define ARC_END ZaArcZa9dropZuslow17hZa
#define ONCE ZaonceZulockZaOnceLockZagetZuorZuinit17hZa

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

/* &T OnceLock::get_or_init(&self, closure): the closure is up to three words. */
void *I_WRAP_SONAME_FNNAME_ZZ(NONE, ONCE)(void *once, void *a, void *b, void *c)
{
    OrigFn original;
    void *returned;
    VALGRIND_GET_ORIG_FN(original);
    CALL_FN_W_WWWW(returned, original, once, a, b, c);
    ANNOTATE_HAPPENS_AFTER(once);
    ANNOTATE_HAPPENS_BEFORE(once);
    return returned;
}
