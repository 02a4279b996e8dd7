"""Writes tests/fixtures/train.json: what PyTorch says of the trainer's mathematics, at toy size, in float64.

    python recipe/fixtures.py            (needs torch; run once, the file is kept with the tests)

Weights, token ids and log-probabilities come from one integer generator that the Rust test has as well
(`src/train/reference/torch.rs`), so the file holds settings and results only. Tensors are in GGUF's layout and
names; architecture llama rotates pairs (2i, 2i + 1), the others (i, i + d/2).
"""

import json
import math
import pathlib

import torch

torch.set_default_dtype(torch.float64)

HIDDEN, HEADS, HEADS_KV, HEAD, FEED, BLOCKS, VOCABULARY = 16, 4, 2, 4, 24, 2, 40
RANK, ALPHA, TEMPERATURE, EPSILON, ROPE_BASE = 2, 4.0, 0.7, 1e-6, 10000.0
KL_BETA, CLIP_LOW, CLIP_HIGH, DUAL_CLIP, CAP, TOKENS = 0.05, 0.2, 0.3, 3.0, 2.0, 16.0


class Numbers:
    """A 32-bit linear congruential generator; values in -0.5..0.5."""

    def __init__(self, seed):
        self.state = seed

    def draw(self):
        self.state = (self.state * 1664525 + 1013904223) % 2**32
        return (self.state >> 8) / 2**24 - 0.5

    def tensor(self, *shape, scale=1.0, shift=0.0):
        count = math.prod(shape)
        return torch.tensor([shift + scale * self.draw() for _ in range(count)]).reshape(shape)

    def ids(self, count):
        return [int((self.draw() + 0.5) * VOCABULARY) for _ in range(count)]


LINEARS = {
    "attn_q": (HEADS * HEAD, HIDDEN),
    "attn_k": (HEADS_KV * HEAD, HIDDEN),
    "attn_v": (HEADS_KV * HEAD, HIDDEN),
    "attn_output": (HIDDEN, HEADS * HEAD),
    "ffn_gate": (FEED, HIDDEN),
    "ffn_up": (FEED, HIDDEN),
    "ffn_down": (HIDDEN, FEED),
}


def make_model(arch, numbers):
    model = {"arch": arch, "embedding": numbers.tensor(VOCABULARY, HIDDEN, scale=2.0)}
    model["head"] = numbers.tensor(VOCABULARY, HIDDEN, scale=2.0) if arch == "llama" else model["embedding"]
    model["output_norm"] = numbers.tensor(HIDDEN, scale=0.5, shift=1.0)
    model["blocks"] = []
    for _ in range(BLOCKS):
        block = {"attn_norm": numbers.tensor(HIDDEN, scale=0.5, shift=1.0)}
        block["ffn_norm"] = numbers.tensor(HIDDEN, scale=0.5, shift=1.0)
        for name, (rows, columns) in LINEARS.items():
            block[name] = numbers.tensor(rows, columns, scale=1.0)
            if arch == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                block[name + ".bias"] = numbers.tensor(rows, scale=0.5)
        if arch == "qwen3":
            block["q_norm"] = numbers.tensor(HEAD, scale=0.5, shift=1.0)
            block["k_norm"] = numbers.tensor(HEAD, scale=0.5, shift=1.0)
        model["blocks"].append(block)
    return model


def make_adapter(numbers, scale):
    pairs = []
    for _ in range(BLOCKS):
        for rows, columns in LINEARS.values():
            pairs.append([numbers.tensor(RANK, columns, scale=scale), numbers.tensor(rows, RANK, scale=scale)])
    return pairs


def rms_norm(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPSILON) * weight


