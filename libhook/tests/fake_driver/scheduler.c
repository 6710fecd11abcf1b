/* Who is served when, and how virtual time goes on. */
#include "machine.h"

#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

bool fg_active(const struct context *c) { return c->pid != 0 && c->busy_until > c->served; }

static void starts_run(struct context *c, int64_t time) {
    c->point[c->points++ % FG_POINTS] = (struct point){ c->served, time };
}

void fg_choose(int device, int64_t time) {
    struct device *d = &fg_shared->device[device];
    int first = d->current < 0 ? 0 : d->current;
    for (int i = 1; i <= fg_shared->context_high; i++) {
        int at = (first + i) % fg_shared->context_high;
        struct context *c = &fg_shared->context[at];
        if (c->device != device || !fg_active(c)) continue;
        if (at != d->current) starts_run(c, time);
        d->current = at;
        d->slice_end = time + fg_settings()->slice_ns;
        return;
    }
    d->current = -1;
}

static void serve(int device, int64_t from, int64_t to) {
    struct device *d = &fg_shared->device[device];
    while (d->current >= 0 && from < to) {
        struct context *c = &fg_shared->context[d->current];
        int64_t step = to - from;
        if (c->busy_until - c->served < step) step = c->busy_until - c->served;
        if (d->slice_end - from < step) step = d->slice_end - from;
        if (step > 0 && fg_active(c)) {
            c->served += step;
            d->busy += step;
            struct process *p = fg_process_of(c->pid);
            if (p) p->busy[device] += step;
            from += step;
        }
        if (!fg_active(c) || from >= d->slice_end) fg_choose(device, from);
    }
}

/* When the next thing happens that somebody waits for, or a context ends its slice or its work. */
static int64_t next_event(void) {
    int64_t next = INT64_MAX;
    for (int i = 0; i < fg_shared->thread_high; i++) {
        const struct thread *t = &fg_shared->thread[i];
        if (t->state == FG_WAITS_TIME && t->until < next) next = t->until;
        if (t->state != FG_WAITS_SERVICE) continue;
        const struct context *c = &fg_shared->context[t->context];
        if (fg_shared->device[c->device].current == t->context && fg_shared->now + t->until - c->served < next)
            next = fg_shared->now + t->until - c->served;
    }
    for (int i = 0; i < fg_settings()->device_count; i++) {
        const struct device *d = &fg_shared->device[i];
        if (d->current < 0) continue;
        const struct context *c = &fg_shared->context[d->current];
        int64_t end = fg_shared->now + c->busy_until - c->served;
        if (d->slice_end < end) end = d->slice_end;
        if (end < next) next = end;
    }
    return next;
}

void fg_pass_time(int64_t to) {
    for (int i = 0; i < fg_settings()->device_count; i++) serve(i, fg_shared->now, to);
    __atomic_store_n(&fg_shared->now, to, __ATOMIC_RELEASE);
}

static bool satisfied(const struct thread *t) {
    if (t->state == FG_WAITS_TIME) return t->until <= fg_shared->now;
    const struct context *c = &fg_shared->context[t->context];
    return c->pid == 0 || c->served >= t->until;
}

static int wake_satisfied(void) {
    int woken = 0;
    for (int i = 0; i < fg_shared->thread_high; i++) {
        struct thread *t = &fg_shared->thread[i];
        if ((t->state != FG_WAITS_TIME && t->state != FG_WAITS_SERVICE) || !satisfied(t)) continue;
        t->state = FG_RUNNING;
        woken++;
        if (t == fg_self) continue;
        __atomic_add_fetch(&t->wake, 1, __ATOMIC_SEQ_CST);
        syscall(SYS_futex, &t->wake, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
    return woken;
}

static bool anybody_running(void) {
    for (int i = 0; i < fg_shared->thread_high; i++)
        if (fg_shared->thread[i].state == FG_RUNNING) return true;
    return false;
}

/* With the lock held and what this thread waits for in `fg_self`; returns with the lock held once it is so. */
void fg_let_time_pass(void) {
    while (fg_self->state != FG_RUNNING) {
        if (!anybody_running()) {
            int64_t next = next_event();
            if (next != INT64_MAX) {
                if (next > fg_shared->now) fg_pass_time(next);
                if (wake_satisfied() == 0) continue;
                continue;
            }
        }
        uint32_t seen = __atomic_load_n(&fg_self->wake, __ATOMIC_SEQ_CST);
        fg_unlock();
        struct timespec patience = { .tv_nsec = 200000000 };
        long slept = syscall(SYS_futex, &fg_self->wake, FUTEX_WAIT, seen, &patience, NULL, 0);
        int why = errno;
        fg_lock();
        if (slept != 0 && why == ETIMEDOUT) fg_drop_dead();
    }
}

void fg_catch_up(void) { /* real time: serve until now */
    int64_t now = fg_machine_now();
    if (now > fg_shared->now) fg_pass_time(now);
}

int64_t fg_now(void) {
    fg_ready();
    return fg_virtual ? __atomic_load_n(&fg_shared->now, __ATOMIC_ACQUIRE) : fg_machine_now();
}

void fg_wait_until(int64_t when) {
    fg_ready();
    if (!fg_virtual) {
        int64_t now = fg_machine_now();
        if (when > now) fg_machine_sleep(when - now);
        return;
    }
    fg_lock();
    fg_take_part();
    if (when > fg_shared->now) {
        fg_self->state = FG_WAITS_TIME;
        fg_self->until = when;
        fg_let_time_pass();
    }
    fg_unlock();
}

/* Those who stay may now be the only ones: somebody has to move the clock. */
static void leave_clock_to_others(void) {
    if (anybody_running()) return;
    int64_t next = next_event();
    if (next == INT64_MAX) return;
    if (next > fg_shared->now) fg_pass_time(next);
    wake_satisfied();
}

void fg_step_aside(void) {
    fg_ready();
    if (!fg_virtual) return;
    fg_lock();
    fg_take_part()->state = FG_FREE;
    leave_clock_to_others();
    fg_unlock();
    fg_leave();
}

void fg_process_leaves(void) {
    fg_ready();
    if (!fg_virtual) return;
    fg_lock();
    for (int i = 0; i < fg_shared->thread_high; i++)
        if (fg_shared->thread[i].pid == getpid()) fg_shared->thread[i].state = FG_FREE;
    leave_clock_to_others();
    fg_unlock();
}

void fg_step_back(void) {
    fg_ready();
    if (!fg_virtual) return;
    fg_lock();
    fg_take_part();
    fg_unlock();
}

void fg_meet(int programs) {
    fg_step_back();
    uint32_t size = (uint32_t)programs, all = (__atomic_fetch_add(&fg_shared->met, 1, __ATOMIC_SEQ_CST) / size + 1) * size;
    while (__atomic_load_n(&fg_shared->met, __ATOMIC_SEQ_CST) < all) fg_machine_sleep(1000000);
}

