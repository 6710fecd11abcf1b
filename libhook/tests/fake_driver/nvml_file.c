/* The state file, FAKE_NVML_STATE: what NVML shows, read anew whenever the file has changed. Write another one and
 * rename it over the old one; a file that cannot be read through is said on stderr once, and every call fails with
 * NVML_ERROR_UNKNOWN until it is whole again. Without the file no driver is loaded. Lines, in any order within a section:
 *
 *   # a comment
 *   [system]
 *   driver_version = 580.159.03
 *   nvml_version = 13.580.159.03
 *   cuda_version = 13000
 *   fail = nvmlInit DRIVER_NOT_LOADED           function (every ABI of it if without _vN), NVML's error; repeatable
 *   [gpu 0000:00:10.0]                          its address in sysfs; sections in the order of NVML's indices
 *   uuid = GPU-…                                required, as are model and memory_mib
 *   model = NVIDIA L40S
 *   memory_mib = 46068
 *   reserved_mib = 600                          what the driver keeps for itself
 *   used_mib = 0                                else what the processes use, together
 *   minor = 0                                   of /dev/nvidia<minor>; else the section's number
 *   serial = 1324…                              else not supported
 *   pci_device_id = 26b910de                    hexadecimal, device before vendor, as NVML has it
 *   pci_subsystem_id = 185210de
 *   compute_capability = 8.9
 *   utilization = 30                            percent; memory_utilization likewise
 *   persistence = on                            until a program sets it
 *   state = lost                                or ok: every call about it fails with GPU_IS_LOST
 *   mig = on                                    or off, or unsupported (as if not there)
 *   mig_pending = off                           else as mig
 *   mig_device = gi=1 ci=0 profile=1g.5gb memory_mib=4864 uuid=MIG-…
 *   process = compute 4321 used_mib=300 sm=40 memory=10 gi=1 ci=0       compute, graphics, mps, joined by +
 *   event = 1 xid 79 gi=1 ci=0                  xid, single_bit_ecc, double_bit_ecc; delivered in the order of the
 *                                               numbers, once to whoever had registered before it was in the file
 *   fail = nvmlDeviceGetMemoryInfo NO_PERMISSION
 */
#include "nvml_view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB(number) ((unsigned long long)(number) << 20)
static struct nv_view fresh;
static const char *complaint;

static bool wrong(const char *why) {
    complaint = why;
    return false;
}

static const struct {
    const char *name;
    nvmlReturn_t result;
} errors[] = {
    { "UNINITIALIZED", NVML_ERROR_UNINITIALIZED }, { "INVALID_ARGUMENT", NVML_ERROR_INVALID_ARGUMENT }, { "NOT_SUPPORTED", NVML_ERROR_NOT_SUPPORTED },
    { "NO_PERMISSION", NVML_ERROR_NO_PERMISSION }, { "NOT_FOUND", NVML_ERROR_NOT_FOUND }, { "INSUFFICIENT_POWER", NVML_ERROR_INSUFFICIENT_POWER },
    { "DRIVER_NOT_LOADED", NVML_ERROR_DRIVER_NOT_LOADED }, { "TIMEOUT", NVML_ERROR_TIMEOUT }, { "IRQ_ISSUE", NVML_ERROR_IRQ_ISSUE },
    { "LIBRARY_NOT_FOUND", NVML_ERROR_LIBRARY_NOT_FOUND }, { "CORRUPTED_INFOROM", NVML_ERROR_CORRUPTED_INFOROM }, { "GPU_IS_LOST", NVML_ERROR_GPU_IS_LOST },
    { "RESET_REQUIRED", NVML_ERROR_RESET_REQUIRED }, { "OPERATING_SYSTEM", NVML_ERROR_OPERATING_SYSTEM },
    { "LIB_RM_VERSION_MISMATCH", NVML_ERROR_LIB_RM_VERSION_MISMATCH }, { "IN_USE", NVML_ERROR_IN_USE }, { "MEMORY", NVML_ERROR_MEMORY },
    { "NO_DATA", NVML_ERROR_NO_DATA }, { "NOT_READY", NVML_ERROR_NOT_READY }, { "UNKNOWN", NVML_ERROR_UNKNOWN },
};

static bool read_number(const char *text, unsigned long long most, unsigned long long *number) {
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return *text && *text != '-' && !*end && errno == 0 && *number <= most ? true : wrong("not a number, or too big a one");
}

static bool read_unsigned(const char *text, unsigned int most, unsigned int *number) {
    unsigned long long wide;
    if (!read_number(text, most, &wide)) return false;
    *number = (unsigned int)wide;
    return true;
}

