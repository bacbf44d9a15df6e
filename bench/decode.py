"""Plain greedy decoding of a checkpoint in PyTorch: a Llama with a static key/value cache, one token per forward.

eager     as it is
compile   the forward under torch.compile
"""

import json
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from serve import read_tensors, serve
from step import rotate


class Decoder:
    """Trunk and head 1; caches of `capacity` positions."""

    def __init__(self, folder, dtype):
        checkpoint = next(Path(folder, "checkpoints").iterdir())
        self.config = json.loads(Path(checkpoint, "config.json").read_text())
        self.weights = {
            name: tensor.to(dtype)
            for name, tensor in read_tensors(Path(checkpoint, "model.safetensors")).items()
            if not name.startswith("extra_heads")
        }
        self.layers = self.config["num_hidden_layers"]
        self.heads = self.config["num_attention_heads"]
        self.width = self.config["hidden_size"] // self.heads
        self.capacity = self.config["max_position_embeddings"]
        self.caches = torch.zeros(self.layers, 2, self.heads, self.capacity, self.width, dtype=dtype)
        frequency = self.config["rope_theta"] ** (-torch.arange(0, self.width, 2) / self.width)
        angle = torch.outer(torch.arange(self.capacity), frequency).repeat(1, 2)
        self.rotation = (angle.cos().to(dtype), angle.sin().to(dtype))
        self.forward = self.logits

    def norm(self, x, name):
        return F.rms_norm(x, x.shape[-1:], self.weights[name], self.config["rms_norm_eps"])

    def project(self, x, name):
        return F.linear(x, self.weights[name])

    def logits(self, tokens, positions, mask):
        """tokens, positions (T), mask (T, capacity) → logits (V) after the last."""
        x = F.embedding(tokens, self.weights["model.embed_tokens.weight"])
        rotation = tuple(each[positions] for each in self.rotation)
        for i in range(self.layers):
            prefix = f"model.layers.{i}."
            normed = self.norm(x, prefix + "input_layernorm.weight")
            q, k, v = (
                self.project(normed, f"{prefix}self_attn.{name}_proj.weight").view(-1, self.heads, self.width).transpose(0, 1)
                for name in "qkv"
            )
            keys, values = self.caches[i]
            keys.index_copy_(1, positions, rotate(k, rotation))
            values.index_copy_(1, positions, v)
            mixed = F.scaled_dot_product_attention(rotate(q, rotation), keys, values, attn_mask=mask)
            x = x + self.project(mixed.transpose(0, 1).flatten(1), prefix + "self_attn.o_proj.weight")
            normed = self.norm(x, prefix + "post_attention_layernorm.weight")
            gated = F.silu(self.project(normed, prefix + "mlp.gate_proj.weight"))
            x = x + self.project(gated * self.project(normed, prefix + "mlp.up_proj.weight"), prefix + "mlp.down_proj.weight")
        return self.project(self.norm(x[-1], "model.norm.weight"), "lm_head.weight")

    @torch.inference_mode()
    def write(self, prompt, length):
        """The tokens, and the ms from the first of them to the last."""
        mask = torch.ones(self.capacity, self.capacity, dtype=torch.bool).tril_()
        positions = torch.arange(len(prompt))
        token = self.logits(torch.tensor(prompt), positions, mask[positions]).argmax()
        tokens = [token.item()]
        began = time.perf_counter()
        for position in range(len(prompt), len(prompt) + length - 1):
            at = torch.tensor([position])
            token = self.forward(token.view(1), at, mask[at]).argmax()
            tokens.append(token.item())
        return tokens, (time.perf_counter() - began) * 1000


decoders = {}
lengths = {}


def open_decoder(request):
    decoder = Decoder(request["folder"], {"bf16": torch.bfloat16, "f32": torch.float32}[request["dtype"]])
    if request["way"] == "compile":
        decoder.forward = torch.compile(decoder.logits, dynamic=False)
    decoders[request["way"]], lengths[request["way"]] = decoder, request["length"]
    return {}


def write(request):
    decoder, length = decoders[request["way"]], lengths[request["way"]]
    written = [decoder.write(prompt, length) for prompt in request["prompts"]]
    ms = sum(ms for _, ms in written) / (len(written) * (length - 1))
    return {"tokens": [tokens for tokens, _ in written], "ms": ms}


if __name__ == "__main__":
    serve({"open": open_decoder, "write": write})
