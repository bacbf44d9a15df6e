"""The training step of step.ts in PyTorch: a Llama trunk, n parallel heads of one layer each, a shared final norm and
unembedding, AdamW with clipping. Ways to run it:

naive       the sum of the heads' losses, full logits of every head, one backward
compile     the same under torch.compile
sequential  the paper's: trunk forward, cut, each head forward and backward in turn, trunk backward (arXiv 2404.19737)
"""

import gc

import torch
import torch.nn.functional as F
from torch import nn

from serve import forget_high_water, milliseconds, process_bytes, read_tensors, serve


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hiddenSize"], config["intermediateSize"]
        self.heads, self.eps = config["numAttentionHeads"], config["rmsNormEps"]
        self.input_layernorm = nn.RMSNorm(width, eps=self.eps)
        self.post_attention_layernorm = nn.RMSNorm(width, eps=self.eps)
        self.self_attn = nn.ModuleDict({f"{name}_proj": nn.Linear(width, width, bias=False) for name in "qkvo"})
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(width, inner, bias=False),
                "up_proj": nn.Linear(width, inner, bias=False),
                "down_proj": nn.Linear(inner, width, bias=False),
            }
        )

    def forward(self, x, rotation):
        batch, length, width = x.shape
        normed = self.input_layernorm(x)
        q, k, v = (
            self.self_attn[f"{name}_proj"](normed).view(batch, length, self.heads, -1).transpose(1, 2) for name in "qkv"
        )
        mixed = F.scaled_dot_product_attention(rotate(q, rotation), rotate(k, rotation), v, is_causal=True)
        x = x + self.self_attn["o_proj"](mixed.transpose(1, 2).reshape(batch, length, width))
        normed = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](F.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed))


def rotate(x, rotation):
    """Rotary embedding of halves, as in Llama (arXiv 2104.09864); in x's dtype."""
    cosine, sine = (each.to(x.dtype) for each in rotation)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width, layers = config["hiddenSize"], config["trunkLayers"]
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocabSize"], width)
        self.model.layers = nn.ModuleList(Layer(config) for _ in range(layers + 1))
        self.model.norm = nn.RMSNorm(width, eps=config["rmsNormEps"])
        self.extra_heads = nn.ModuleList(Layer(config) for _ in range(config["futureTokens"] - 1))
        self.lm_head = nn.Linear(width, config["vocabSize"], bias=False)
        head_width = width // config["numAttentionHeads"]
        frequency = config["ropeTheta"] ** (-torch.arange(0, head_width, 2) / head_width)
        angle = torch.outer(torch.arange(config["maxPositions"]), frequency).repeat(1, 2)
        self.rotation = (angle.cos(), angle.sin())

    def rotation_of(self, tokens_per_row):
        return tuple(each[:tokens_per_row] for each in self.rotation)

    def trunk(self, tokens):
        x = self.model.embed_tokens(tokens)
        for layer in self.model.layers[:-1]:
            x = layer(x, self.rotation_of(tokens.shape[1]))
        return x

    def head_loss(self, i, z, targets):
        head = self.model.layers[-1] if i == 0 else self.extra_heads[i - 1]
        hidden = self.model.norm(head(z, self.rotation_of(z.shape[1])))
        return F.cross_entropy(self.lm_head(hidden).flatten(0, 1), targets.flatten())

    def forward(self, tokens):
        """tokens (B, T + n) → the n losses."""
        n = self.config["futureTokens"]
        length = tokens.shape[1] - n
        z = self.trunk(tokens[:, :length])
        return torch.stack([self.head_loss(i, z, tokens[:, i + 1 : i + 1 + length]) for i in range(n)])


class Training:
    def __init__(self, request):
        self.model = Model(request["config"])
        if "weights" in request:
            self.model.load_state_dict(read_tensors(request["weights"]))
        self.way, self.bf16 = request["way"], request["dtype"] == "bf16"
        self.losses = torch.compile(self.model) if self.way == "compile" else self.model
        settings = request["optimizer"]
        self.clip_norm = settings["clipNorm"]
        matrices = [p for p in self.model.parameters() if p.ndim >= 2]
        vectors = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings["weightDecay"]},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings["learningRate"],
            betas=tuple(settings["betas"]),
            eps=settings["eps"],
            fused=True,
        )

    def backward(self, tokens):
        """Gradients of the sum of losses, and that sum."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            if self.way != "sequential":
                loss = self.losses(tokens).sum()
        if self.way == "sequential":
            return self.sequential_backward(tokens)
        loss.backward()
        return loss.item()

    def sequential_backward(self, tokens):
        n = self.model.config["futureTokens"]
        length = tokens.shape[1] - n
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            z = self.model.trunk(tokens[:, :length])
        cut = z.detach().requires_grad_()
        total = 0.0
        for i in range(n):
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
                loss = self.model.head_loss(i, cut, tokens[:, i + 1 : i + 1 + length])
            loss.backward()
            total += loss.item()
        z.backward(cut.grad)
        return total

    def step(self, tokens):
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(tokens)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, foreach=True)
        self.optimizer.step()
        return loss


trainings = {}


def tokens_of(request):
    return torch.tensor(request["tokens"]).view(request["batchSize"], -1)


def open_training(request):
    trainings[request["name"]] = Training(request)
    return {}


def step(request):
    tokens = tokens_of(request)
    loss, ms = milliseconds(lambda: trainings[request["name"]].step(tokens))
    return {"loss": loss, "ms": ms}


def close_training(request):
    del trainings[request["name"]]
    gc.collect()
    return {}


def memory(request):
    """Growth of VmHWM over the model's parameters, in a process that has already run the same code on a tiny model."""
    warm = Training({**request, "config": request["warmConfig"]})
    rows = torch.randint(0, 8, (2, 8 + request["warmConfig"]["futureTokens"]))
    for _ in range(2):
        warm.step(rows)
    del warm
    gc.collect()
    training = Training(request)
    tokens = tokens_of(request)
    gc.collect()
    forget_high_water()
    before = process_bytes("VmHWM")
    for _ in range(3):
        training.step(tokens)
    parameters = sum(p.numel() for p in training.model.parameters())
    return {"grown": process_bytes("VmHWM") - before, "stateBytes": 3 * 4 * parameters, "parameters": parameters}


def version(_request):
    return {"version": torch.__version__, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    serve({"open": open_training, "step": step, "close": close_training, "memory": memory, "version": version})
