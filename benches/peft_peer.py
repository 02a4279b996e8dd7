"""The peer of the training step: PyTorch, transformers and PEFT on the group that `tillerman bench train` steps on.

Started by `tillerman bench train --peer "python benches/peft_peer.py"`, never by the tests. Each line on stdin
is one step (forward, backward, clipping, AdamW over all rows of the group), answered with one JSON line; the
bench takes time, CPU time and memory of this process from outside. The first answer carries the log-probability
of every target, and the first gradients are written as safetensors, so that the bench can see that both sides
compute the same thing.

Rows are written out, as the library has it: no prefix is shared between them. Rows of equal length make a
batch, so nothing is padded; logits are computed at the targets alone. Architectures qwen2 and qwen3.
"""

import argparse
import gc
import json
import os
import sys

import gguf
import numpy as np
import torch
import transformers
from peft import PeftModel
from safetensors.torch import save_file

PARTS = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}


def python_name(name):
    """blk.3.attn_q.bias -> model.layers.3.self_attn.q_proj.bias"""
    parts = name.split(".")
    if parts[0] != "blk":
        return f"{WHOLE[parts[0]]}.{parts[1]}"
    return f"model.layers.{parts[1]}.{PARTS[parts[2]]}.{parts[3]}"


def base_model(path, dtype):
    """The GGUF's numbers, dequantised, in the library's own model."""
    file = gguf.GGUFReader(path)
    kind = file.get_field("general.architecture").contents()
    classes = {"qwen2": ("Qwen2Config", "Qwen2ForCausalLM"), "qwen3": ("Qwen3Config", "Qwen3ForCausalLM")}
    if kind not in classes:
        raise SystemExit(f"{path} is of architecture {kind}; the peer knows {', '.join(classes)}")

    def field(key):
        return file.get_field(f"{kind}.{key}").contents()

    shapes = {t.name: [int(n) for n in reversed(t.shape)] for t in file.tensors}
    theta = float(field("rope.freq_base"))
    heads = field("attention.head_count")
    config = getattr(transformers, classes[kind][0])(
        vocab_size=shapes["token_embd.weight"][0],
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=field("attention.head_count_kv"),
        head_dim=shapes["blk.0.attn_q.weight"][0] // heads,
        rms_norm_eps=float(field("attention.layer_norm_rms_epsilon")),
        rope_theta=theta,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings="output.weight" not in shapes,
        use_cache=False,
    )
    model = getattr(transformers, classes[kind][1])(config).to(dtype)
    own = dict(model.named_parameters())
    with torch.no_grad():
        for tensor in file.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            values = torch.from_numpy(np.array(values, dtype=np.float32)).reshape(shapes[tensor.name])
            own.pop(python_name(tensor.name)).copy_(values)
    if own:
        raise SystemExit(f"{path} lacks {', '.join(own)}")
    return model


def batches(rows, size):
    """Indices of rows of one length, at most `size` together."""
    by_length = {}
    for index, row in enumerate(rows):
        by_length.setdefault((len(row["prompt"]), len(row["sampled"])), []).append(index)
    return [same[at : at + size] for same in by_length.values() for at in range(0, len(same), size)]


class Trainer:
    def __init__(self, args):
        with open(os.path.join(args.group, "group.json")) as f:
            self.group = json.load(f)
        dtype = {"bf16": torch.bfloat16, "f32": torch.float32}[args.dtype]
        model = base_model(args.model, dtype)
        # PEFT keeps the adapter in f32 beside a bf16 model, which small steps need.
        self.model = PeftModel.from_pretrained(model, args.group, is_trainable=True)
        self.model.train()
        if args.checkpointing:
            self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.trained = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        s = self.group["optimizer"]
        self.clip = s["norm_most"]
        self.optimizer = torch.optim.AdamW(
            self.trained.values(),
            lr=s["learning_rate"],
            betas=(s["beta1"], s["beta2"]),
            eps=s["epsilon"],
            weight_decay=s["weight_decay"],
        )
        rows = self.group["rows"]
        stride = max(1, len(rows) // args.rows) if args.rows else 1
        # Every so many rows: with 3 rows a rollout, a stride that 3 does not divide meets all lengths.
        self.rows = range(0, len(rows), stride)
        self.batches = [[self.rows[i] for i in b] for b in batches([rows[r] for r in self.rows], args.batch)]

    def step(self):
        """The log-probabilities of the rows' targets before the step, row by row."""
        logprobs = {}
        for batch in self.batches:
            rows = [self.group["rows"][index] for index in batch]
            ids = torch.tensor([row["prompt"] + row["sampled"] for row in rows])
            sampled = len(rows[0]["sampled"])
            logits = self.model(input_ids=ids[:, :-1], logits_to_keep=sampled).logits.float()
            scaled = logits / self.group["temperature"]
            targets = ids[:, -sampled:]
            found = -torch.nn.functional.cross_entropy(scaled.transpose(1, 2), targets, reduction="none")
            weights = torch.tensor([row["weight"] for row in rows])
            (-(found * weights[:, None]).sum()).backward()
            logprobs.update(zip(batch, found.tolist()))
        return logprobs

    def gradients(self, folder):
        os.makedirs(folder, exist_ok=True)
        values = {n.replace(".default", ""): p.grad.float().contiguous() for n, p in self.trained.items()}
        save_file(values, os.path.join(folder, "adapter_model.safetensors"))

    def update(self):
        torch.nn.utils.clip_grad_norm_(self.trained.values(), self.clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model", help="GGUF file (given by the bench)")
    p.add_argument("--group", required=True, help="folder of group.json and the adapter (given by the bench)")
    p.add_argument("--gradients", required=True, help="folder for the first gradients (given by the bench)")
    p.add_argument("--dtype", choices=["bf16", "f32"], required=True, help="given by the bench")
    p.add_argument("--threads", type=int, required=True, help="given by the bench")
    p.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    p.add_argument("--batch", type=int, default=8, help="rows computed together")
    p.add_argument("--rows", type=int, help="only about so many rows; the bench scales the time by their tokens")
    args = p.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    trainer = Trainer(args)
    gc.collect()
    first = True
    rows = [trainer.group["rows"][index] for index in trainer.rows]
    for _ in sys.stdin:
        found = trainer.step()
        answer = {"tokens": sum(len(row["prompt"] + row["sampled"]) for row in rows)}
        if first:
            answer["logprobs"] = [found.get(i) for i in range(len(trainer.group["rows"]))]
            trainer.gradients(args.gradients)
            first = False
        trainer.update()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
