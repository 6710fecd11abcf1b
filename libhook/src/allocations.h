/* What this process was charged for: every byte is an entry. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The kinds of things that hold device memory. Keys of different kinds never collide. */
enum ph_holding {
    PH_LINEAR = 1, /* freed with its context */
    PH_ARRAY,      /* freed with its context */
    PH_CONTEXT,
    PH_PHYSICAL,   /* cuMemCreate: lives while referenced or mapped */
    PH_MAPPING,    /* address → physical handle; holds no bytes itself */
    PH_BINDING,    /* multicast object and offset → physical handle */
    PH_POOL,
    PH_ASYNC,      /* pointer from a pool; holds no bytes itself, names the pool */
    PH_EXTERNAL,   /* freed with its context */
    PH_GRAPH,
    PH_OVERHEAD, /* key = ordinal: contexts and code, as measured */
};

struct ph_entry {
    uint64_t key;
    enum ph_holding holding;
    int device; /* container ordinal */
    uint64_t bytes;
    uint64_t other;      /* context, physical handle or pool, by kind */
    uint64_t size;       /* PH_ASYNC: bytes asked for, whoever is charged for them */
    int references;      /* PH_PHYSICAL: handles held plus mappings and bindings */
};

void ph_allocations_add(struct ph_entry entry);
bool ph_allocations_find(enum ph_holding holding, uint64_t key, struct ph_entry *entry);
/* Takes the entry out; false if there is none. */
bool ph_allocations_take(enum ph_holding holding, uint64_t key, struct ph_entry *entry);
/* One more handle, mapping or binding of a physical allocation; false if it is not ours to count. */
bool ph_allocations_refer(uint64_t handle);
/* One less. True when it was the last: the entry is out of the table, and the caller releases its bytes once
 * the driver has really freed the memory, so that nobody is granted the room too early. */
bool ph_allocations_unrefer(uint64_t handle, struct ph_entry *gone);
/* Changes the bytes of an entry and the account with it. */
void ph_allocations_resize(enum ph_holding holding, uint64_t key, uint64_t bytes);
/* What its pool was charged for, entry by entry: the pool is gone and they are not. */
void ph_allocations_charge_apart(enum ph_holding holding, uint64_t other);
/* Everything that dies with a context. Returns the bytes given back. */
uint64_t ph_allocations_drop_context(uint64_t context);
/* Keys of a kind with low ≤ key < high, in no order; at most `room`. */
size_t ph_allocations_keys(enum ph_holding holding, uint64_t low, uint64_t high, uint64_t *keys, size_t room);
uint64_t ph_allocations_sum(enum ph_holding holding, int device); /* bytes of a kind */
void ph_allocations_after_fork(void);
uint64_t ph_allocations_bytes(int device); /* for tests: must equal this slot's total */