static bool read_mib(const char *text, unsigned long long *bytes) {
    unsigned long long mib;
    if (!read_number(text, 1ull << 30, &mib)) return false;
    *bytes = MIB(mib);
    return true;
}

static bool read_hexadecimal(const char *text, unsigned int *number) {
    char *end;
    *number = (unsigned int)strtoul(text, &end, 16);
    return *text && !*end ? true : wrong("not a hexadecimal number");
}

static bool read_text(const char *text, char *to, size_t room) {
    return *text && (size_t)snprintf(to, room, "%s", text) < room ? true : wrong("empty, or too long");
}

static bool read_switch(const char *text, bool *on) {
    *on = strcmp(text, "on") == 0;
    return *on || strcmp(text, "off") == 0 ? true : wrong("neither on nor off");
}

static bool read_refusal(char *text, int gpu) {
    char *error = strchr(text, ' ');
    if (!error) return wrong("wants a function and an error, such as nvmlInit DRIVER_NOT_LOADED");
    if (fresh.refusal_count == NV_REFUSALS) return wrong("too many");
    *error++ = 0;
    struct nv_refusal *r = &fresh.refusal[fresh.refusal_count];
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        if (strcmp(errors[i].name, error) != 0) continue;
        r->gpu = gpu;
        r->result = errors[i].result;
        fresh.refusal_count++;
        return read_text(text, r->symbol, sizeof r->symbol);
    }
    return wrong("no error of NVML's");
}

/* The words of `key=value` that a line ends with, by name. NULL in `to`: a number is not asked for here. */
struct field {
    const char *name;
    unsigned int *number;
    unsigned long long *mib;
    char *text;
    size_t room;
    bool given;
};

static bool read_fields(char *text, struct field *fields, size_t count) {
    char *at = NULL;
    for (char *word = strtok_r(text, " ", &at); word; word = strtok_r(NULL, " ", &at)) {
        char *value = strchr(word, '=');
        if (!value) return wrong("wants name=value");
        *value++ = 0;
        size_t i = 0;
        while (i < count && strcmp(fields[i].name, word) != 0) i++;
        if (i == count) return wrong("no such name=value");
        fields[i].given = true;
        if (fields[i].number && !read_unsigned(value, 0xFFFFFFFEu, fields[i].number)) return false;
        if (fields[i].mib && !read_mib(value, fields[i].mib)) return false;
        if (fields[i].text && !read_text(value, fields[i].text, fields[i].room)) return false;
    }
    return true;
}

static bool read_mig_device(char *text, int gpu) {
    if (fresh.mig_count == NV_MIGS) return wrong("too many");
    struct nv_mig *m = &fresh.mig[fresh.mig_count++];
    struct field fields[] = { { "gi", .number = &m->gi }, { "ci", .number = &m->ci }, { "memory_mib", .mib = &m->bytes },
                             { "profile", .text = m->profile, .room = sizeof m->profile }, { "uuid", .text = m->uuid, .room = sizeof m->uuid } };
    m->gpu = gpu;
    if (!read_fields(text, fields, 5)) return false;
    for (int i = 0; i < 5; i++)
        if (!fields[i].given) return wrong("wants gi=, ci=, profile=, memory_mib= and uuid=");
    return true;
}

static bool read_process(char *text, int gpu) {
    if (fresh.process_count == NV_PROCESSES) return wrong("too many");
    struct nv_process *p = &fresh.process[fresh.process_count++];
    *p = (struct nv_process){ .gpu = gpu, .gi = NV_NO_INSTANCE, .ci = NV_NO_INSTANCE, .bytes = NV_BYTES_UNKNOWN };
    struct field fields[] = { { "gi", .number = &p->gi }, { "ci", .number = &p->ci }, { "sm", .number = &p->sm },
                             { "memory", .number = &p->memory }, { "used_mib", .mib = &p->bytes } };
    char *rest = NULL, *kinds = strtok_r(text, " ", &rest), *pid = strtok_r(NULL, " ", &rest), *at = NULL;
    for (char *kind = kinds ? strtok_r(kinds, "+", &at) : NULL; kind; kind = strtok_r(NULL, "+", &at)) {
        unsigned int known = strcmp(kind, "compute") == 0 ? NV_COMPUTE : strcmp(kind, "graphics") == 0 ? NV_GRAPHICS : strcmp(kind, "mps") == 0 ? NV_MPS : 0;
        if (!known) return wrong("a process is compute, graphics or mps, or several joined by +");
        p->kinds |= known;
    }
    if (!pid || !read_unsigned(pid, 1u << 22, &p->pid)) return wrong("wants a pid");
    return read_fields(rest, fields, 5);
}

