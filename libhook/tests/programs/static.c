/* A statically linked program, whatever its libc: says whether the hook is in its memory. */
#include <stdio.h>
#include <string.h>

int main(void) {
    char line[4096];
    FILE *maps = fopen("/proc/self/maps", "r");
    if (!maps) return 2;
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "libvgpu")) return puts("hooked") < 0;
    return puts("not hooked") < 0;
}