def rope(x, neox):
    tokens, _, width = x.shape
    angles = torch.arange(tokens)[:, None] * ROPE_BASE ** (-2.0 * torch.arange(width // 2) / width)[None]
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    a, b = (x[..., : width // 2], x[..., width // 2 :]) if neox else (x[..., 0::2], x[..., 1::2])
    turned = (a * cos - b * sin, a * sin + b * cos)
    return torch.cat(turned, -1) if neox else torch.stack(turned, -1).flatten(-2)


def forward(model, adapter, ids):
    """Logits of every position."""
    x = model["embedding"][torch.tensor(ids)]
    neox = model["arch"] != "llama"
    mask = torch.full((len(ids), len(ids)), -math.inf).triu(1)
    for index, block in enumerate(model["blocks"]):

        def linear(name, x):
            y = x @ block[name].T + block.get(name + ".bias", 0.0)
            if adapter is None:
                return y
            a, b = adapter[index * len(LINEARS) + list(LINEARS).index(name)]
            return y + ALPHA / RANK * (x @ a.T) @ b.T

        h = rms_norm(x, block["attn_norm"])
        q = linear("attn_q", h).view(len(ids), HEADS, HEAD)
        k = linear("attn_k", h).view(len(ids), HEADS_KV, HEAD)
        v = linear("attn_v", h).view(len(ids), HEADS_KV, HEAD)
        if "q_norm" in block:
            q, k = rms_norm(q, block["q_norm"]), rms_norm(k, block["k_norm"])
        q, k = rope(q, neox).transpose(0, 1), rope(k, neox).transpose(0, 1)
        k, v = (t.repeat_interleave(HEADS // HEADS_KV, 0) for t in (k, v.transpose(0, 1)))
        shares = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(HEAD) + mask, -1)
        x = x + linear("attn_output", (shares @ v).transpose(0, 1).flatten(1))
        h = rms_norm(x, block["ffn_norm"])
        x = x + linear("ffn_down", torch.nn.functional.silu(linear("ffn_gate", h)) * linear("ffn_up", h))
    return rms_norm(x, model["output_norm"]) @ model["head"].T


def logprobs(model, adapter, rows):
    found = []
    for prompt, sampled in rows:
        logits = forward(model, adapter, prompt + sampled[:-1])[len(prompt) - 1 :]
        found.append(torch.log_softmax(logits / TEMPERATURE, -1).gather(1, torch.tensor(sampled)[:, None])[:, 0])
    return torch.cat(found)


def advantages(mode, rewards, turns):
    if mode == "reference":
        over = torch.tensor(rewards).repeat_interleave(torch.tensor(turns))
        return (torch.tensor(rewards) - over.mean()) / (over.std() + 1e-6)
    over = torch.tensor(rewards)
    return (over - over.mean()) / over.std()


def objective(mode, batch, logp, old, mu, reference):
    """J, and what is counted beside it. Written with autograd's detach, not with the derivative."""
    rho = (logp - old).exp()
    advantage, share = [], []
    for index, (rollout, sampled) in enumerate(zip(batch["rollout_of_row"], batch["sampled_of_row"])):
        rollouts = len(batch["rewards"])
        turns = batch["rollout_of_row"].count(rollout)
        each = {"flow": 1 / rollouts / TOKENS, "paper": 1 / rollouts / turns / sampled}
        each["reference"] = 1 / sum(batch["sampled_of_row"])
        advantage += [batch["advantages"][rollout]] * sampled
        share += [each[mode]] * sampled
    advantage, share = torch.tensor(advantage), torch.tensor(share)
    surrogate = torch.minimum(rho * advantage, rho.clamp(1 - CLIP_LOW, 1 + CLIP_HIGH) * advantage)
    plain = rho * advantage
    if mode == "reference":
        surrogate = torch.where(advantage < 0, torch.maximum(surrogate, DUAL_CLIP * advantage), surrogate)
    apart = logp - reference
    k3 = (-apart).exp() + apart - 1
    kl = k3
    w, v = torch.ones(()), torch.ones(())
    if mode != "reference":
        k2 = apart.pow(2) / 2
        kl = k2 + (k3 - k2).detach()
        w, v = (old - mu).exp().clamp(max=CAP), (logp - mu).exp().clamp(max=CAP).detach()
    value = (share * (w * surrogate - KL_BETA * v * kl)).sum()
    clipped = (surrogate != plain).double().mean().item()
    stats = {"objective": value.item(), "kl_mean": k3.mean().item(), "ratio_mean": rho.mean().item()}
    stats |= {"ratio_most": rho.max().item(), "clip_share": clipped}
    return value, stats


def case(arch, mode, seed):
    numbers = Numbers(seed)
    model = make_model(arch, numbers)
    adapter = make_adapter(numbers, 0.6)
    before = [[t + 0.12 * numbers.tensor(*t.shape) for t in pair] for pair in adapter]
    prompt = numbers.ids(5)
    rows = [(prompt, numbers.ids(4)), (prompt, numbers.ids(6))]
    rows.append((prompt + numbers.ids(3), numbers.ids(3)))
    rows.append((numbers.ids(2), numbers.ids(5)))
    rewards, turns = [1.0, 0.0, 0.0], [1, 2, 1]
    sampled = [len(row[1]) for row in rows]
    with torch.no_grad():
        old = logprobs(model, before, rows).float().double()
        reference = logprobs(model, None, rows).float().double()
        mu = (old + 0.05 * numbers.tensor(len(old))).float().double()
    batch = {"rewards": rewards, "rollout_of_row": [0, 1, 1, 2], "sampled_of_row": sampled}
    batch["advantages"] = advantages(mode, rewards, turns).tolist()
    leaves = [t.clone().requires_grad_() for pair in adapter for t in pair]
    pairs = [[leaves[2 * i], leaves[2 * i + 1]] for i in range(len(adapter))]
    logp = logprobs(model, pairs, rows)
    value, stats = objective(mode, batch, logp, old, mu, reference)
    value.backward()
    gradient = torch.cat([leaf.grad.flatten() for leaf in leaves])
    return {
        "architecture": arch,
        "mode": mode,
        "seed": seed,
        "advantages": batch["advantages"],
        "logprobs": logp.tolist(),
        "old": old.tolist(),
        "reference": reference.tolist(),
        "stats": stats,
        "gradients": gradient.tolist(),
    }


def adamw():
    """Three steps of torch's AdamW in float32, going up, with the gradient's length cut."""
    numbers = Numbers(77)
    settings = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.98, "epsilon": 1e-8, "weight_decay": 0.1}
    values = torch.nn.Parameter(numbers.tensor(24).float())
    optimizer = torch.optim.AdamW(
        [values],
        lr=settings["learning_rate"],
        betas=(settings["beta1"], settings["beta2"]),
        eps=settings["epsilon"],
        weight_decay=settings["weight_decay"],
        maximize=True,
        foreach=False,
    )
    steps = []
    for scale in (1.0, 0.2, 3.0):
        values.grad = numbers.tensor(24, scale=scale).float()
        norm = torch.nn.utils.clip_grad_norm_([values], 1.0)
        optimizer.step()
        steps.append({"gradient_norm": norm.item(), "values": values.tolist()})
    return {"settings": settings | {"norm_most": 1.0}, "steps": steps}


def main():
    cases = [case("llama", "flow", 1), case("qwen2", "paper", 2), case("qwen3", "reference", 3)]
    found = {"torch": torch.__version__, "script": "recipe/fixtures.py", "cases": cases, "adamw": adamw()}
    path = pathlib.Path(__file__).parent.parent / "tests" / "fixtures" / "train.json"
    path.write_text(json.dumps(found, indent=None, separators=(",", ":")).replace('{"architecture"', '\n{"architecture"') + "\n")
    for one in cases:
        print(one["architecture"], one["mode"], one["stats"])


if __name__ == "__main__":
    main()
