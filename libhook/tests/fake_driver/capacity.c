/* Device memory: how much each process has taken of each GPU. */
#include "machine.h"

#include <unistd.h>

static uint64_t used_by_all(int device) {
    uint64_t sum = 0;
    for (int i = 0; i < fg_shared->process_high; i++)
        if (fg_shared->process[i].pid) sum += fg_shared->process[i].used[device];
    return sum;
}

bool fg_memory_take(int device, uint64_t bytes) {
    fg_ready();
    fg_lock();
    if (!fg_own_process) fg_own_process = fg_process_of(getpid());
    bool fits = fg_own_process && used_by_all(device) + bytes <= fg_settings()->memory_bytes;
    if (!fits && fg_own_process) {
        fg_drop_dead();
        fits = used_by_all(device) + bytes <= fg_settings()->memory_bytes;
    }
    if (fits) fg_own_process->used[device] += bytes;
    /* The kernel releases a dying process's locks file by file: give it a moment before calling it an excess. */
    for (int i = 0; fg_watch_limit && i < 20 && used_by_all(device) > fg_watch_limit; i++) {
        fg_drop_dead();
        if (used_by_all(device) > fg_watch_limit) fg_machine_sleep(1000000);
    }
    if (fg_watch_limit && used_by_all(device) > fg_watch_limit + fg_shared->device[device].excess)
        fg_shared->device[device].excess = used_by_all(device) - fg_watch_limit;
    fg_unlock();
    return fits;
}

void fg_memory_give(int device, uint64_t bytes) {
    fg_lock();
    if (fg_own_process) fg_own_process->used[device] -= bytes < fg_own_process->used[device] ? bytes : fg_own_process->used[device];
    fg_unlock();
}

uint64_t fg_memory_used(int device) {
    fg_ready();
    fg_lock();
    fg_drop_dead();
    uint64_t sum = used_by_all(device);
    fg_unlock();
    return sum;
}

uint64_t fg_memory_own(int device) {
    fg_ready();
    fg_lock();
    uint64_t own = fg_own_process ? fg_own_process->used[device] : 0;
    fg_unlock();
    return own;
}

uint64_t fg_memory_excess(int device) {
    fg_ready();
    return fg_shared->device[device].excess;
}
