/* What the drivers ask of the GPUs: contexts, work, and how much of it has been done. */
#include "machine.h"

#include <unistd.h>

int fg_context_open(int device) {
    fg_ready();
    fg_lock();
    int found = -1;
    for (int round = 0; round < 2 && found < 0; round++) {
        for (int i = 0; i < FG_CONTEXTS && found < 0; i++)
            if (fg_shared->context[i].pid == 0) found = i;
        if (found < 0) fg_drop_dead();
    }
    if (found >= 0) {
        struct context *c = &fg_shared->context[found];
        c->pid = getpid();
        if (!fg_own_process) fg_own_process = fg_process_of(c->pid);
        c->device = device;
        c->served = c->busy_until = 0;
        c->points = 0;
        if (fg_shared->context_high <= found) fg_shared->context_high = found + 1;
    }
    fg_unlock();
    return found;
}

void fg_context_close(int context) {
    fg_lock();
    struct context *c = &fg_shared->context[context];
    c->pid = 0;
    if (fg_shared->device[c->device].current == context) fg_choose(c->device, fg_shared->now);
    fg_unlock();
}

int64_t fg_context_served(int context) {
    fg_lock();
    if (!fg_virtual) fg_catch_up();
    int64_t served = fg_shared->context[context].served;
    fg_unlock();
    return served;
}

int64_t fg_submit(int context, int64_t after, int64_t ns) {
    if (fg_virtual && fg_settings()->call_ns > 0) fg_wait_until(fg_now() + fg_settings()->call_ns);
    fg_lock();
    if (fg_virtual) fg_take_part();
    else fg_catch_up();
    struct context *c = &fg_shared->context[context];
    struct device *d = &fg_shared->device[c->device];
    int64_t start = after > c->served ? after : c->served, end = start + ns;
    if (end > c->busy_until) c->busy_until = end;
    if (d->current < 0) fg_choose(c->device, fg_shared->now);
    fg_unlock();
    return end;
}

void fg_wait_served(int context, int64_t until) {
    fg_lock();
    struct context *c = &fg_shared->context[context];
    if (fg_virtual) {
        fg_take_part();
        if (c->served < until) {
            fg_self->state = FG_WAITS_SERVICE;
            fg_self->context = context;
            fg_self->until = until;
            fg_let_time_pass();
        }
        fg_unlock();
        return;
    }
    fg_catch_up();
    while (c->pid && c->served < until) {
        int64_t wait = until - c->served;
        fg_unlock();
        fg_machine_sleep(wait < 1000000 ? wait : 1000000);
        fg_lock();
        fg_catch_up();
    }
    fg_unlock();
}

int64_t fg_time_of(int context, int64_t target, int64_t not_before) {
    fg_lock();
    const struct context *c = &fg_shared->context[context];
    int64_t time = not_before;
    uint64_t oldest = c->points > FG_POINTS ? c->points - FG_POINTS : 0;
    for (uint64_t i = c->points; i > oldest; i--) {
        const struct point *p = &c->point[(i - 1) % FG_POINTS];
        if (p->served >= target) continue; /* the work ended in an earlier run, or there was none to wait for */
        time = p->time + (target - p->served);
        break;
    }
    fg_unlock();
    return time > not_before ? time : not_before;
}

int64_t fg_device_busy(int device) {
    fg_ready();
    fg_lock();
    if (!fg_virtual) fg_catch_up();
    int64_t busy = fg_shared->device[device].busy;
    fg_unlock();
    return busy;
}

int64_t fg_process_busy(int device, int pid) {
    fg_ready();
    fg_lock();
    if (!fg_virtual) fg_catch_up();
    int64_t busy = 0;
    for (int i = 0; i < fg_shared->process_high; i++)
        if (fg_shared->process[i].pid == pid) busy = fg_shared->process[i].busy[device];
    fg_unlock();
    return busy;
}

static bool has_context(int device, int pid) {
    for (int i = 0; i < fg_shared->context_high; i++)
        if (fg_shared->context[i].pid == pid && fg_shared->context[i].device == device) return true;
    return false;
}

int fg_processes(int device, struct fg_use use[FG_PROCESSES]) {
    fg_ready();
    fg_lock();
    fg_drop_dead();
    int found = 0;
    for (int i = 0; i < fg_shared->process_high; i++) {
        const struct process *p = &fg_shared->process[i];
        if (p->pid && has_context(device, p->pid)) use[found++] = (struct fg_use){ p->pid, p->used[device], p->busy[device] };
    }
    fg_unlock();
    return found;
}

