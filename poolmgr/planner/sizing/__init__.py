"""How many GPUs to have ready for VMs: from the pool's spec, a forecast, or the last hour."""
