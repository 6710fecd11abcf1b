/* What the parts of the fake machine share: its state, its lock, who takes part. Not for the drivers: gpu.h is. */
#pragma once

#define _GNU_SOURCE
#include "gpu.h"

#include <pthread.h>

enum { FG_FREE, FG_RUNNING, FG_WAITS_TIME, FG_WAITS_SERVICE };

struct thread {
    int pid, tid, state, context;
    int64_t until;
    uint32_t wake;
};
struct point {
    int64_t served, time;
};
struct context {
    int pid, device;
    int64_t served, busy_until;
    uint64_t points;
    struct point point[FG_POINTS]; /* where the line served(time) starts a run: slope 1 until the next */
};
struct device {
    int current; /* context being served, -1 */
    int64_t slice_end, busy;
    uint64_t excess;
};
struct process {
    int pid;
    uint64_t used[FG_DEVICES];
    int64_t busy[FG_DEVICES];
};
struct shared {
    uint32_t ready;
    pthread_mutex_t mutex;
    bool virtual_time; /* one machine, one clock */
    int64_t now, began;
    int context_high, thread_high, process_high;
    uint32_t met; /* programs that have come to a meeting, of all meetings */
    struct device device[FG_DEVICES];
    struct thread thread[FG_THREADS];
    struct process process[FG_PROCESSES];
    struct context context[FG_CONTEXTS];
};

extern struct shared *fg_shared;
extern bool fg_virtual;
extern uint64_t fg_watch_limit;
extern __thread struct thread *fg_self;
extern struct process *fg_own_process;

void fg_lock(void);
void fg_unlock(void);
int64_t fg_machine_now(void);
void fg_machine_sleep(int64_t ns);
bool fg_dead(int pid);
/* With the lock held, all of these. */
struct process *fg_process_of(int pid);
void fg_drop_dead(void);
void fg_leave(void); /* without it: this thread takes part no more */
struct thread *fg_take_part(void);
void fg_choose(int device, int64_t time); /* whom a device serves next */
bool fg_active(const struct context *c);
void fg_pass_time(int64_t to);
void fg_catch_up(void);     /* real time: serve until now */
void fg_let_time_pass(void); /* until what fg_self waits for is so */
