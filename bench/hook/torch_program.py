"""A PyTorch program as users write them: a small transformer that trains, or memory until there is no more.

`torch_program.py train SECONDS` prints {"steps": …, "elapsed_s": …}; `torch_program.py fill` prints
{"bytes": …, "total": …}: what could be had before the first "out of memory", and what the GPU says it has.
Run as a script; PyTorch's allocator is chosen by PYTORCH_CUDA_ALLOC_CONF.
"""

import json
import sys
import time
from typing import Any

import torch  # type: ignore[import-not-found]


def train(seconds: float) -> dict[str, Any]:
    layer = torch.nn.TransformerEncoderLayer(512, 8, 2048, batch_first=True).cuda()
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-4)
    batch = torch.randn(16, 256, 512, device="cuda")

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        layer(batch).square().mean().backward()
        optimizer.step()

    for _ in range(20):
        step()
    torch.cuda.synchronize()
    steps, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        step()
        steps += 1
        if steps % 8 == 0:
            torch.cuda.synchronize()
    torch.cuda.synchronize()
    return {"steps": steps, "elapsed_s": time.monotonic() - start}


def fill() -> dict[str, Any]:
    total = torch.cuda.mem_get_info()[1]
    held: list[torch.Tensor] = []
    try:
        while len(held) < 1 << 16:
            held.append(torch.empty(32 << 20, dtype=torch.uint8, device="cuda"))
    except torch.OutOfMemoryError:
        pass
    return {"bytes": torch.cuda.memory_reserved(), "total": total}


if __name__ == "__main__":
    result = train(float(sys.argv[2])) if sys.argv[1] == "train" else fill()
    sys.stdout.write(json.dumps(result) + "\n")
