#define _GNU_SOURCE
#include "co_tenants.h"

#include "config.h"
#include "device.h"
#include "locks.h"
#include "log.h"
#include "region.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    CO_TENANTS = 64,
    LOOK_NS = 500000,
    LATE_NS = 20000000, /* posts that come this long after their time are still seen */
};
static const int64_t RECENT_NS = 20000000, SEARCH_NS = 50000000;

struct co_tenant {
    int fd;
    uint64_t inode, filesystem;
    bool seen;                  /* at the last search */
    int place[PH_MAX_DEVICES];  /* of our GPU's ring in its region; -1: it has no such GPU */
};

static bool known; /* atomic, set once */
static struct ph_mutex mutex = PH_MUTEX(CO_TENANTS); /* everything below but the rings' words, which are atomic */
static struct co_tenant co_tenants[CO_TENANTS];
static int count;
static int64_t searched_at, looked_at[PH_MAX_DEVICES];
static struct ph_activity_ring others[PH_MAX_DEVICES];

static bool is_open(const struct co_tenant *n) {
    struct stat info; /* programs that become daemons close every descriptor, and the number may be theirs by now */
    return fstat(n->fd, &info) == 0 && info.st_ino == n->inode && info.st_dev == n->filesystem;
}

/* Where its rings are; false: no region of this release. */
static bool find_places(struct co_tenant *n) {
    struct {
        uint32_t magic, version;
        uint64_t size;
    } extension;
    char uuids[PH_MAX_DEVICES][PH_UUID_SIZE];
    if (pread(n->fd, &extension, sizeof extension, PH_EXTENSION_OFFSET) != sizeof extension) return false;
    if (extension.magic != PH_EXTENSION_MAGIC || extension.version != PH_EXTENSION_VERSION || extension.size != sizeof(struct ph_extension)) return false;
    if (pread(n->fd, uuids, sizeof uuids, offsetof(struct ph_hami_region, uuids)) != sizeof uuids) return false;
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        n->place[i] = -1;
        for (int at = 0; at < PH_MAX_DEVICES && i < ph_device_count && ph_device_uuids[i][0]; at++)
            if (strncmp(uuids[at], ph_device_uuids[i], PH_UUID_SIZE) == 0) n->place[i] = at;
    }
    return true;
}

static void meet(int folder, const char *name) {
    struct co_tenant n = { .fd = openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY), .seen = true };
    struct stat info;
    if (n.fd < 0) return;
    bool regular = fstat(n.fd, &info) == 0 && S_ISREG(info.st_mode);
    n.inode = info.st_ino;
    n.filesystem = info.st_dev;
    bool own = regular && n.inode == ph_region.inode && n.filesystem == ph_region.filesystem;
    for (int i = 0; i < count && regular && !own; i++)
        if (co_tenants[i].inode == n.inode && co_tenants[i].filesystem == n.filesystem) co_tenants[i].seen = own = true;
    if (regular && !own && count < CO_TENANTS && find_places(&n)) co_tenants[count++] = n;
    else close(n.fd);
}

static void search(void) {
    DIR *folder = opendir(ph_config.activity_path);
    for (int i = 0; i < count; i++) co_tenants[i].seen = false;
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        size_t length = strlen(entry->d_name);
        if (length > 6 && strcmp(entry->d_name + length - 6, ".cache") == 0) meet(dirfd(folder), entry->d_name);
    }
    if (folder) closedir(folder);
    int kept = 0;
    for (int i = 0; i < count; i++) {
        bool open = is_open(&co_tenants[i]);
        if (open && co_tenants[i].seen && find_places(&co_tenants[i])) co_tenants[kept++] = co_tenants[i];
        else if (open) close(co_tenants[i].fd);
    }
    count = kept;
}

/* One run of bins that does not wrap, first to last, of all co-tenants. */
static void read_bins(int device, int64_t first, int64_t last) {
    static struct ph_activity_bin bins[PH_BINS];
    static uint64_t sums[PH_BINS];
    size_t length = (size_t)(last - first + 1);
    memset(sums, 0, length * sizeof *sums);
    for (int i = 0; i < count; i++) {
        if (co_tenants[i].place[device] < 0) continue;
        off_t ring = PH_EXTENSION_OFFSET + (off_t)offsetof(struct ph_extension, activity) +
                     co_tenants[i].place[device] * (off_t)sizeof(struct ph_activity_ring);
        ssize_t found = pread(co_tenants[i].fd, bins, length * sizeof *bins, ring + first % PH_BINS * (off_t)sizeof *bins);
        for (int64_t at = 0; at < found / (ssize_t)sizeof *bins; at++) sums[at] = ph_posted_together(sums[at], bins[at].posted, first + at);
    }
    for (int64_t bin = first; bin <= last; bin++)
        __atomic_store_n(&others[device].bins[bin % PH_BINS].posted, sums[bin - first], __ATOMIC_RELAXED);
}

void ph_co_tenants_look(int device, int64_t now) {
    if (!ph_co_tenants_known() || !ph_mutex_try(&mutex)) return;
    if (now - searched_at > SEARCH_NS || searched_at == 0) {
        searched_at = now;
        search();
    }
    if (now - looked_at[device] >= LOOK_NS) {
        int64_t last = now / PH_BIN_NS, first = (looked_at[device] - LATE_NS) / PH_BIN_NS;
        if (first <= last - PH_BINS) first = last - PH_BINS + 1;
        if (first < 0) first = 0;
        looked_at[device] = now;
        int64_t wraps = (first / PH_BINS + 1) * PH_BINS;
        read_bins(device, first, last < wraps ? last : wraps - 1);
        if (last >= wraps) read_bins(device, wraps, last);
    }
    ph_mutex_unlock(&mutex);
}

static void open_once(void) {
    struct stat info;
    if (stat(ph_config.activity_path, &info) == 0 && S_ISDIR(info.st_mode) && access(ph_config.activity_path, R_OK | X_OK) == 0)
        __atomic_store_n(&known, true, __ATOMIC_RELEASE);
    else
        ph_error("%s is no folder that can be read (activity). Other containers' GPU time stays unknown: under contention this "
                 "one gets less than its share.", ph_config.activity_path);
}

void ph_co_tenants_open(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (ph_config.activity_path[0]) pthread_once(&once, open_once);
}

bool ph_co_tenants_known(void) { return __atomic_load_n(&known, __ATOMIC_ACQUIRE); }

const struct ph_activity_ring *ph_co_tenants_ring(int device) { return ph_co_tenants_known() ? &others[device] : NULL; }

bool ph_co_tenants_active(int device, int64_t now) {
    ph_co_tenants_look(device, now);
    return ph_ring_total(ph_co_tenants_ring(device), now - RECENT_NS, now) > PH_BIN_NS / 10;
}

void ph_co_tenants_after_fork(void) { ph_mutex_after_fork(&mutex); }
