"""The qwen2 network, written for one CPU core and batches of rows that share prefixes.

A batch is one flat list of N tokens. Rows whose prompts begin alike store the common beginning
once (causal attention makes its states the same for all of them), so a row's keys are a few spans
of the flat list. Everything but attention runs on the flat [N, C] matrix, with no padding at all.

Shapes: N tokens of the batch, C channels, H query heads, K key heads, G = H / K, D head size,
F feed-forward size, V vocabulary.
"""

import dataclasses

import torch
import torch.nn.functional as fn

BLOCK = 128  # queries that attend together
KEYS_STEP = 64  # keys are padded to a multiple: oneDNN compiles one kernel per shape


@dataclasses.dataclass
class Shape:
    vocab: int
    layers: int = 6
    width: int = 256
    heads: int = 4
    heads_kv: int = 2
    ffn: int = 704
    rope_base: float = 10000.0
    eps: float = 1e-6
    context: int = 4096

    @property
    def head(self):
        return self.width // self.heads


def init(shape, seed):
    """{GGUF tensor name: f32 tensor}. Matrices are [out, in], as in the file."""
    g = torch.Generator().manual_seed(seed)
    kv = shape.heads_kv * shape.head

    def matrix(rows, cols):
        return torch.randn(rows, cols, generator=g) * 0.6 * cols**-0.5

    c, f = shape.width, shape.ffn
    p = {"token_embd.weight": torch.randn(shape.vocab, c, generator=g) * 0.02, "output_norm.weight": torch.ones(c)}
    for i in range(shape.layers):
        b = f"blk.{i}."
        p[b + "attn_norm.weight"], p[b + "ffn_norm.weight"] = torch.ones(c), torch.ones(c)
        for name, rows in (("q", c), ("k", kv), ("v", kv)):
            p[f"{b}attn_{name}.weight"], p[f"{b}attn_{name}.bias"] = matrix(rows, c), torch.zeros(rows)
        p[b + "attn_output.weight"] = torch.zeros(c, c)  # each block starts as the identity
        p[b + "ffn_gate.weight"], p[b + "ffn_up.weight"] = matrix(f, c), matrix(f, c)
        p[b + "ffn_down.weight"] = torch.zeros(c, f)
    return p


def wire_copying(p, shape, seed):
    """Starts the network with the copying circuit that it would otherwise take millions of tokens to find.

    Block 0: the biases of q and k alone make heads look 1 and 2 tokens back (the score of a rotated
    constant depends on distance only), and write what stood there beside the current token. Blocks
    1 and 2: a head looks for the place whose previous token is the current one, in the slowly
    turning half of its dimensions, and raises the token found there. All of it goes on learning.
    """
    g = torch.Generator().manual_seed(seed + 1)
    c, d, groups = shape.width, shape.head, shape.heads // shape.heads_kv
    half, fast = d // 2, 6
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half // 2, half) + half])  # about d/2 dims

    def orthonormal(rows):
        return torch.linalg.qr(torch.randn(c, rows, generator=g))[0].T

    freq = shape.rope_base ** (-torch.arange(fast).float() * 2 / d)
    sharp = (8.0 * d**0.5 / (1 - freq.cos()).sum()) ** 0.5  # leads its neighbours by 8 in the score
    read = orthonormal(d)
    write = [orthonormal(d) for _ in range(groups)]
    k0, q0 = "blk.0.attn_k.", "blk.0.attn_q."
    p[k0 + "weight"][:d] *= 0.1
    p[q0 + "weight"][: groups * d] *= 0.1
    p[k0 + "bias"][:fast] = sharp
    p["blk.0.attn_v.weight"][:d] = read
    for j in range(groups):
        p[q0 + "bias"][j * d : j * d + fast] = sharp * (freq * (j + 1)).cos()
        p[q0 + "bias"][j * d + half : j * d + half + fast] = -sharp * (freq * (j + 1)).sin()
        p["blk.0.attn_output.weight"][:, j * d : (j + 1) * d] = WIRE_WRITE * write[j].T
    for layer in (1, 2):
        b = f"blk.{layer}.attn_"
        for kv in range(shape.heads_kv):
            pick = torch.randperm(d, generator=g)[: len(slow)]
            p[b + "k.weight"][kv * d : (kv + 1) * d] *= 0.1
            p[b + "k.weight"][kv * d + slow] = WIRE_MATCH * write[0][pick]
            value = orthonormal(d)
            p[b + "v.weight"][kv * d : (kv + 1) * d] = value
            for j in range(groups):
                at = (kv * groups + j) * d
                p[b + "q.weight"][at : at + d] *= 0.1
                p[b + "q.weight"][at + slow] = WIRE_MATCH * read[pick]
                p[b + "output.weight"][:, at : at + d] = WIRE_RAISE * value.T


