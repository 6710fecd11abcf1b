/* Opening, checking and sharing the region file, and locking bytes of it. */
#define _GNU_SOURCE
#include "region.h"

#include "locks.h"
#include "log.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct ph_region ph_region = { .fd = -1, .slot = -1 };
static struct ph_mutex slow_mutex = PH_MUTEX(SLOW);

int ph_region_lock_byte(int fd, long offset, short type) {
    struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = offset, .l_len = 1 };
    int result;
    do result = fcntl(fd, F_SETLK, &lock);
    while (result != 0 && errno == EINTR);
    return result;
}

static bool lock_byte_within(int fd, long offset, int milliseconds) {
    for (int waited = 0; ph_region_lock_byte(fd, offset, F_WRLCK) != 0; waited++) {
        if (waited >= milliseconds) return false;
        poll(NULL, 0, 1);
    }
    return true;
}

bool ph_region_lock(long offset, int milliseconds) {
    ph_mutex_lock(&slow_mutex);
    if (!ph_region_reachable() || lock_byte_within(ph_region.fd, offset, milliseconds)) return true;
    ph_mutex_unlock(&slow_mutex);
    return false;
}

void ph_region_unlock(long offset) {
    if (ph_region_reachable()) ph_region_lock_byte(ph_region.fd, offset, F_UNLCK);
    ph_mutex_unlock(&slow_mutex);
}

/* Programs that become daemons close every descriptor, ours too, and its number may be another file's by now. */
bool ph_region_reachable(void) {
    struct stat info;
    if (ph_region.state != PH_REGION_SHARED) return false;
    int fd = __atomic_load_n(&ph_region.fd, __ATOMIC_RELAXED);
    if (fd >= 0 && fstat(fd, &info) == 0 && info.st_ino == ph_region.inode && info.st_dev == ph_region.filesystem) return true;
    fd = open(ph_region.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    if (fstat(fd, &info) != 0 || info.st_ino != ph_region.inode || info.st_dev != ph_region.filesystem) {
        close(fd);
        return false;
    }
    if (ph_own_slot() >= 0) ph_region_lock_byte(fd, PH_LOCK_SLOTS + ph_own_slot(), F_WRLCK);
    __atomic_store_n(&ph_region.fd, fd, __ATOMIC_RELAXED);
    return true;
}

static void set_limits(struct ph_hami_region *hami, const struct ph_region_defaults *defaults) {
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        hami->limit[i] = defaults->memory_limit[i];
        hami->sm_limit[i] = defaults->core_limit[i] ? defaults->core_limit[i] : 100;
    }
}

static void set_defaults(struct ph_hami_region *hami, const struct ph_region_defaults *defaults) {
    hami->major = 1;
    hami->minor = 2;
    hami->owner_pid = 0;
    sem_init((sem_t *)(void *)hami->semaphore, 1, 1);
    sem_init((sem_t *)(void *)hami->semaphore_postinit, 1, 1);
    hami->device_count = (uint64_t)defaults->device_count;
    set_limits(hami, defaults);
    for (int i = 0; defaults->uuids && i < defaults->device_count; i++) memcpy(hami->uuids[i], defaults->uuids[i], PH_UUID_SIZE);
    hami->slot_high_water = 0;
    hami->utilization_switch = 1;
    hami->recent_kernel = 2;
    hami->priority = defaults->priority;
    hami->sm_init_flag = PH_REGION_MAGIC;
    __atomic_store_n(&hami->magic, PH_REGION_MAGIC, __ATOMIC_RELEASE);
}

static void set_extension(struct ph_extension *extension, bool zeroed) {
    if (!zeroed) memset(extension, 0, sizeof *extension); /* 1.8 MB that a new file need not touch */
    extension->version = PH_EXTENSION_VERSION;
    extension->size = sizeof *extension;
    __atomic_store_n(&extension->magic, PH_EXTENSION_MAGIC, __ATOMIC_RELEASE);
}

const char *ph_region_refusal(const void *map, size_t size) {
    const struct ph_hami_region *hami = map;
    if (size < PH_REGION_SIZE) return "it is shorter than a region of this library";
    if (hami->magic != PH_REGION_MAGIC) return "it does not start with the region's magic number";
    if (hami->major != 1 || hami->minor != 2) return "its layout is not version 1.2";
    if (hami->device_count > PH_MAX_DEVICES) return "it claims more than 16 devices";
    if (hami->slot_high_water < 0 || hami->slot_high_water > PH_MAX_SLOTS) return "its slot count is out of range";
    const struct ph_extension *extension = (const void *)((const char *)map + PH_EXTENSION_OFFSET);
    if (extension->magic != PH_EXTENSION_MAGIC) return "it belongs to another library";
    if (extension->version != PH_EXTENSION_VERSION || extension->size != sizeof *extension)
        return "it was made by another release of this library";
    return NULL;
}

