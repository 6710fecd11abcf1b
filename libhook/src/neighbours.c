#define _GNU_SOURCE
#include "neighbours.h"

#include "config.h"
#include "log.h"
#include "region.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const int64_t RECENT_NS = 20000000;

static struct ph_activity_file *file; /* set once */

static const char *map(const char *path) {
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0) return "it cannot be opened for reading and writing";
    const char *refusal = NULL;
    void *at = MAP_FAILED;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) refusal = "it is not a regular file";
    else if (info.st_size < (off_t)sizeof *file && ftruncate(fd, sizeof *file) != 0) refusal = "it cannot be resized";
    else at = mmap(NULL, sizeof *file, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!refusal && at == MAP_FAILED) refusal = "it cannot be mapped";
    /* Other users' containers join too. fchmod on our own file instead of touching the umask. */
    if (!refusal && info.st_uid == geteuid()) (void)!fchmod(fd, 0666);
    close(fd);
    if (refusal) return refusal;
    struct ph_activity_file *found = at;
    uint32_t fresh = 0;
    __atomic_compare_exchange_n(&found->magic, &fresh, PH_ACTIVITY_MAGIC, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (found->magic != PH_ACTIVITY_MAGIC) {
        munmap(at, sizeof *file);
        return "it belongs to something else or to another release of this library";
    }
    __atomic_store_n(&file, found, __ATOMIC_RELEASE);
    return NULL;
}

static void open_once(void) {
    const char *refusal = map(ph_config.activity_path);
    if (refusal)
        ph_error("activity file %s is refused: %s. Other containers' GPU time stays unknown: under contention this one gets "
                 "less than its share.", ph_config.activity_path, refusal);
}

void ph_neighbours_open(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (ph_config.activity_path[0]) pthread_once(&once, open_once);
}

static struct ph_activity_file *shared(void) { return __atomic_load_n(&file, __ATOMIC_ACQUIRE); }

bool ph_neighbours_known(void) { return shared() != NULL; }

struct ph_activity_ring *ph_neighbours_ring(int device) {
    struct ph_activity_file *node = shared();
    if (node) return &node->devices[device];
    return ph_region.extension ? &ph_region.extension->activity[device] : NULL;
}

bool ph_neighbours_active(int device, int64_t now) {
    struct ph_activity_file *node = shared();
    if (!node || !ph_region.extension) return false;
    int64_t everybody = ph_ring_total(&node->devices[device], now - RECENT_NS, now);
    int64_t container = ph_ring_total(&ph_region.extension->activity[device], now - RECENT_NS, now);
    return everybody > container + PH_BIN_NS / 10;
}
