#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

int ph_log_level = 0;

void ph_log(int level, const char *format, ...) {
    if (level > ph_log_level) return;
    int saved = errno;
    char line[640];
    int head = snprintf(line, sizeof line, "[libvgpu %d] ", (int)getpid());
    va_list values;
    va_start(values, format);
    int body = vsnprintf(line + head, sizeof line - (size_t)head - 1, format, values);
    va_end(values);
    if (body < 0) body = 0;
    size_t length = (size_t)head + (size_t)body;
    if (length > sizeof line - 2) length = sizeof line - 2;
    line[length++] = '\n';
    /* One write, so that lines of several processes do not mix; stdio buffers stay the program's own. */
    (void)!write(STDERR_FILENO, line, length);
    errno = saved;
}
