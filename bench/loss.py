"""Linear cross-entropy forward and backward in PyTorch, the ways of loss.ts:

eager f32       full logits in f32
autocast bf16   f32 inputs, product in bf16, loss in f32
pure bf16       bf16 inputs, full logits in bf16
linear_cross_entropy f32 | bf16   F.linear_cross_entropy, in chunks, where this version has it
"""

import torch
import torch.nn.functional as F

from serve import milliseconds, read_tensors, serve


def full_logits(hidden, weight, targets):
    return F.cross_entropy(F.linear(hidden, weight), targets)


def autocast(hidden, weight, targets):
    with torch.autocast("cpu", torch.bfloat16):
        return full_logits(hidden, weight, targets)


def chunked(hidden, weight, targets):
    return F.linear_cross_entropy(hidden, weight, targets, options=torch.nn.LinearCrossEntropyOptions())


WAYS = {
    "eager f32": (full_logits, torch.float32),
    "autocast bf16": (autocast, torch.float32),
    "pure bf16": (full_logits, torch.bfloat16),
    "linear_cross_entropy f32": (chunked, torch.float32),
    "linear_cross_entropy bf16": (chunked, torch.bfloat16),
}

inputs = {}


def load(request):
    """hidden (T,d), weight (V,d), targets (T)."""
    tensors = read_tensors(request["path"])
    inputs.update(hidden=tensors["hidden"], weight=tensors["weight"], targets=torch.tensor(request["targets"]))
    return {"ways": list(WAYS)}


def run(request):
    """ms of forward and backward; the loss and the norms of both gradients when asked."""
    loss_of, dtype = WAYS[request["way"]]
    hidden, weight = (inputs[name].to(dtype).detach().requires_grad_() for name in ("hidden", "weight"))

    def forward_and_backward():
        loss = loss_of(hidden, weight, inputs["targets"])
        loss.backward()
        return loss

    loss, ms = milliseconds(forward_and_backward)
    answer = {"ms": ms}
    if request.get("values"):
        answer["values"] = [loss.item(), hidden.grad.double().norm().item(), weight.grad.double().norm().item()]
    return answer


if __name__ == "__main__":
    serve({"load": load, "run": run})
