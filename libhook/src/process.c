#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

uint64_t ph_process_start_time(int pid) {
    char text[1024], path[32];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *stat = fopen(path, "re");
    if (!stat) return 0;
    size_t length = fread(text, 1, sizeof text - 1, stat);
    fclose(stat);
    text[length] = 0;
    char *at = strrchr(text, ')'); /* the name may hold spaces and brackets */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at, NULL, 10) : 0;
}

uint64_t ph_process_namespace(void) {
    struct stat info;
    return stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

enum ph_mapped ph_mapped_by(int pid, uint64_t inode) {
    char path[32], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    if (!maps) return errno == ENOENT ? PH_MAPS_NOT : PH_CANNOT_TELL;
    bool mapped = false;
    while (!mapped && fgets(line, sizeof line, maps)) {
        unsigned long found = 0;
        mapped = sscanf(line, "%*s %*s %*s %*s %lu", &found) == 1 && found == inode;
    }
    fclose(maps);
    return mapped ? PH_MAPS : PH_MAPS_NOT;
}
