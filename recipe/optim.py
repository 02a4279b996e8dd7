"""Muon for the matrices, Adam for the rest; masters in f32, working weights in bf16.

Muon (Keller Jordan, https://kellerjordan.github.io/posts/muon/): momentum, then the nearest
orthogonal matrix by five Newton-Schulz steps, so that every direction of a matrix learns at the
same speed. Deviation: equal shapes are stacked and orthogonalised in one batched product.
"""

import collections

import torch

MUON_MOMENTUM, ADAM_BETAS, ADAM_EPS = 0.95, (0.9, 0.95), 1e-10


def orthogonalise(g):
    """Newton-Schulz of g [B, rows, cols], in bf16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    tall = x.shape[1] > x.shape[2]
    x = x.transpose(1, 2) if tall else x
    x = x / (x.float().norm(dim=(1, 2), keepdim=True) + 1e-7).bfloat16()
    for _ in range(5):
        s = x @ x.transpose(1, 2)
        x = a * x + (b * s + c * (s @ s)) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Optimizer:
    """Steps {name: bf16 leaf} from their .grad. `muon=False` gives plain AdamW (for comparison)."""

    def __init__(self, params, muon, lr_matrix, lr_embed, lr_vector, decay):
        self.master = {n: p.clone() for n, p in params.items()}
        self.m = {n: torch.zeros_like(p) for n, p in params.items()}
        self.lr = {"matrix": lr_matrix, "embed": lr_embed, "vector": lr_vector}
        self.kind = {n: "embed" if n.startswith("token_embd") else "matrix" if p.ndim == 2 else "vector"
                     for n, p in params.items()}
        self.muon, self.decay, self.steps = muon, decay, 0
        self.v = {n: torch.zeros_like(p) for n, p in params.items() if not (muon and self.kind[n] == "matrix")}
        self.stacks = collections.defaultdict(list)
        for n, p in params.items():
            if n not in self.v:
                self.stacks[tuple(p.shape)].append(n)

    def step(self, work, factor):
        """One step at `factor` times the base rates; refreshes the working weights."""
        self.steps += 1
        b1, b2 = ADAM_BETAS
        for n in self.v:
            g = work[n].grad.float()
            m, v, lr = self.m[n].lerp_(g, 1 - b1), self.v[n].lerp_(g.square(), 1 - b2), self.lr[self.kind[n]] * factor
            if self.kind[n] == "matrix":
                self.master[n].mul_(1 - lr * self.decay)
            unbiased = (v / (1 - b2**self.steps)).sqrt_().add_(ADAM_EPS)
            self.master[n].addcdiv_(m, unbiased, value=-lr / (1 - b1**self.steps))
        momentum = min(MUON_MOMENTUM, 0.85 + 0.1 * self.steps / 200)
        for shape, names in self.stacks.items():
            lr = self.lr["matrix"] * factor
            for n in names:
                self.m[n].lerp_(work[n].grad.float(), 1 - momentum)
            update = orthogonalise(
                torch.stack([work[n].grad.float().lerp_(self.m[n], momentum) for n in names])
            )
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            for n, u in zip(names, update):
                self.master[n].mul_(1 - lr * self.decay).add_(u, alpha=-lr * scale)
        with torch.no_grad():
            for n, w in work.items():
                w.copy_(self.master[n])
                w.grad = None

    def state(self):
        return {"master": self.master, "m": self.m, "v": self.v, "steps": self.steps}

    def load(self, state):
        self.steps = state["steps"]
        for mine, theirs in ((self.master, state["master"]), (self.m, state["m"]), (self.v, state["v"])):
            for n in mine:
                mine[n].copy_(theirs[n])
