"""Makes the embedded planner from training rows: `python recipe/train.py COMMAND --help`.

  tokenizer     learn the vocabulary from rows
  train         train for a budget of minutes; --resume goes on from the last checkpoint
  eval          exact matches on held-out rows, by role and family
  sample        greedy completions of held-out rows, to read
  export        write the GGUF (F32 and Q8_0)
  revocab       the weights of a checkpoint under another vocabulary
  tokens-check  token ids of some rows, for a comparison with llama.cpp's tokenizer
"""

import argparse
import collections
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")

import numpy as np
import torch

import data
import export
import model
import optim
import tokenizer


def load(path):
    """Checkpoint at `path`: (shape, f32 weights, whole checkpoint)."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    return model.Shape(**saved["shape"]), saved["optimizer"]["master"], saved


def check_vocabulary(bpe, shape):
    if len(bpe) != shape.vocab:
        raise SystemExit(f"the tokenizer has {len(bpe)} tokens, the checkpoint {shape.vocab}: give the run's own tokenizer.json")


def save(path, shape, opt, progress):
    """Writes a checkpoint so that a crash leaves the old one or the new one, never half of one."""
    torch.save({"shape": vars(shape), "optimizer": opt.state(), "progress": progress}, str(path) + ".part")
    os.replace(str(path) + ".part", path)


def rate(progress, warm, hold):
    """Factor of the learning rate at `progress` in 0..1: up, flat, straight down to zero."""
    return min(1.0, (progress + 1e-4) / warm, max(0.0, 1 - progress) / (1 - hold))


class Log:
    """Online figures since the last line; rows are new to the model, so they are a fair test."""

    def __init__(self, path):
        self.file = open(path, "a")
        self.clear()

    def clear(self):
        self.loss, self.exact = collections.defaultdict(lambda: [0.0, 0]), collections.defaultdict(lambda: [0, 0])
        self.tokens, self.tokens_rows, self.since = 0, 0, time.monotonic()

    def add(self, batch, losses, right):
        self.tokens += len(batch.tokens)
        self.tokens_rows += batch.tokens_rows
        roles = np.array([r for r, _ in batch.names])[batch.owner]
        label = np.where(batch.kind == data.PROMPT, "prompt", roles)
        for name in np.unique(label):
            mine = label == name
            self.loss[name][0] += float(losses[mine].sum())
            self.loss[name][1] += int(mine.sum())
        for (role, _), (ok, n) in data.exact_by_name(batch, right).items():
            self.exact[role][0] += ok
            self.exact[role][1] += n

    def line(self, **fields):
        spent = time.monotonic() - self.since
        loss = {n: round(s / max(k, 1), 4) for n, (s, k) in sorted(self.loss.items())}
        exact = {n: round(ok / max(k, 1), 3) for n, (ok, k) in sorted(self.exact.items())}
        out = {**fields, "tok_s": round(self.tokens / spent), "row_tok_s": round(self.tokens_rows / spent),
               "loss": loss, "exact": exact}
        self.write(out)
        self.clear()

    def write(self, out):
        print(json.dumps(out), flush=True)
        print(json.dumps(out), file=self.file, flush=True)


def evaluate(net, work, batches):
    """{"role/family": "exact/rows"} and the mean loss of the completion tokens."""
    total, loss, n = collections.defaultdict(lambda: [0, 0]), 0.0, 0
    with torch.no_grad():
        for b in batches:
            losses, right = net.loss(net.hidden(work, b)[b.source], work["token_embd.weight"], b.target)
            loss, n = loss + float(losses.sum()), n + len(losses)
            for (role, family), (ok, k) in data.exact_by_name(b, right.numpy()).items():
                for name in (f"{role}/{family}", role, "all"):
                    total[name][0] += ok
                    total[name][1] += k
    return {k: f"{ok}/{m}" for k, (ok, m) in sorted(total.items())}, round(loss / max(n, 1), 4)


def train(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    bpe = tokenizer.load(args.tokenizer)
    ckpt = out / "checkpoint.pt"
    progress = {"step": 0, "tokens": 0, "seconds": 0.0}
    if args.resume and ckpt.exists():
        shape, weights, saved = load(ckpt)
        progress = saved["progress"]
        check_vocabulary(bpe, shape)
    else:
        shape = model.Shape(len(bpe), args.layers, args.width, args.heads, args.heads_kv, args.ffn, args.rope_base)
        weights, saved = (export.read(args.init, shape, bpe) if args.init else model.init(shape, args.seed)), None
        if args.wire and shape.layers > 2 and not args.init:
            model.wire_copying(weights, shape, args.seed)
        shutil.copyfile(args.tokenizer, out / "tokenizer.json")
    net = model.Net(shape, args.compile)
    opt = optim.Optimizer(weights, args.optimizer == "muon", args.lr_matrix, args.lr_embed, args.lr_vector, args.decay)
    if saved:
        opt.load(saved["optimizer"])
    work = {n: p.bfloat16().requires_grad_() for n, p in opt.master.items()}
    # A resumed run draws other random rows than the first: the seed takes the step in.
    stream = data.Stream(bpe, args.rows, args.seed + progress["step"], args.cluster, args.rename, args.renumber, shape.context)
    held = data.read_rows(args.eval or [])[0][: args.eval_rows]
    held = data.eval_batches(bpe, held, args.batch) if held else []
    log = Log(out / "log.jsonl")
    log.write({"start": vars(args) | {"run": None}, "parameters": sum(p.numel() for p in weights.values()),
               "rows": len(stream.lines), **progress})

    stop = []
    for s in (signal.SIGTERM, signal.SIGINT):
        signal.signal(s, lambda *_: stop.append(True))
    budget, began = args.minutes * 60, time.monotonic() - progress["seconds"]
    said = saved_at = evaluated = time.monotonic()
    while not stop and progress["seconds"] < budget and progress["tokens"] < args.tokens_max:
        part = max(progress["seconds"] / budget, progress["tokens"] / args.tokens_max)
        factor = rate(part, args.warm, args.hold)
        fade = max(0.0, 1 - progress["tokens"] / max(args.practice_tokens, 1))
        batch = stream.next_batch(
            args.batch, args.practice_end + (args.practice - args.practice_end) * fade,
            args.short if progress["tokens"] < args.short_tokens else 1 << 30, args.prompt_weight, args.prompt_share)
        losses, right = net.loss(net.hidden(work, batch)[batch.source], work["token_embd.weight"], batch.target)
        ((losses * batch.weight).sum() / batch.weight.sum()).backward()
        opt.step(work, factor)
        now = time.monotonic()
        progress = {"step": progress["step"] + 1, "tokens": progress["tokens"] + args.batch, "seconds": now - began}
        log.add(batch, losses.detach().numpy(), right.numpy())
        head = {"step": progress["step"], "tokens": progress["tokens"], "seconds": round(progress["seconds"], 1)}
        if now - said >= args.log_every:
            log.line(**head, epoch=stream.epoch, rate=round(factor, 3))
            said = now
        if held and now - evaluated >= args.eval_every:
            exact, loss = evaluate(net, work, held)
            log.write({**head, "held_out_loss": loss, "held_out_exact": exact, "new_rows": stream.look_for_files()})
            evaluated = time.monotonic()
        if now - saved_at >= args.save_every:
            save(ckpt, shape, opt, progress)
            saved_at = time.monotonic()
    save(ckpt, shape, opt, progress)
    if held:
        exact, loss = evaluate(net, work, held)
        log.write({**progress, "held_out_loss": loss, "held_out_exact": exact, "stopped": bool(stop)})


def eval_command(args):
    torch.set_num_threads(args.threads)
    bpe = tokenizer.load(args.tokenizer)
    shape, weights, _ = load(args.checkpoint)
    check_vocabulary(bpe, shape)
    held = data.eval_batches(bpe, data.read_rows(args.rows)[0][: args.n], 4096)
    print(json.dumps(evaluate(model.Net(shape), weights, held), indent=1))


def sample(args):
    """Greedy completions, every token from the whole text again: slow, but the plain network."""
    torch.set_num_threads(args.threads)
    bpe = tokenizer.load(args.tokenizer)
    shape, weights, _ = load(args.checkpoint)
    check_vocabulary(bpe, shape)
    net = model.Net(shape)
    lines = data.read_rows(args.rows)[0]
    for i in np.random.default_rng(args.seed).permutation(len(lines))[: args.n]:
        raw = json.loads(lines[i])
        ids, done = bpe.encode_prompt(raw["segments"]), []
        while len(done) < args.max and (not done or done[-1] != bpe.im_end):
            flat = torch.tensor(ids + done)
            batch = argparse.Namespace(tokens=flat, positions=torch.arange(len(flat)), rows=[([(0, len(flat))], 0)])
            with torch.no_grad():
                done.append(int((net.hidden(weights, batch)[-1] @ weights["token_embd.weight"].T).argmax()))
        got = bpe.decode(done).removesuffix("<|im_end|>")
        print(f"--- {raw['role']}/{raw['family']} {'same' if got == raw['completion'] else 'DIFFERS'}")
        print(raw["segments"][-2][0][-300:] if len(raw["segments"]) > 1 else "")
        print(f">>> want: {raw['completion']!r}\n>>> got:  {got!r}", flush=True)


def learn_tokenizer(args):
    lines, _ = data.read_rows(args.rows)
    rows = [json.loads(x) for x in lines[:: max(1, len(lines) // args.n)]]
    bpe = tokenizer.train(rows, args.vocab, args.pieces, args.out)
    lengths = [len(data.encode_row(bpe, r).ids) for r in rows[:1000]]
    print(json.dumps({"tokens": len(bpe), "rows": len(rows), "row_tokens_mean": round(float(np.mean(lengths)), 1),
                      "row_tokens_max": int(max(lengths))}))


def revocab(args):
    """The weights of --checkpoint under another vocabulary: a token both have keeps its row, any other starts
    as the mean of the old pieces of its text, with noise of the usual size so that no two are alike."""
    shape, weights, saved = load(args.checkpoint)
    old, new = tokenizer.load(args.tokenizer), tokenizer.load(args.new)
    check_vocabulary(old, shape)
    rows, at = weights["token_embd.weight"], {t: i for i, t in enumerate(old.tokens)}
    g, spread = torch.Generator().manual_seed(args.seed), rows.std(0)
    fresh = torch.empty(len(new), shape.width)
    for i, token in enumerate(new.tokens):
        if token in at:
            fresh[i] = rows[at[token]]
        else:
            pieces = old.fast.encode(bytes(new.raw[c] for c in token).decode(errors="replace")).ids
            fresh[i] = rows[pieces].mean(0) * 0.5 + torch.randn(shape.width, generator=g) * spread
    weights["token_embd.weight"], shape.vocab = fresh, len(new)
    kept = sum(t in at for t in new.tokens)
    export.write(args.out, "f32", shape, weights, new, saved["progress"])
    print(f"{args.out}: {kept} of {len(new)} tokens kept their rows")


def tokens_check(args):
    """[{"segments": [[text, special, ids], ...], "completion": text, "completion_ids": ids}, ...]."""
    bpe = tokenizer.load(args.tokenizer)
    lines, _ = data.read_rows(args.rows)
    out = []
    for line in lines[:: max(1, len(lines) // args.n)][: args.n]:
        raw = json.loads(line)
        out.append({"segments": [[t, s, bpe.encode(t, s)] for t, s in raw["segments"]],
                    "completion": raw["completion"], "completion_ids": bpe.encode(raw["completion"])})
    Path(args.out).write_text(json.dumps(out, ensure_ascii=False))


def export_command(args):
    shape, weights, saved = load(args.checkpoint)
    bpe = tokenizer.load(args.tokenizer)
    check_vocabulary(bpe, shape)
    for kind in args.types:
        path = f"{args.out}-{kind}.gguf"
        export.write(path, kind, shape, weights, bpe, saved["progress"])
        print(f"{path}: {os.path.getsize(path):,} bytes")


def arguments():
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = top.add_subparsers(required=True)

    def command(name, run, *flags):
        p = sub.add_parser(name, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
        p.set_defaults(run=run)
        for flag, kind, default, text in flags:
            if kind is bool:
                p.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=text)
            elif kind is list:
                p.add_argument(flag, nargs="+", default=default, required=default is None, help=text)
            else:
                p.add_argument(flag, type=kind, default=default, required=default is None, help=text)

    rows = ("--rows", list, None, "JSONL files (shell patterns, quoted)")
    bpe = ("--tokenizer", str, "tokenizer.json", "what `tokenizer` wrote")
    ckpt = ("--checkpoint", str, None, "checkpoint.pt of a run")
    threads = ("--threads", int, 1, "CPU threads")
    command("tokenizer", learn_tokenizer, rows, ("--vocab", int, 3072, "tokens at most"),
            ("--pieces", int, 700, "of them for pieces of rare words"),
            ("--n", int, 20000, "rows to read, evenly spread"), ("--out", str, "tokenizer.json", "file to write"))
    command("train", train, rows, bpe, threads,
            ("--out", str, None, "folder of checkpoint.pt and log.jsonl"),
            ("--resume", bool, False, "go on from the folder's checkpoint"),
            ("--eval", list, [], "held-out rows"), ("--eval-rows", int, 300, "how many of them"),
            ("--minutes", float, 60.0, "wall-clock budget; the rate reaches zero at its end"),
            ("--tokens-max", int, 1 << 40, "token budget, whichever ends first"),
            ("--seed", int, 1, "weights, order of rows, practice"),
            ("--layers", int, 6, "blocks"), ("--width", int, 256, "channels"), ("--heads", int, 4, "query heads"),
            ("--heads-kv", int, 2, "key heads"), ("--ffn", int, 704, "feed-forward size, a multiple of 32"),
            ("--rope-base", float, 1e6, "RoPE base"),
            ("--wire", bool, True, "start with a copying circuit (not with --init)"),
            ("--init", str, "", "go on from this GGUF's weights (with --tokenizer tokenizer.json of the same vocabulary)"),
            ("--batch", int, 4096, "distinct tokens a step"),
            ("--cluster", int, 4, "neighbouring rows of a file that stay together"),
            ("--rename", float, 0.3, "share of rows whose copied names become made-up ones"),
            ("--renumber", float, 0.3, "share of rows whose copied numbers become others"),
            ("--practice", float, 0.5, "share of copying practice at the start"),
            ("--practice-end", float, 0.02, "and after --practice-tokens"),
            ("--practice-tokens", int, 1_500_000, "tokens over which practice fades"),
            ("--short", int, 400, "longest row, in tokens, in the first --short-tokens"),
            ("--short-tokens", int, 0, "tokens of the short-row start"),
            ("--prompt-weight", float, 0.1, "loss weight of prompt tokens"),
            ("--prompt-share", float, 0.3, "share of prompt tokens that are scored (the weight makes up for it)"),
            ("--optimizer", str, "muon", "muon or adamw"),
            ("--lr-matrix", float, 0.02, "rate of matrices"), ("--lr-embed", float, 0.004, "of the embedding"),
            ("--lr-vector", float, 0.004, "of norms and biases"), ("--decay", float, 0.02, "weight decay of matrices"),
            ("--warm", float, 0.01, "share of the budget to warm up in"),
            ("--hold", float, 0.5, "share of the budget after which the rate falls"),
            ("--compile", bool, False, "compile the elementwise parts with torch.compile"),
            ("--log-every", float, 30.0, "seconds"), ("--save-every", float, 180.0, "seconds"),
            ("--eval-every", float, 180.0, "seconds"))
    command("eval", eval_command, rows, bpe, ckpt, threads, ("--n", int, 1000, "rows"))
    command("sample", sample, rows, bpe, ckpt, threads, ("--n", int, 10, "rows"),
            ("--max", int, 200, "tokens of a completion"), ("--seed", int, 1, "which rows"))
    command("export", export_command, bpe, ckpt, ("--out", str, "tillerman-embedded", "path without its ending"),
            ("--types", list, ["f32", "q8_0"], "f32, q8_0"))
    command("revocab", revocab, bpe, ckpt, ("--new", str, None, "the other tokenizer.json"),
            ("--seed", int, 1, "of the noise"), ("--out", str, None, "GGUF to write, for train --init"))
    command("tokens-check", tokens_check, rows, bpe, ("--n", int, 200, "rows"),
            ("--out", str, "tokens-check.json", "file to write"))
    return top.parse_args()


if __name__ == "__main__":
    args = arguments()
    sys.exit(args.run(args))