# Chosen by the share of practice tokens right before any training: 0.62 (0.03 without the circuit).
WIRE_WRITE, WIRE_MATCH, WIRE_RAISE = 0.02, 2.5, 0.12


def rms_norm(x, weight, eps):
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.square().mean(-1, keepdim=True) + eps) * weight.float()).to(x.dtype)


def rope_tables(shape, positions):
    """cos and sin, [N, D/2] each, of the NEOX rotation (first half of a head pairs with the second)."""
    freq = shape.rope_base ** (-torch.arange(0, shape.head, 2).float() / shape.head)
    angle = positions.float()[:, None] * freq
    return angle.cos(), angle.sin()


def rope_and_split(y, cos, sin, heads: int, heads_kv: int):
    """y [N, H + 2K, D] to q [N, H, D] (already scaled), k and v [N, K, D]."""
    rotated = heads + heads_kv
    qk, v = y[:, :rotated].float(), y[:, rotated:]
    a, b = qk.chunk(2, -1)
    c, s = cos[:, None], sin[:, None]
    qk = torch.cat([a * c - b * s, b * c + a * s], -1)
    return (qk[:, :heads] * y.shape[-1] ** -0.5).to(y.dtype), qk[:, heads:].to(y.dtype), v.contiguous()


def swiglu(y):
    """Gate and up side by side, [N, 2F], to [N, F]."""
    a, b = y.chunk(2, -1)
    return (fn.silu(a.float()) * b.float()).to(y.dtype)


_j = torch.arange(BLOCK + KEYS_STEP)
FUTURE = torch.zeros(BLOCK, BLOCK + KEYS_STEP).masked_fill(_j[None] > torch.arange(BLOCK)[:, None], float("-inf"))