static bool read_event(char *text, int gpu) {
    static const struct {
        const char *name;
        unsigned long long type;
    } types[] = { { "xid", nvmlEventTypeXidCriticalError }, { "single_bit_ecc", nvmlEventTypeSingleBitEccError },
                  { "double_bit_ecc", nvmlEventTypeDoubleBitEccError } };
    if (fresh.event_count == NV_EVENTS) return wrong("too many");
    struct nv_event *e = &fresh.event[fresh.event_count++];
    *e = (struct nv_event){ .gpu = gpu, .gi = NV_NO_INSTANCE, .ci = NV_NO_INSTANCE };
    struct field fields[] = { { "gi", .number = &e->gi }, { "ci", .number = &e->ci } };
    char *rest = NULL, *number = strtok_r(text, " ", &rest), *type = strtok_r(NULL, " ", &rest);
    if (!number || !type || !read_number(number, UINT64_MAX, &e->number) || e->number == 0) return wrong("wants a number from 1 and a type, such as 1 xid 79");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(types[i].name, type) == 0) e->type = types[i].type;
    if (!e->type) return wrong("an event is xid, single_bit_ecc or double_bit_ecc");
    if (e->type == nvmlEventTypeXidCriticalError) {
        char *xid = strtok_r(NULL, " ", &rest);
        if (!xid || !read_number(xid, 999, &e->data)) return wrong("wants the Xid's number");
    }
    return read_fields(rest, fields, 2);
}

static bool read_mig_mode(const char *text, struct nv_gpu *gpu) {
    gpu->can_mig = strcmp(text, "unsupported") != 0;
    if (gpu->can_mig && !read_switch(text, &gpu->mig)) return wrong("on, off or unsupported");
    gpu->mig_pending = gpu->mig;
    return true;
}

static bool read_of_gpu(const char *name, char *text, struct nv_gpu *gpu, int index) {
    if (strcmp(name, "uuid") == 0) return read_text(text, gpu->uuid, sizeof gpu->uuid);
    if (strcmp(name, "model") == 0) return read_text(text, gpu->model, sizeof gpu->model);
    if (strcmp(name, "serial") == 0) return read_text(text, gpu->serial, sizeof gpu->serial);
    if (strcmp(name, "memory_mib") == 0) return read_mib(text, &gpu->bytes);
    if (strcmp(name, "reserved_mib") == 0) return read_mib(text, &gpu->reserved);
    if (strcmp(name, "used_mib") == 0) return gpu->used_is_told = true, read_mib(text, &gpu->used);
    if (strcmp(name, "minor") == 0) return read_unsigned(text, 255, &gpu->minor);
    if (strcmp(name, "pci_device_id") == 0) return read_hexadecimal(text, &gpu->pci_device_id);
    if (strcmp(name, "pci_subsystem_id") == 0) return read_hexadecimal(text, &gpu->pci_subsystem_id);
    if (strcmp(name, "utilization") == 0) return read_unsigned(text, 100, &gpu->percent);
    if (strcmp(name, "memory_utilization") == 0) return read_unsigned(text, 100, &gpu->memory_percent);
    if (strcmp(name, "persistence") == 0) return read_switch(text, &gpu->persistent);
    if (strcmp(name, "mig") == 0) return read_mig_mode(text, gpu);
    if (strcmp(name, "mig_pending") == 0) return read_switch(text, &gpu->mig_pending);
    if (strcmp(name, "mig_device") == 0) return read_mig_device(text, index);
    if (strcmp(name, "process") == 0) return read_process(text, index);
    if (strcmp(name, "event") == 0) return read_event(text, index);
    if (strcmp(name, "fail") == 0) return read_refusal(text, index);
    if (strcmp(name, "state") == 0) {
        gpu->lost = strcmp(text, "lost") == 0;
        return gpu->lost || strcmp(text, "ok") == 0 ? true : wrong("ok or lost");
    }
    if (strcmp(name, "compute_capability") == 0) {
        int end = 0;
        bool read = sscanf(text, "%d.%d%n", &gpu->capability_major, &gpu->capability_minor, &end) == 2 && !text[end];
        return read ? true : wrong("wants two numbers, such as 8.9");
    }
    return wrong("no such line in a section [gpu …]");
}

static bool read_of_system(const char *name, char *text) {
    unsigned int version;
    if (strcmp(name, "driver_version") == 0) return read_text(text, fresh.driver_version, sizeof fresh.driver_version);
    if (strcmp(name, "nvml_version") == 0) return read_text(text, fresh.nvml_version, sizeof fresh.nvml_version);
    if (strcmp(name, "fail") == 0) return read_refusal(text, NV_ANY_GPU);
    if (strcmp(name, "cuda_version") != 0) return wrong("no such line in the section [system]");
    if (!read_unsigned(text, 1000000, &version)) return false;
    fresh.cuda_version = (int)version;
    return true;
}

