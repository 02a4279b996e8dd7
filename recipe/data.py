"""Rows to batches: reading JSONL, the copying practice, and packing rows that share beginnings.

A row is {"role", "family", "segments": [[text, special], ...], "completion"}. Each segment is
tokenised by itself, and so is the completion, which <|im_end|> follows.
"""

import bisect
import collections
import dataclasses
import glob
import json
import random

import numpy as np
import regex
import torch

COMPLETION, PROMPT, PRACTICE = 0, 1, 2
NAME = regex.compile(r"\b[A-Z][a-z]{2,}\b")
FILE = regex.compile(r"\b[a-z]{3,}(?=\.csv\b)")
CALENDAR = set(
    "January February March April May June July August September October November December Monday Tuesday"
    " Wednesday Thursday Friday Saturday Sunday".split()
)


@dataclasses.dataclass
class Row:
    role: str
    family: str
    ids: np.ndarray  # prompt, completion, <|im_end|>
    prompt: int  # tokens of the prompt

    def __post_init__(self):
        self.key = self.ids.astype(">u2").tobytes()  # sorts like the ids


def read_rows(patterns, skip=frozenset()):
    """Lines (bytes) of every file of `patterns` not yet in `skip`, and the set of files now read."""
    files = sorted(f for p in patterns for f in glob.glob(p))
    lines = []
    for f in files:
        if f not in skip:
            with open(f, "rb") as file:
                # A last line without its end is still being written.
                lines += [x for x in file.read().split(b"\n")[:-1] if x.strip()]
    return lines, set(files) | set(skip)


def encode_row(bpe, raw):
    ids = bpe.encode_prompt(raw["segments"])
    prompt = len(ids)
    ids = ids + bpe.encode(raw["completion"]) + [bpe.im_end]
    return Row(raw["role"], raw["family"], np.array(ids, dtype=np.int64), prompt)


# Copying practice


def pseudo_name(rng):
    """A made-up name: mostly syllables, sometimes plain letters."""
    if rng.random() < 0.2:
        return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))).capitalize()
    onset = ["", *"bcdfghjklmnprstvwz", "br", "ch", "dr", "gr", "kh", "mb", "nd", "sh", "st", "th", "tr", "y"]
    vowel, coda = [*"aeiou", "aa", "ai", "ea", "ia", "oo", "ou"], ["", "", "", *"dklmnrst", "ng", "sk"]
    name = "".join(rng.choice(onset) + rng.choice(vowel) + rng.choice(coda) for _ in range(rng.randint(1, 4)))
    return (name + "n" * (3 - len(name))).capitalize()


def rename(raw, bpe, rng):
    """The same row with other names: those its completion copies from its prompt become made-up ones.

    Only capitalised words that few rows have, and files, which get any word of the vocabulary half of the time; the
    `base` role answers out of its own knowledge, so its rows stay.
    """
    if raw["role"] == "base":
        return raw
    prompt = "\n".join(t for t, special in raw["segments"] if not special)
    new = {}
    for word in set(NAME.findall(raw["completion"])):
        if word not in CALENDAR and word not in bpe.common_capitals and word in prompt:
            new[word] = pseudo_name(rng)
    for word in set(FILE.findall(raw["completion"])):
        if word in prompt:
            # Files have common names too; no token may be left that is never copied, or spelled, as one.
            new[word] = rng.choice(bpe.words) if rng.random() < 0.5 else pseudo_name(rng).lower()
    if not new:
        return raw
    swap = regex.compile(r"\b(" + "|".join(sorted(new, key=len, reverse=True)) + r")\b")

    def change(text):
        return swap.sub(lambda m: new[m[0]], text)

    segments = [[t if special else change(t), special] for t, special in raw["segments"]]
    return {**raw, "segments": segments, "completion": change(raw["completion"])}


def pseudo_number(rng):
    """A number that is hard to copy: long, with repeated digits or zeros, sometimes a date."""
    kind = rng.random()
    if kind < 0.3:
        return str(rng.randrange(10 ** rng.randint(1, 9)))
    if kind < 0.55:
        return str(rng.randrange(1, 10 ** rng.randint(1, 4))) + "0" * rng.randint(1, 6)
    if kind < 0.8:
        pool = rng.choices("0123456789", k=2)
        return str(rng.randint(1, 9)) + "".join(rng.choices(pool, k=rng.randint(2, 7)))
    return f"{rng.randint(1900, 2099)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"


def pseudo_numbers(rng):
    """A few numbers as questions hold them, some twice: "5, 9, 9, 5", "18+25*62"."""
    top = rng.choice((9, 13, 99, 999))
    pool = [str(rng.randint(1, top)) for _ in range(rng.randint(1, 4))]
    between = rng.choice((", ", " ", "+", "*", "-", "/", " and "))
    return between.join(rng.choices(pool, k=rng.randint(2, 5)))


NUMBER = regex.compile(r"\d{2,}")
RENUMBERED = {"planner", "executor", "generator"}