def _blocks(start, end, past):
    """(first query, queries, padded queries, keys, padded keys) of each block of a row's own tokens."""
    for i in range(start, end, BLOCK):
        t = min(BLOCK, end - i)
        keys = past + i - start + t
        yield i, t, -(-t // 32) * 32, keys, -(-keys // KEYS_STEP) * KEYS_STEP


def _gather(x, spans, rows_padded):
    """Rows of `spans` of x [N, K, D] as [K, rows_padded, D], zeros behind."""
    out = x.new_zeros(x.shape[1], rows_padded, x.shape[2])
    at = 0
    for s, e in spans:
        out[:, at : at + e - s] = x[s:e].transpose(0, 1)
        at += e - s
    return out


def _queries(x, i, t, padded, groups):
    """Queries i..i+t of x [N, H, D] as [K, G * padded, D]."""
    d, k = x.shape[2], x.shape[1] // groups
    out = x.new_zeros(k, groups, padded, d)
    out[:, :, :t] = x[i : i + t].view(t, k, groups, d).permute(1, 2, 0, 3)
    return out.view(k, groups * padded, d)


class SharedPrefixAttention(torch.autograd.Function):
    """Causal attention of each row's own tokens over its spans (shared beginning, then itself).

    PyTorch's CPU flash kernel is 2-3 times slower than these plain products at our lengths, and
    knows neither shared spans nor grouped heads without a copy.
    """

    @staticmethod
    def forward(ctx, q, k, v, rows):
        groups, saved = q.shape[1] // k.shape[1], []
        mask = FUTURE.to(q.dtype)
        o = torch.zeros_like(q)
        for spans, past in rows:
            start, end = spans[-1]
            padded_all = -(-(past + end - start) // KEYS_STEP) * KEYS_STEP
            ks, vs = _gather(k, spans, padded_all), _gather(v, spans, padded_all)
            for i, t, tp, keys, kp in _blocks(start, end, past):
                s = torch.bmm(_queries(q, i, t, tp, groups), ks[:, :kp].transpose(1, 2))
                first = keys - t
                s.view(-1, tp, kp)[:, :, first:] += mask[:tp, : kp - first]
                p = torch.softmax(s, -1)
                out = torch.bmm(p, vs[:, :kp]).view(k.shape[1], groups, tp, -1)
                o[i : i + t] = out[:, :, :t].permute(2, 0, 1, 3).reshape(t, q.shape[1], -1)
                saved.append(p)
        if any(ctx.needs_input_grad):
            ctx.save_for_backward(q, k, v)
            ctx.rows, ctx.probs, ctx.groups = rows, saved, groups
        return o

    @staticmethod
    def backward(ctx, do):
        (q, k, v), groups = ctx.saved_tensors, ctx.groups
        dq = torch.zeros_like(q)
        dk, dv = (torch.zeros(k.shape) for _ in range(2))
        probs = iter(ctx.probs)
        for spans, past in ctx.rows:
            start, end = spans[-1]
            padded_all = -(-(past + end - start) // KEYS_STEP) * KEYS_STEP
            ks, vs = _gather(k, spans, padded_all), _gather(v, spans, padded_all)
            row_dk, row_dv = (torch.zeros(k.shape[1], padded_all, k.shape[2]) for _ in range(2))
            for i, t, tp, keys, kp in _blocks(start, end, past):
                p, g, qs = next(probs), _queries(do, i, t, tp, groups), _queries(q, i, t, tp, groups)
                row_dv[:, :kp] += torch.bmm(p.transpose(1, 2), g)
                dp = torch.bmm(g, vs[:, :kp].transpose(1, 2))
                ds = torch._softmax_backward_data(dp, p, -1, p.dtype)
                out = torch.bmm(ds, ks[:, :kp]).view(k.shape[1], groups, tp, -1)
                dq[i : i + t] = out[:, :, :t].permute(2, 0, 1, 3).reshape(t, q.shape[1], -1)
                row_dk[:, :kp] += torch.bmm(ds.transpose(1, 2), qs)
            at = 0
            for s, e in spans:
                dk[s:e] += row_dk[:, at : at + e - s].transpose(0, 1)
                dv[s:e] += row_dv[:, at : at + e - s].transpose(0, 1)
                at += e - s
        return dq, dk.to(k.dtype), dv.to(v.dtype), None


class Net:
    """Runs the network over weights `p` (bf16 for training, f32 for checks).

    `compiled` fuses the elementwise parts; the products stay with oneDNN, which is faster at them
    than what torch.compile makes of a whole block (tried: 3 times slower).
    """

    def __init__(self, shape, compiled=False):
        self.shape = shape
        wrap = (lambda f: torch.compile(f, dynamic=False, fullgraph=True)) if compiled else (lambda f: f)
        self.norm, self.rope, self.swiglu = wrap(rms_norm), wrap(rope_and_split), wrap(swiglu)

    def hidden(self, p, batch):
        """Final normalised states [N, C] of a flat batch (tokens, positions, rows)."""
        s, n = self.shape, len(batch.tokens)
        x = fn.embedding(batch.tokens, p["token_embd.weight"])
        cos, sin = rope_tables(s, batch.positions)
        for i in range(s.layers):
            def get(name, *kinds):
                return torch.cat([p[f"blk.{i}.{name}_{k}"] for k in kinds])

            h = self.norm(x, p[f"blk.{i}.attn_norm.weight"], s.eps)
            y = fn.linear(h, get("attn", "q.weight", "k.weight", "v.weight"), get("attn", "q.bias", "k.bias", "v.bias"))
            q, k, v = self.rope(y.view(n, -1, s.head), cos, sin, s.heads, s.heads_kv)
            o = SharedPrefixAttention.apply(q, k, v, batch.rows)
            x = x + fn.linear(o.view(n, -1), p[f"blk.{i}.attn_output.weight"])
            h = self.norm(x, p[f"blk.{i}.ffn_norm.weight"], s.eps)
            h = self.swiglu(fn.linear(h, get("ffn", "gate.weight", "up.weight")))
            x = x + fn.linear(h, p[f"blk.{i}.ffn_down.weight"])
        return self.norm(x, p["output_norm.weight"], s.eps)

    def loss(self, h, embed, targets):
        return token_loss(h, embed, targets)


def token_loss(h, embed, targets):
    """Cross-entropy [M] of the next token for states h [M, C], and whether the argmax was right."""
    logits = fn.linear(h, embed).float()
    return fn.cross_entropy(logits, targets, reduction="none"), logits.argmax(-1) == targets
