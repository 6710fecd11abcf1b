#define _GNU_SOURCE
#include "config.h"

#include "limits.h"
#include "log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct ph_config ph_config;

void ph_config_defaults(struct ph_config *config) {
    memset(config, 0, sizeof *config);
    config->burst_ns = 10 * 1000000L;
    config->in_flight_ns = 2 * 1000000L;
    config->window_period_ns = 10 * 1000000L;
    config->priority = 1;
    config->utilization = true;
    strcpy(config->region_path, "/tmp/cudevshr.cache"); /* HAMi's default */
    strcpy(config->mps_pipe, "/tmp/nvidia-mps");        /* NVIDIA's */
}

bool ph_parse_number(const char *text, long low, long high, long *value) {
    char *end;
    if (!text || !(isdigit((unsigned char)*text) || *text == '-')) return false;
    errno = 0;
    long found = strtol(text, &end, 10);
    if (errno || *end || found < low || found > high) return false;
    *value = found;
    return true;
}

bool ph_parse_size(const char *text, uint64_t *bytes) {
    if (!text || !isdigit((unsigned char)*text)) return false;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, hex ? 16 : 10);
    if (errno || end == text) return false;
    int shift = 0;
    switch (tolower((unsigned char)*end)) {
    case 'k': shift = 10; break;
    case 'm': shift = 20; break;
    case 'g': shift = 30; break;
    case 't': shift = 40; break;
    default: break;
    }
    if (shift) {
        end++;
        if (*end == 'i') end++;
        if (*end == 'B' || *end == 'b') end++;
    }
    if (*end || (shift && value >> (64 - shift))) return false;
    *bytes = (uint64_t)value << shift;
    return true;
}

static bool parse_mode(const char *text, enum ph_mode *mode) {
    static const char *const names[] = { "fixed", "burst", "best-effort", "windows", "mps" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i]) == 0) {
            *mode = (enum ph_mode)i;
            return true;
        }
    return false;
}

static bool parse_context_memory(const char *text, enum ph_context_memory *policy) {
    static const char *const names[] = { "flat", "measured", "off" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(text, names[i]) == 0) {
            *policy = (enum ph_context_memory)i;
            return true;
        }
    return false;
}

static bool parse_milliseconds(const char *text, long low, long high, int64_t *ns) {
    long value;
    if (!ph_parse_number(text, low, high, &value)) return false;
    *ns = (int64_t)value * 1000000;
    return true;
}

static bool copy_path(const char *text, char *path, size_t size) {
    if (text[0] != '/' || strlen(text) >= size) return false;
    strcpy(path, text);
    return true;
}

/* One setting by its name in the file. `index` is the device of "memory_limit.N", -1 for all. */
static bool set(struct ph_config *config, const char *name, int index, const char *value) {
    long number;
    if (strcmp(name, "memory_limit") == 0 || strcmp(name, "core_limit") == 0) {
        bool memory = name[0] == 'm';
        uint64_t amount = 0;
        if (memory ? !ph_parse_size(value, &amount) : !ph_parse_number(value, 0, 100, &number)) return false;
        if (!memory) amount = number >= 100 ? 0 : (uint64_t)number;
        for (int i = 0; i < PH_MAX_DEVICES; i++)
            if (index < 0 || i == index) (memory ? config->memory_limit : config->core_limit)[i] = amount;
        return true;
    }
    if (index >= 0) return false;
    if (strcmp(name, "compute_mode") == 0) return parse_mode(value, &config->mode);
    if (strcmp(name, "burst_ms") == 0) return parse_milliseconds(value, 1, 10000, &config->burst_ns);
    if (strcmp(name, "in_flight_ms") == 0) return parse_milliseconds(value, 1, 10000, &config->in_flight_ns);
    if (strcmp(name, "window_period_ms") == 0) return parse_milliseconds(value, 1, 1000, &config->window_period_ns);
    if (strcmp(name, "window_start_percent") == 0) {
        if (!ph_parse_number(value, 0, 99, &number)) return false;
        config->window_start_percent = (int)number;
        return true;
    }
    if (strcmp(name, "context_memory") == 0) return parse_context_memory(value, &config->context_memory);
    if (strcmp(name, "context_bytes") == 0) return ph_parse_size(value, &config->context_bytes);
    if (strcmp(name, "region") == 0) return copy_path(value, config->region_path, sizeof config->region_path);
    if (strcmp(name, "activity") == 0) return copy_path(value, config->activity_path, sizeof config->activity_path);
    if (strcmp(name, "limits") == 0) return copy_path(value, config->limits_path, sizeof config->limits_path);
    if (strcmp(name, "mps_pipe") == 0) return copy_path(value, config->mps_pipe, sizeof config->mps_pipe);
    if (strcmp(name, "core_policy") == 0) {
        config->policy = strcmp(value, "disable") == 0 ? PH_POLICY_DISABLE : PH_POLICY_FORCE;
        return config->policy == PH_POLICY_DISABLE || strcmp(value, "force") == 0;
    }
    if (strcmp(name, "priority") == 0) {
        if (!ph_parse_number(value, 0, 1, &number)) return false;
        config->priority = (int)number;
        return true;
    }
    if (strcmp(name, "utilization") == 0) {
        config->utilization = strcmp(value, "sampled") == 0;
        return config->utilization || strcmp(value, "off") == 0;
    }
    if (strcmp(name, "on_error") == 0) {
        config->fail_closed = strcmp(value, "closed") == 0;
        return config->fail_closed || strcmp(value, "open") == 0;
    }
    return false;
}