def renumber(raw, rng):
    """The same row with other numbers: those of two digits or more that its completion copies from its
    prompt. Only for roles that copy numbers without computing with them."""
    if raw["role"] not in RENUMBERED:
        return raw
    prompt = "\n".join(t for t, special in raw["segments"] if not special)
    there = set(NUMBER.findall(prompt))
    new = {n: None for n in NUMBER.findall(raw["completion"]) if n in there}
    if not new:
        return raw
    for n in new:
        k = len(n)
        digits = rng.choices("0123456789", k=2) if rng.random() < 0.4 else "0123456789"
        new[n] = str(rng.randint(1, 9)) + "".join(rng.choices(digits, k=max(0, k - 1 + rng.choice((0, 0, 0, 1)))))

    def change(text):
        return NUMBER.sub(lambda m: new.get(m[0], m[0]), text)

    segments = [[t if special else change(t), special] for t, special in raw["segments"]]
    return {**raw, "segments": segments, "completion": change(raw["completion"])}


def practice_row(bpe, rng, length):
    """Pure copying, `length` tokens: a few random strings, then the same strings in random order.

    Returns (ids, scored): scored[i] says that token i follows from what stands before it.
    """
    n = len(bpe)
    head = bpe.encode("<|im_start|>user\n", True)
    middle = bpe.encode("<|im_end|>\n<|im_start|>assistant\n", True)
    room = max(2, (length - len(head) - len(middle)) * 2 // 5)
    strings, total = [], 0
    kind = rng.random()
    while total < room:
        if kind < 0.25:  # any tokens
            s = [rng.randrange(3, n) for _ in range(rng.randint(2, 12))]
        elif kind < 0.45:  # names
            s = bpe.encode(" " + " ".join(pseudo_name(rng) for _ in range(rng.randint(1, 3))))
        elif kind < 0.7:
            s = bpe.encode(" " + pseudo_numbers(rng))
        else:
            s = bpe.encode(" " + pseudo_number(rng))
        strings.append(s[: room - total])
        total += len(strings[-1])
    ids = head + [t for s in strings for t in s] + middle
    scored = [False] * len(ids)
    if kind < 0.2:  # the whole text once more, in order
        again = [t for s in strings for t in s] + [bpe.im_end]
        ids, scored = ids + again, scored + [True] * len(again)
    while len(ids) < length:
        s = rng.choice(strings)
        ids, scored = ids + s, scored + [False] + [True] * (len(s) - 1)
    return np.array(ids[:length], dtype=np.int64), np.array(scored[:length])


# Packing


@dataclasses.dataclass
class Batch:
    """`rows` for the attention: (spans of the flat list, tokens before the row's own ones).

    The loss is over M (source position, next token, weight) triples; `owner` is the row of each.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    rows: list
    source: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    kind: np.ndarray
    owner: np.ndarray
    names: list  # (role, family) of each row
    tokens_rows: int  # tokens the rows would take without sharing


def shared(a, b):
    """Tokens of the common beginning of two rows, prompts only."""
    n = min(a.prompt, b.prompt)
    diff = np.flatnonzero(a.ids[:n] != b.ids[:n])
    return int(diff[0]) if len(diff) else n


class Packer:
    """Collects rows until their distinct tokens fill a batch of exactly `size` tokens."""

    def __init__(self, size):
        self.size, self.used, self.rows = size, 0, []

    def add(self, row):
        """Whether the row fitted."""
        i = bisect.bisect_left(self.rows, row.key, key=lambda r: r.key)
        before = self.rows[i - 1] if i > 0 else None
        after = self.rows[i] if i < len(self.rows) else None
        cost = len(row.ids)
        cost -= shared(before, row) if before else 0
        cost -= shared(row, after) if after else 0
        cost += shared(before, after) if before and after else 0
        if self.used + cost > self.size:
            return False
        self.rows.insert(i, row)
        self.used += cost
        return True

    def batch(self, practice, rng, prompt_weight, prompt_share):
        """The batch; what is free is filled with rows of practice(length)."""
        tokens = np.zeros(self.size, dtype=np.int64)
        positions = np.zeros(self.size, dtype=np.int64)
        rows, src, dst, weight, kind, owner = [], [], [], [], [], []
        at, before, spans = 0, None, []

        def score(sources, targets, weights, what):
            src.append(sources), dst.append(targets), weight.append(weights)
            kind.append(np.full(len(sources), what)), owner.append(np.full(len(sources), len(rows) - 1))

        for row in self.rows:
            past = shared(before, row) if before else 0
            spans = cut_spans(spans, past)
            t = len(row.ids) - past
            tokens[at : at + t], positions[at : at + t] = row.ids[past:], np.arange(past, past + t)
            spans = spans + [(at, at + t)]
            rows.append((spans, past))
            flat = np.concatenate([np.arange(s, e) for s, e in spans])
            # The last shared token predicts the first own one; position 0 is predicted by nothing.
            lo = max(past, 1)
            keep = lo + np.flatnonzero(rng.random(row.prompt - lo) < prompt_share) if row.prompt > lo else []
            keep = np.asarray(keep, dtype=np.int64)
            score(flat[keep - 1], row.ids[keep], np.full(len(keep), prompt_weight / max(prompt_share, 1e-9)), PROMPT)
            done = np.arange(row.prompt, len(row.ids))
            score(flat[done - 1], row.ids[done], np.ones(len(done)), COMPLETION)
            at, before = at + t, row
        names = [(r.role, r.family) for r in self.rows]
        while practice and self.size - at >= 24:
            t = self.size - at if self.size - at < 200 else int(rng.integers(64, 160))
            ids, scored = practice(t)
            tokens[at : at + t], positions[at : at + t] = ids, np.arange(t)
            rows.append(([(at, at + t)], 0))
            names.append(("practice", "copy"))
            i = np.flatnonzero(scored)
            score(at + i - 1, ids[i], np.ones(len(i)), PRACTICE)
            at += t
        if at < self.size:  # too small for anything: tokens that nothing looks at
            rows.append(([(at, self.size)], 0))
            names.append(("practice", "copy"))
        flat = [np.concatenate(x) for x in (src, dst, weight, kind, owner)]
        return Batch(
            torch.from_numpy(tokens), torch.from_numpy(positions), rows, torch.from_numpy(flat[0]),
            torch.from_numpy(flat[1]), torch.from_numpy(flat[2]).float(), flat[3], flat[4], names,
            sum(len(r.ids) for r in self.rows) + self.size - self.used,
        )


def cut_spans(spans, length):
    """The first `length` tokens of `spans`."""
    out = []
    for s, e in spans:
        if length <= 0:
            break
        out.append((s, min(e, s + length)))
        length -= e - s
    return out


class Stream:
    """Endless rows in random order, neighbours in the file together (they share beginnings)."""

    def __init__(self, bpe, patterns, seed, cluster, rename_share, renumber_share, context):
        self.bpe, self.patterns, self.cluster = bpe, patterns, cluster
        self.rename_share, self.renumber_share = rename_share, renumber_share
        self.rng, self.np_rng = random.Random(seed), np.random.default_rng(seed)
        self.lines, self.files, self.queue, self.epoch, self.context = [], set(), [], 0, context
        self.held = None
        self.look_for_files()

    def look_for_files(self):
        """Reads files that appeared since; returns how many rows they brought."""
        new, self.files = read_rows(self.patterns, self.files)
        self.queue_up(range(len(self.lines), len(self.lines) + len(new)))
        self.lines += new
        return len(new)

    def queue_up(self, ids):
        groups = [list(ids[i : i + self.cluster]) for i in range(0, len(ids), self.cluster)] + self.queue
        self.rng.shuffle(groups)
        self.queue = groups

    def next_row(self):
        if not self.queue:
            self.epoch += 1
            self.queue_up(range(len(self.lines)))
        group = self.queue[-1]
        raw = json.loads(self.lines[group.pop()])
        if not group:
            self.queue.pop()
        if self.rng.random() < self.rename_share:
            raw = rename(raw, self.bpe, self.rng)
        if self.rng.random() < self.renumber_share:
            raw = renumber(raw, self.rng)
        return encode_row(self.bpe, raw)

    def next_batch(self, size, practice_share, length_max, prompt_weight, prompt_share):
        """A batch of `size` tokens, `practice_share` of them copying practice."""
        packer, room = Packer(size), int(size * (1 - practice_share))
        misses = 0
        while packer.used < room and misses < 3:
            row, self.held = self.held or self.next_row(), None
            if len(row.ids) > min(length_max, self.context):
                continue
            if not packer.add(row):
                misses += 1
                self.held = row if misses == 3 else None
        return packer.batch(
            lambda t: practice_row(self.bpe, self.rng, t), self.np_rng, prompt_weight, prompt_share
        )


def eval_batches(bpe, lines, size):
    """Fixed batches of held-out rows, no practice, no prompt loss."""
    packer, out, rng = Packer(size), [], np.random.default_rng(0)
    for line in lines:
        row = encode_row(bpe, json.loads(line))
        if len(row.ids) <= size and not packer.add(row):
            out.append(packer.batch(None, rng, 0.0, 0.0))
            packer = Packer(size)
            packer.add(row)
    return out + [packer.batch(None, rng, 0.0, 0.0)]


def exact_by_name(batch, right):
    """{(role, family): [exact rows, rows]} from the argmax verdict of every scored token."""
    mine = batch.kind == COMPLETION
    wrong = np.bincount(batch.owner[mine], weights=~right[mine], minlength=len(batch.names))
    count = collections.defaultdict(lambda: [0, 0])
    for row in np.unique(batch.owner[mine]):
        count[batch.names[row]][0] += int(wrong[row] == 0)
        count[batch.names[row]][1] += 1
    return count
