#define _GNU_SOURCE
#include "symbols.h"

#include <link.h>

ph_dlsym_function ph_next_dlsym;
ph_dlvsym_function ph_next_dlvsym;

/* glibc's own dlsym without calling any dlsym: walk libc's (or libdl's) symbol table. It may be asked for before
 * any library is initialised, so nothing here calls another, and sanitizers (whose runtimes ask) stay out. */
PH_BARE uint32_t ph_symbol_hash(const char *name) {
    uint32_t h = 5381;
    for (; *name; name++) h = h * 33 + (unsigned char)*name;
    return h;
}

PH_BARE static bool same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

PH_BARE static void *table_find(const struct link_map *map, const char *name) {
    const ElfW(Sym) *symbols = NULL;
    const char *strings = NULL;
    const uint32_t *table = NULL;
    for (const ElfW(Dyn) *dynamic = map->l_ld; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        if (dynamic->d_tag == DT_SYMTAB) symbols = (const void *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_STRTAB) strings = (const void *)dynamic->d_un.d_ptr;
        if (dynamic->d_tag == DT_GNU_HASH) table = (const void *)dynamic->d_un.d_ptr;
    }
    /* glibc stores relocated addresses there; musl offsets, and its libc is none we look into */
    if (!symbols || !strings || !table || (uintptr_t)symbols < map->l_addr) return NULL;
    uint32_t buckets = table[0], first = table[1], words = table[2];
    const uint32_t *bucket = (const uint32_t *)((const ElfW(Addr) *)(table + 4) + words);
    const uint32_t *chain = bucket + buckets;
    uint32_t hash = ph_symbol_hash(name), index = buckets ? bucket[hash % buckets] : 0;
    if (index < first) return NULL;
    for (;; index++) {
        uint32_t link = chain[index - first];
        const ElfW(Sym) *symbol = &symbols[index];
        if ((link | 1) == (hash | 1) && symbol->st_shndx != SHN_UNDEF && same(strings + symbol->st_name, name))
            return (void *)(map->l_addr + symbol->st_value);
        if (link & 1) return NULL;
    }
}

PH_BARE static bool is_libc(const char *path) {
    const char *name = path;
    for (const char *at = path; *at; at++)
        if (*at == '/') name = at + 1;
    return ph_starts(name, "libc.so") || ph_starts(name, "libc-2.") || ph_starts(name, "libdl");
}

/* The linker's list of libraries: libc is near its front, and what is loaded meanwhile goes to its end. */
PH_BARE static void find_next(void) {
    void *found_dlsym = NULL, *found_dlvsym = NULL;
    for (const struct link_map *map = _r_debug.r_map; map && !(found_dlsym && found_dlvsym); map = map->l_next) {
        if (!map->l_name || !is_libc(map->l_name)) continue;
        if (!found_dlsym) found_dlsym = table_find(map, "dlsym");
        if (!found_dlvsym) found_dlvsym = table_find(map, "dlvsym");
    }
    __atomic_store_n(&ph_next_dlvsym, (ph_dlvsym_function)found_dlvsym, __ATOMIC_RELAXED);
    __atomic_store_n(&ph_next_dlsym, (ph_dlsym_function)found_dlsym, __ATOMIC_RELEASE);
}

PH_BARE ph_dlsym_function ph_glibc_dlsym(void) {
    ph_dlsym_function found = __atomic_load_n(&ph_next_dlsym, __ATOMIC_ACQUIRE);
    if (PH_UNLIKELY(!found)) {
        find_next();
        found = __atomic_load_n(&ph_next_dlsym, __ATOMIC_ACQUIRE);
    }
    return found;
}
