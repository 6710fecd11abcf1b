/* A tenant that writes into its own region what is not so, every millisecond for so many seconds: no hook, no GPU.
 *   forge REGION SECONDS posted|charged|cut
 * posted: that its processes kept the GPU busy all the time, as many at once as can be told; charged: that it has paid
 * for everything. cut: the file is shortened to nothing and filled again, over and over. */
#include "../../src/region.h"
#include "victim.h"

#include <fcntl.h>

static void write_bin(int fd, int64_t bin, bool charged) {
    uint64_t turn = (uint64_t)bin / PH_BINS;
    struct ph_activity_bin all = { .posted = (turn & 0xffffff) << 40 };
    if (charged) all.charged = turn << 32 | PH_BIN_NS;
    else all.posted |= 0xffffull << 24 | 0xffffff;
    off_t ring = PH_EXTENSION_OFFSET + (off_t)offsetof(struct ph_extension, activity);
    if (pwrite(fd, &all, sizeof all, ring + bin % PH_BINS * (off_t)sizeof all) != sizeof all) exit(4);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int fd = open(argv[1], O_RDWR);
    if (fd < 0) return 3;
    struct timespec pause = { .tv_nsec = 1000000 };
    for (int64_t end = now_ns() + atoll(argv[2]) * 1000000000; now_ns() < end; nanosleep(&pause, NULL)) {
        int64_t bin = now_ns() / PH_BIN_NS;
        if (strcmp(argv[3], "cut") == 0 && (ftruncate(fd, 0) != 0 || ftruncate(fd, PH_REGION_SIZE) != 0)) return 4;
        for (int64_t at = bin; at < bin + 8 && strcmp(argv[3], "cut") != 0; at++) write_bin(fd, at, strcmp(argv[3], "charged") == 0);
    }
    return 0;
}
