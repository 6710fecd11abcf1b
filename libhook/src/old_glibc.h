/* Included first into every file of the shipped library. Binds what glibc has moved or renamed since 2.17 to the
 * names and versions of then, which every later glibc keeps: a library built on a new distribution must load into
 * programs of old ones. tests/suite/test_interposition.py holds it to that. */
#pragma once

#define _GNU_SOURCE /* as the files have it that this one is put before */
#if defined(__x86_64__)
#define PH_FIRST "GLIBC_2.2.5"
#define PH_STAT_VERSION 1 /* the kernel's struct stat */
#elif defined(__aarch64__)
#define PH_FIRST "GLIBC_2.17"
#define PH_STAT_VERSION 0
#endif

#include <fcntl.h>
#include <sys/stat.h>

#define PH_AS_THEN(name, version) __asm__(".symver " #name "," #name "@" version)
PH_AS_THEN(dladdr, PH_FIRST);
PH_AS_THEN(dlopen, PH_FIRST);
PH_AS_THEN(pthread_attr_setstacksize, PH_FIRST);
PH_AS_THEN(pthread_create, PH_FIRST);
PH_AS_THEN(pthread_mutex_trylock, PH_FIRST);
PH_AS_THEN(pthread_once, PH_FIRST);
PH_AS_THEN(pthread_sigmask, PH_FIRST);
PH_AS_THEN(sem_init, PH_FIRST);
PH_AS_THEN(__fxstat64, PH_FIRST);
PH_AS_THEN(__xstat64, PH_FIRST);

/* fcntl64 came in 2.28 for machines of 32 bits; fstat and stat were inline before 2.33. */
extern int ph_fcntl(int fd, int command, ...) __asm__("fcntl");
extern int ph_fstat(int version, int fd, struct stat *info) __asm__("__fxstat64");
extern int ph_stat(int version, const char *path, struct stat *info) __asm__("__xstat64");
#define fcntl(...) ph_fcntl(__VA_ARGS__)
#define fstat(fd, info) ph_fstat(PH_STAT_VERSION, fd, info)
#define stat(path, info) ph_stat(PH_STAT_VERSION, path, info)
