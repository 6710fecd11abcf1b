/* A tenant that writes into its own region what is not so, every millisecond until its input ends: no hook, no GPU. It
 * begins together with one other program on the fake machine.
 *   forge REGION posted|charged|cut
 * posted: that its processes kept the GPU busy all the time, as many at once as can be told; charged: that it has paid
 * for everything. cut: the file is shortened to nothing and filled again, over and over. */
#include "../../src/region.h"
#include "program.h"

#include <fcntl.h>
#include <poll.h>

static void write_bin(int fd, int64_t bin, bool charged) {
    uint64_t turn = (uint64_t)bin / PH_BINS;
    struct ph_activity_bin all = { .posted = (turn & 0xffffff) << 40 };
    if (charged) all.charged = turn << 32 | PH_BIN_NS;
    else all.posted |= 0xffffull << 24 | 0xffffff;
    off_t ring = PH_EXTENSION_OFFSET + (off_t)offsetof(struct ph_extension, activity);
    if (pwrite(fd, &all, sizeof all, ring + bin % PH_BINS * (off_t)sizeof all) != sizeof all) exit(4);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int fd = open(argv[1], O_RDWR);
    if (fd < 0) return 3;
    bool cuts = strcmp(argv[2], "cut") == 0, charged = strcmp(argv[2], "charged") == 0;
    struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
    struct timespec pause = { .tv_nsec = 1000000 };
    fg_meet(2);
    for (; poll(&input, 1, 0) == 0; nanosleep(&pause, NULL)) {
        int64_t bin = now_ns() / PH_BIN_NS;
        if (cuts && (ftruncate(fd, 0) != 0 || ftruncate(fd, PH_REGION_SIZE) != 0)) return 4;
        for (int64_t at = bin; at < bin + 8 && !cuts; at++) write_bin(fd, at, charged);
    }
    return 0;
}