static bool complete(void) {
    for (int i = 0; i < fresh.gpu_count; i++) {
        const struct nv_gpu *gpu = &fresh.gpu[i];
        if (!gpu->uuid[0] || !gpu->model[0] || !gpu->bytes) return wrong("a GPU without uuid, model or memory_mib ends before this line");
        for (int j = 0; j < i; j++)
            if (nv_same_address(&fresh.gpu[j].address, &gpu->address)) return wrong("the address of a GPU comes twice");
    }
    return true;
}

static bool begin_section(const char *line) {
    int end = 0;
    if (strcmp(line, "[system]") == 0) return true;
    if (fresh.gpu_count == NV_GPUS) return wrong("too many GPUs");
    struct nv_gpu *gpu = &fresh.gpu[fresh.gpu_count];
    *gpu = (struct nv_gpu){ .minor = (unsigned int)fresh.gpu_count };
    if (sscanf(line, "[gpu %x:%x:%x.0]%n", &gpu->address.domain, &gpu->address.bus, &gpu->address.device, &end) != 3 || end == 0 || line[end])
        return wrong("neither [system] nor [gpu ADDRESS] with an address such as 0000:00:10.0");
    fresh.gpu_count++;
    return true;
}

static char *trimmed(char *text) {
    while (*text == ' ' || *text == '\t') text++;
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1])) text[--length] = 0;
    return text;
}

static bool read_line(char *line, bool *in_gpu, bool *in_section) {
    if (line[0] == 0 || line[0] == '#') return true;
    if (line[0] == '[') {
        *in_section = true;
        *in_gpu = strcmp(line, "[system]") != 0;
        return begin_section(line);
    }
    char *value = strchr(line, '=');
    if (!*in_section) return wrong("before any section");
    if (!value) return wrong("wants name = value");
    *value++ = 0;
    const char *name = trimmed(line);
    return *in_gpu ? read_of_gpu(name, trimmed(value), &fresh.gpu[fresh.gpu_count - 1], fresh.gpu_count - 1) : read_of_system(name, trimmed(value));
}

static bool read_file(FILE *file, const char *path) {
    char line[512];
    bool in_gpu = false, in_section = false, good = true;
    int number = 0;
    memset(&fresh, 0, sizeof fresh);
    while (good && fgets(line, sizeof line, file)) {
        number++;
        good = strchr(line, '\n') ? read_line(trimmed(line), &in_gpu, &in_section) : wrong("too long a line, or the last one is not ended");
    }
    if (good && !in_section) good = wrong("nothing in it");
    if (good) good = complete();
    if (!good) fprintf(stderr, "fake NVML: %s:%d: %s\n", path, number, complaint);
    return good;
}

static nvmlReturn_t refresh(void) {
    static struct stat seen;
    static bool good;
    const char *path = getenv("FAKE_NVML_STATE");
    /* A FIFO without a writer would hold the caller up; of a regular file O_NONBLOCK says nothing. */
    int descriptor = path ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "r");
    if (!file) {
        if (descriptor >= 0) close(descriptor);
        good = false;
        memset(&seen, 0, sizeof seen);
        memset(&nv_view, 0, sizeof nv_view);
        return NVML_ERROR_DRIVER_NOT_LOADED;
    }
    struct stat now;
    bool same = fstat(fileno(file), &now) == 0 && now.st_ino == seen.st_ino && now.st_dev == seen.st_dev && now.st_size == seen.st_size &&
                now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec;
    if (!same) {
        seen = now;
        good = S_ISREG(now.st_mode) && read_file(file, path);
        if (!S_ISREG(now.st_mode)) fprintf(stderr, "fake NVML: %s is no regular file\n", path);
        if (good) nv_view = fresh;
    }
    fclose(file);
    return good ? NVML_SUCCESS : NVML_ERROR_UNKNOWN;
}

static int processes(int gpu, struct nv_process *found) {
    int count = 0;
    for (int i = 0; i < nv_view.process_count; i++)
        if (nv_view.process[i].gpu == gpu) found[count++] = nv_view.process[i];
    return count;
}

static unsigned long long used(int gpu) {
    unsigned long long sum = 0;
    if (nv_view.gpu[gpu].used_is_told) return nv_view.gpu[gpu].used;
    for (int i = 0; i < nv_view.process_count; i++)
        if (nv_view.process[i].gpu == gpu && nv_view.process[i].bytes != NV_BYTES_UNKNOWN) sum += nv_view.process[i].bytes;
    return sum;
}

static unsigned int percent(int gpu) { return nv_view.gpu[gpu].percent; }

const struct nv_source nv_file = { refresh, processes, processes, used, percent };