static void from_variable(struct ph_config *config, ph_getenv get, const char *variable, const char *name, int index) {
    const char *value = get(variable);
    if (!value || !*value) return;
    if (set(config, name, index, value)) config->present = true;
    else ph_error("%s=%s is not understood and ignored", variable, value);
}

void ph_config_from_environment(struct ph_config *config, ph_getenv get) {
    from_variable(config, get, "CUDA_DEVICE_MEMORY_LIMIT", "memory_limit", -1);
    from_variable(config, get, "CUDA_DEVICE_SM_LIMIT", "core_limit", -1);
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        char name[48];
        snprintf(name, sizeof name, "CUDA_DEVICE_MEMORY_LIMIT_%d", i);
        from_variable(config, get, name, "memory_limit", i);
        snprintf(name, sizeof name, "CUDA_DEVICE_SM_LIMIT_%d", i);
        from_variable(config, get, name, "core_limit", i);
    }
    from_variable(config, get, "CUDA_DEVICE_MEMORY_SHARED_CACHE", "region", -1);
    from_variable(config, get, "CUDA_TASK_PRIORITY", "priority", -1);
    from_variable(config, get, "POOLMGR_HOOK_MODE", "compute_mode", -1);
    from_variable(config, get, "POOLMGR_HOOK_BURST_MS", "burst_ms", -1);
    from_variable(config, get, "POOLMGR_HOOK_IN_FLIGHT_MS", "in_flight_ms", -1);
    from_variable(config, get, "POOLMGR_HOOK_WINDOW_PERIOD_MS", "window_period_ms", -1);
    from_variable(config, get, "POOLMGR_HOOK_WINDOW_START_PERCENT", "window_start_percent", -1);
    from_variable(config, get, "POOLMGR_HOOK_CONTEXT_BYTES", "context_bytes", -1);
    from_variable(config, get, "POOLMGR_HOOK_CONTEXT_MEMORY", "context_memory", -1);
    from_variable(config, get, "POOLMGR_HOOK_ACTIVITY", "activity", -1);
    from_variable(config, get, "POOLMGR_HOOK_UTILIZATION", "utilization", -1);
    from_variable(config, get, "POOLMGR_HOOK_ON_ERROR", "on_error", -1);
    const char *pipe = get("CUDA_MPS_PIPE_DIRECTORY"); /* no limit of ours: does not count as being configured */
    if (pipe && *pipe) copy_path(pipe, config->mps_pipe, sizeof config->mps_pipe);
    const char *policy = get("GPU_CORE_UTILIZATION_POLICY");
    if (policy && strcasecmp(policy, "force") == 0) config->policy = PH_POLICY_FORCE;
    if (policy && strcasecmp(policy, "disable") == 0) config->policy = PH_POLICY_DISABLE;
}

static const char *complaint(int line, const char *what) {
    static __thread char text[96];
    snprintf(text, sizeof text, "line %d: %s", line, what);
    return text;
}

const char *ph_config_from_text(struct ph_config *config, const char *text, size_t length) {
    const char *end = text + length;
    for (int line = 1; text < end; line++) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        if (!stop) stop = end;
        char copy[512], name[64], value[320];
        if ((size_t)(stop - text) >= sizeof copy) return complaint(line, "longer than 511 bytes");
        memcpy(copy, text, (size_t)(stop - text));
        copy[stop - text] = 0;
        if (strlen(copy) != (size_t)(stop - text)) return complaint(line, "holds a NUL byte");
        text = stop + 1;
        char *hash = strchr(copy, '#');
        if (hash) *hash = 0;
        char *first = copy + strspn(copy, " \t\r");
        if (!*first) continue;
        if (sscanf(first, "%63[a-z_.0-9] = %319[^ \t\r]", name, value) != 2) return complaint(line, "expected 'name = value'");
        int index = -1;
        char *dot = strchr(name, '.');
        if (dot) {
            long found;
            if (!ph_parse_number(dot + 1, 0, PH_MAX_DEVICES - 1, &found)) return complaint(line, "device index not in 0..15");
            index = (int)found;
            *dot = 0;
        }
        if (!set(config, name, index, value)) return complaint(line, "unknown name or value out of range");
        config->present = true;
    }
    return NULL;
}

