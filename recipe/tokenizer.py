"""The byte-level BPE of the embedded planner: training, encoding, saving.

Words are split with the qwen2 expression of llama.cpp (so digits stand alone), merges are learned
from words that many rows share, and each counts at most `COUNT_CAP` times. Names, which only a few
rows share, get no merges of their own, only the letter pairs and triples common among them: a name
seen in training falls into the same small pieces as one the model has never met, so copying one
teaches copying the other.
"""

import collections
import json
import os

import regex
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN2_SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORD = regex.compile(QWEN2_SPLIT)
SPECIAL_SPLIT = regex.compile("(" + "|".join(regex.escape(s) for s in SPECIALS) + ")")
# A capitalised word is a name unless a good share of the rows of its role and family has it.
SHARE_MIN, SHARE_MIN_CAPITAL = 0.02, 0.15
COUNT_CAP = 2000
PAIR_COUNT_MIN, PAIR_COUNT_MIN_NAMES = 3, 10
NAME_PIECE_MAX = 3


def bytes_to_unicode():
    """GPT-2's printable stand-in for each byte; the merges and the GGUF both use it."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table, extra = {b: chr(b) for b in keep}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


BYTES = bytes_to_unicode()


def word_counts(rows):
    """Counts of the words common enough to earn merges, {word: rows having it, capped}, and the rest.

    The share is taken inside each (role, family), so that the vocabulary of a small family counts
    as much as that of a large one.
    """
    seen, total = collections.defaultdict(collections.Counter), collections.Counter()
    for row in rows:
        group = (row["role"], row["family"])
        total[group] += 1
        text = [t for t, special in row["segments"] if not special] + [row["completion"]]
        template = [p for t, special in row["segments"] if special for p in SPECIAL_SPLIT.split(t)]
        words = set()
        for t in text + [p for p in template if p not in SPECIALS]:
            words.update(WORD.findall(t))
        seen[group].update(words)
    counts, every = collections.Counter(), set()
    for group, words in seen.items():
        every.update(words)
        for word, n in words.items():
            capital = any(c.isupper() for c in word)
            if n >= max(10, (SHARE_MIN_CAPITAL if capital else SHARE_MIN) * total[group]):
                counts[word] += n
    return {w: min(n, COUNT_CAP) for w, n in counts.items()}, sorted(every - set(counts))


def learn_merges(words, weights, merges_max, length_max, count_min):
    """Plain BPE over `words` (lists of pieces): joins the most frequent neighbours, again and again.

    No piece grows beyond `length_max` bytes, and a capital never joins what stands before its word:
    a name has the same pieces after a space, after a quote and at the start of a segment. Ties break by the pair's text, so the result does not
    depend on the order of the rows.
    """
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, w in enumerate(words):
        for p in zip(w, w[1:]):
            pairs[p] += weights[i]
            where[p].add(i)

    def allowed(pair):
        a, b = pair
        return len(a + b) <= length_max and (a[-1].isascii() and a[-1].isalpha() or not b[0].isupper())

    merges = []
    while len(merges) < merges_max:
        best = max((p for p in pairs if allowed(p)), key=lambda p: (pairs[p], p), default=None)
        if best is None or pairs[best] < count_min:
            break
        merges.append(best)
        for i in list(where[best]):
            old, new, j = words[i], [], 0
            while j < len(old):
                if j + 1 < len(old) and (old[j], old[j + 1]) == best:
                    new.append(old[j] + old[j + 1])
                    j += 2
                else:
                    new.append(old[j])
                    j += 1
            for p in zip(old, old[1:]):
                pairs[p] -= weights[i]
                where[p].discard(i)
                if pairs[p] <= 0:
                    del pairs[p]
            for p in zip(new, new[1:]):
                pairs[p] += weights[i]
                where[p].add(i)
            words[i] = new
    return merges


def train(rows, vocab_size, name_merges, path):
    """Learns at most `vocab_size` tokens from `rows`, `name_merges` of them pieces of rare words."""
    if os.path.exists(path):
        raise SystemExit(f"{path} exists: a checkpoint is worthless without its tokenizer, so choose another path")
    common, rare = word_counts(rows)
    base = SPECIALS + [BYTES[b] for b in range(256)]

    def saved(merges):
        tokens = list(dict.fromkeys(base + [a + b for a, b in merges]))
        capitals = sorted({w.strip() for w in common if w.strip()[:1].isupper()})
        return {"tokens": tokens, "merges": [f"{a} {b}" for a, b in merges], "common_capitals": capitals}

    words = sorted(common)
    merges = learn_merges([[BYTES[b] for b in w.encode()] for w in words], [common[w] for w in words],
                          vocab_size - len(base) - name_merges, 1 << 30, PAIR_COUNT_MIN)
    bpe = Bpe(saved(merges))
    pieces = [[bpe.tokens[i] for i in bpe.fast.encode(w).ids] for w in rare]
    merges += learn_merges(pieces, [1] * len(pieces), name_merges, NAME_PIECE_MAX, PAIR_COUNT_MIN_NAMES)
    with open(path + ".part", "w") as f:
        json.dump(saved(merges), f, ensure_ascii=False, indent=0)
    os.replace(path + ".part", path)
    return load(path)


def load(path):
    with open(path) as f:
        return Bpe(json.load(f))


class Bpe:
    """Text to token ids, segment by segment, as the program's own engine does it."""

    def __init__(self, saved):
        self.tokens, self.merges = saved["tokens"], saved["merges"]
        self.common_capitals = set(saved["common_capitals"])  # capitalised words that are no names
        ids = {t: i for i, t in enumerate(self.tokens)}
        merges = [tuple(m.split(" ")) for m in self.merges]
        self.fast = Tokenizer(models.BPE(vocab=ids, merges=merges))
        self.fast.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        self.special = {s: ids[s] for s in SPECIALS}
        self.im_end = ids["<|im_end|>"]
        self.raw = {c: b for b, c in BYTES.items()}
        self.cache = {}

    def __len__(self):
        return len(self.tokens)

    def encode(self, text, special=False):
        """Ids of one segment; `special` says that the names of special tokens mean those tokens."""
        if special not in (True, False):
            raise ValueError(f"segment flag {special!r}: want true or false")
        if not special:
            return self.fast.encode(text).ids
        ids = []
        for part in SPECIAL_SPLIT.split(text):
            if part in self.special:
                ids.append(self.special[part])
            elif part:
                ids += self.fast.encode(part).ids
        return ids

    def encode_prompt(self, segments):
        ids = []
        for text, special in segments:
            key = (text, special)
            got = self.cache.get(key)
            if got is None:
                got = self.encode(text, special)
                if len(self.cache) > 50_000:  # template text comes back soon enough
                    self.cache.clear()
                self.cache[key] = got
            ids += got
        return ids

    def decode(self, ids):
        out = b""
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if t in self.special else bytes(self.raw[c] for c in t)
        return out.decode(errors="replace")
