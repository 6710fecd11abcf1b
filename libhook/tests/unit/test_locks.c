/* The checker of lock order, which ends a program: each case in a child. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "futex_lock.h"
#include "locks.h"
#include "log.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ph_mutex reader = PH_MUTEX(READER), timeline = PH_MUTEX(TIMELINE), allocations = PH_MUTEX(ALLOCATIONS);
static struct ph_futex_lock batch;

/* How a child ends that does it: its signal, or 0. */
static int ends(void (*act)(void)) {
    pid_t child = fork();
    if (child == 0) {
        ph_log_level = -1;
        act();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void in_order(void) {
    ph_mutex_lock(&reader);
    ph_futex_lock_acquire(&batch);
    ph_driver_use(PH_ASKS);
    ph_mutex_lock(&timeline);
    ph_mutex_unlock(&timeline);
    ph_mutex_unlock(&reader); /* given back in any order */
    ph_driver_use(PH_WAITS);  /* the batch lock alone is held */
    ph_futex_lock_release(&batch);
    ph_driver_use(PH_LOADS);
}
static void out_of_order(void) {
    ph_mutex_lock(&timeline);
    ph_mutex_lock(&reader);
}
static void twice(void) {
    ph_futex_lock_acquire(&batch);
    ph_futex_lock_acquire(&(struct ph_futex_lock){ 0 });
}
static void tried_out_of_order(void) {
    ph_mutex_lock(&timeline);
    if (!ph_mutex_try(&reader)) _exit(1);
    ph_mutex_unlock(&reader);
    ph_mutex_unlock(&timeline);
}
static void not_held(void) { ph_mutex_unlock(&allocations); }
static void asks_under_the_allocations(void) {
    ph_mutex_lock(&allocations);
    ph_driver_use(PH_ASKS);
}
static void waits_under_the_reader(void) {
    ph_mutex_lock(&reader);
    ph_driver_use(PH_WAITS);
}
static void loads_under_a_batch_lock(void) {
    ph_futex_lock_acquire(&batch);
    ph_driver_use(PH_LOADS);
}
static void child_begins_with_none(void) {
    ph_mutex_lock(&allocations);
    ph_locks_after_fork();
    ph_mutex_after_fork(&allocations);
    ph_mutex_lock(&reader);
    ph_mutex_lock(&allocations);
}

static void what_keeps_the_order_goes_on(void **unused) {
    (void)unused;
    assert_int_equal(ends(in_order), 0);
    assert_int_equal(ends(tried_out_of_order), 0);
    assert_int_equal(ends(child_begins_with_none), 0);
}

static void what_breaks_the_order_ends(void **unused) {
    (void)unused;
    assert_int_equal(ends(out_of_order), SIGABRT);
    assert_int_equal(ends(twice), SIGABRT);
    assert_int_equal(ends(not_held), SIGABRT);
}

static void a_driver_asked_under_the_wrong_lock_ends(void **unused) {
    (void)unused;
    assert_int_equal(ends(asks_under_the_allocations), SIGABRT);
    assert_int_equal(ends(waits_under_the_reader), SIGABRT);
    assert_int_equal(ends(loads_under_a_batch_lock), SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_keeps_the_order_goes_on),
        cmocka_unit_test(what_breaks_the_order_ends),
        cmocka_unit_test(a_driver_asked_under_the_wrong_lock_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
