#include "gate.h"

struct ph_gate ph_gate;