void ph_config_combine(struct ph_config *file, const struct ph_config *environment) {
    for (int i = 0; i < PH_MAX_DEVICES; i++) {
        file->memory_limit[i] = ph_lower_limit(file->memory_limit[i], environment->memory_limit[i]);
        file->core_limit[i] = ph_lower_limit(file->core_limit[i], environment->core_limit[i]);
    }
    if (environment->burst_ns < file->burst_ns) file->burst_ns = environment->burst_ns;
    if (environment->in_flight_ns < file->in_flight_ns) file->in_flight_ns = environment->in_flight_ns;
    if (environment->mode == PH_MODE_BEST_EFFORT) file->mode = PH_MODE_BEST_EFFORT; /* gives up its own share */
    if (environment->priority > file->priority) file->priority = environment->priority;
    file->fail_closed = file->fail_closed || environment->fail_closed;
    file->present = true;
    file->trusted = true;
}

uint64_t ph_hash(const char *text) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *text; text++) hash = (hash ^ (unsigned char)*text) * 0x100000001b3u;
    return hash;
}

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* The folder of the region is the container's own folder of the node, mounted; the mount tells its name there. */
static void find_container(struct ph_config *config) {
    char folder[sizeof config->region_path], line[1024], root[512], point[512];
    strcpy(folder, config->region_path);
    *strrchr(folder, '/') = 0; /* region paths are absolute */
    snprintf(config->container, sizeof config->container, "%s", last_part(folder));
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts && fgets(line, sizeof line, mounts))
        if (sscanf(line, "%*s %*s %*s %511s %511s", root, point) == 2 && strcmp(point, folder) == 0)
            snprintf(config->container, sizeof config->container, "%.255s", last_part(root));
    if (mounts) fclose(mounts);
}

enum source { ABSENT, READ, REFUSED };

/* Reads a file of settings into `config`; says on stderr why it is refused. */
static enum source read_file(struct ph_config *config, const char *path, uid_t owner, bool mounted) {
    struct stat info;
    struct statvfs filesystem;
    char text[16384];
    ssize_t length;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return ABSENT;
    const char *problem = NULL;
    bool read_only = mounted && fstatvfs(fd, &filesystem) == 0 && (filesystem.f_flag & ST_RDONLY) != 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) problem = "it is not a regular file";
    else if (!read_only && (info.st_uid != owner || (info.st_mode & (S_IWGRP | S_IWOTH)))) problem = "others than its owner could have written it";
    else if ((length = read(fd, text, sizeof text)) < 0 || length == sizeof text) problem = "it cannot be read whole";
    else problem = ph_config_from_text(config, text, (size_t)length);
    close(fd);
    if (!problem) return READ;
    ph_error("%s is ignored (%s); the environment's limits hold", path, problem);
    return REFUSED;
}

void ph_config_load(struct ph_config *config, const char *node, const char *path, uid_t owner) {
    struct ph_config environment;
    ph_config_defaults(config);
    ph_config_defaults(&environment);
    if (getauxval(AT_SECURE)) { /* a setuid program must not open its caller's paths with its own rights */
        unsetenv("CUDA_DEVICE_MEMORY_SHARED_CACHE");
        unsetenv("POOLMGR_HOOK_ACTIVITY");
        unsetenv("CUDA_MPS_PIPE_DIRECTORY");
    }
    ph_config_from_environment(&environment, (ph_getenv)getenv);
    strcpy(config->region_path, environment.region_path); /* a file that names no region leaves HAMi's */
    enum source found = read_file(config, node, owner, true);
    if (found == ABSENT) found = read_file(config, path, owner, false);
    if (found == READ) {
        ph_config_combine(config, &environment);
        find_container(config);
        ph_config_follow_limits(config, owner);
        return;
    }
    if (found == REFUSED) {
        environment.fail_closed = environment.fail_closed || config->fail_closed;
        environment.unreadable = environment.present = true;
    }
    *config = environment;
}

static void lower_to(uint64_t *limit, uint64_t other) {
    __atomic_store_n(limit, ph_lower_limit(__atomic_load_n(limit, __ATOMIC_RELAXED), other), __ATOMIC_RELAXED);
}

void ph_config_follow_limits(struct ph_config *config, uid_t owner) {
    char path[sizeof config->limits_path + 32];
    struct ph_config word;
    if (!config->limits_path[0] || __atomic_load_n(&config->limited, __ATOMIC_RELAXED)) return;
    snprintf(path, sizeof path, "%s/%016llx.conf", config->limits_path, (unsigned long long)ph_hash(config->container));
    ph_config_defaults(&word);
    enum source found = read_file(&word, path, owner, true);
    if (found == ABSENT) return;
    __atomic_store_n(&config->limited, true, __ATOMIC_RELAXED);
    for (int i = 0; found == READ && i < PH_MAX_DEVICES; i++) {
        lower_to(&config->memory_limit[i], word.memory_limit[i]);
        lower_to(&config->core_limit[i], word.core_limit[i]);
    }
}