/* Another process holds a slot: none of this library's that lives is without a lock, unless it closed our descriptor. */
static bool slots_locked(int fd) {
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = PH_LOCK_SLOTS, .l_len = PH_MAX_SLOTS };
    return fcntl(fd, F_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

/* Somebody alive is in it: holds a slot's lock, or is named by a slot and has it mapped (HAMi's library locks nothing, and
 * its slots outlive a container's programs, the first of which has the same pid each time). */
static bool used(int fd, const struct stat *info) {
    if (slots_locked(fd)) return true;
    if (info->st_size < PH_HAMI_SIZE) return false;
    struct ph_hami_region *hami = mmap(NULL, PH_HAMI_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    if (hami == MAP_FAILED) return true;
    bool found = false;
    for (int i = 0; hami->magic == PH_REGION_MAGIC && i < PH_MAX_SLOTS && !found; i++) {
        int pid = hami->slots[i].pid;
        if (hami->slots[i].status != 0 && pid > 0 && pid != getpid()) found = ph_mapped_by(pid, info->st_ino) != PH_MAPS_NOT;
    }
    munmap(hami, PH_HAMI_SIZE);
    return found;
}

/* HAMi's, or that of another release of ours. */
static bool is_region(int fd, const struct stat *info) {
    int32_t magic = 0;
    return info->st_size >= PH_HAMI_SIZE && pread(fd, &magic, sizeof magic, 0) == sizeof magic && magic == PH_REGION_MAGIC;
}

/* Each GPU has one place in the file, whatever a process sees of them and in whichever order. */
static void add_gpus(struct ph_hami_region *hami, const struct ph_region_defaults *defaults) {
    for (int i = 0; i < defaults->device_count && defaults->uuids; i++) {
        uint64_t at = 0;
        while (at < hami->device_count && strncmp(hami->uuids[at], defaults->uuids[i], PH_UUID_SIZE) != 0) at++;
        if (at < hami->device_count || at == PH_MAX_DEVICES) continue;
        memcpy(hami->uuids[at], defaults->uuids[i], PH_UUID_SIZE);
        hami->device_count = at + 1;
    }
}

static const char *prepare(int fd, const struct ph_region_defaults *defaults, void **map) {
    struct stat info;
    if (fstat(fd, &info) != 0) return "it cannot be examined";
    if (!S_ISREG(info.st_mode)) return "it is not a regular file";
    bool empty = info.st_size == 0, in_use = !empty && used(fd, &info);
    if (in_use && (info.st_size == PH_HAMI_SIZE + 1 || info.st_size == PH_HAMI_SIZE))
        return "HAMi's own library is using it; both cannot share one file";
    if (!empty && info.st_size < PH_REGION_SIZE && (in_use || !is_region(fd, &info))) return "it is shorter than a region of this library";
    /* Never made shorter: HAMi's monitor may have it mapped. */
    if (info.st_size < PH_REGION_SIZE && ftruncate(fd, PH_REGION_SIZE) != 0) return "it cannot be resized";
    *map = mmap(NULL, PH_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (*map == MAP_FAILED) return "it cannot be mapped";
    const struct ph_hami_region *hami = *map;
    bool foreign = !empty && !in_use && hami->magic != 0 && hami->magic != PH_REGION_MAGIC; /* nobody's region: left as it is */
    /* All zero: its creator died between resizing and filling it. */
    bool unfilled = empty || (hami->magic == 0 && hami->major == 0 && hami->slot_high_water == 0);
    if (unfilled || (!in_use && !foreign && ph_region_refusal(*map, PH_REGION_SIZE))) {
        if (!empty) memset(*map, 0, PH_HAMI_SIZE);
        set_extension((void *)((char *)*map + PH_EXTENSION_OFFSET), empty);
        set_defaults(*map, defaults);
    } else if (!in_use && !foreign) {
        set_limits(*map, defaults); /* those of programs that have ended hold for nobody */
    }
    const char *refusal = ph_region_refusal(*map, PH_REGION_SIZE);
    if (refusal) munmap(*map, PH_REGION_SIZE);
    else add_gpus(*map, defaults);
    return refusal;
}

void ph_region_open(const char *path, const struct ph_region_defaults *defaults) {
    void *map = NULL;
    const char *refusal = NULL;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0666);
    if (fd < 0) {
        refusal = errno == ELOOP ? "it is a symbolic link" : "it cannot be opened for reading and writing";
    } else {
        struct stat info;
        if (!lock_byte_within(fd, PH_LOCK_INIT, 3000)) refusal = "another process has been setting it up for 3 s";
        else refusal = prepare(fd, defaults, &map);
        /* Other users of the container join too. fchmod on our own region instead of touching the umask. */
        if (!refusal && fstat(fd, &info) == 0 && info.st_uid == geteuid()) (void)!fchmod(fd, 0666);
        ph_region_lock_byte(fd, PH_LOCK_INIT, F_UNLCK);
    }
    if (refusal) {
        if (fd >= 0) close(fd);
        ph_error("shared region %s is refused: %s. Limits hold for this process alone; remove the file while nothing "
                 "in the container uses the GPU.", path, refusal);
        map = mmap(NULL, PH_REGION_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED) return;
        set_extension((void *)((char *)map + PH_EXTENSION_OFFSET), true);
        set_defaults(map, defaults);
        fd = -1;
    }
    struct stat info;
    if (fd >= 0 && fstat(fd, &info) == 0) {
        ph_region.inode = info.st_ino;
        ph_region.filesystem = info.st_dev;
        snprintf(ph_region.path, sizeof ph_region.path, "%s", path);
    }
    ph_region.fd = fd;
    ph_region.refusal = refusal;
    ph_region.hami = map;
    ph_region.extension = (void *)((char *)map + PH_EXTENSION_OFFSET);
    ph_region.state = refusal ? PH_REGION_PRIVATE : PH_REGION_SHARED;
}

void ph_region_after_fork(void) {
    ph_mutex_after_fork(&slow_mutex);
}

void ph_region_close(void) {
    if (ph_region.hami) munmap(ph_region.hami, PH_REGION_SIZE);
    if (ph_region.fd >= 0) close(ph_region.fd);
    ph_region = (struct ph_region){ .fd = -1, .slot = -1 };
}
