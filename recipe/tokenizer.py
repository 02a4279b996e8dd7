"""The tokenizer of the embedded planner, words or pieces: training, encoding, saving.

Words are split with the llama3 expression of llama.cpp. What many rows share is one token as a
whole, and so is every number of up to three digits: both are found before any merge is tried
(`ignore_merges`). Everything else, above all names, falls into small pieces of letters alone,
which never join the space or quote before them. So a rare word has the same pieces wherever it
stands, whether the model has met it or not, and copying one teaches copying the other; and a
number is copied in a third of the steps, with no long run of equal digits to get lost in.
"""

import collections
import json
import os

import regex
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SPLIT = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
WORD = regex.compile(SPLIT)
LETTERS = regex.compile(r"[A-Za-z]{2,}")
SPECIAL_SPLIT = regex.compile("(" + "|".join(regex.escape(s) for s in SPECIALS) + ")")
# A capitalised word is a name unless a good share of the rows of its role and family has it.
SHARE_MIN, SHARE_MIN_CAPITAL = 0.05, 0.15
PAIR_COUNT_MIN = 10
PIECE_MAX = 3


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
    """Counts of the words common enough to be tokens, {word: rows having it}, and the rest.

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
            # A file's name is a name, however often the bundled ones are asked about.
            if word[0] != "/" and n >= max(10, (SHARE_MIN_CAPITAL if capital else SHARE_MIN) * total[group]):
                counts[word] += n
    return counts, sorted(every - set(counts))


def learn_merges(words, merges_max):
    """Plain BPE over `words` (lists of letters): joins the most frequent neighbours, again and again.

    No piece grows beyond `PIECE_MAX` bytes. Ties break by the pair's text, so the result does not
    depend on the order of the rows.
    """
    pairs, where = collections.Counter(), collections.defaultdict(set)
    for i, w in enumerate(words):
        for p in zip(w, w[1:]):
            pairs[p] += 1
            where[p].add(i)
    merges = []
    while len(merges) < merges_max:
        fitting = (p for p in pairs if len(p[0] + p[1]) <= PIECE_MAX)
        best = max(fitting, key=lambda p: (pairs[p], p), default=None)
        if best is None or pairs[best] < PAIR_COUNT_MIN:
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
                pairs[p] -= 1
                where[p].discard(i)
                if pairs[p] <= 0:
                    del pairs[p]
            for p in zip(new, new[1:]):
                pairs[p] += 1
                where[p].add(i)
            words[i] = new
    return merges


def train(rows, vocab_size, pieces, path):
    """Learns at most `vocab_size` tokens from `rows`, `pieces` of them for rare words."""
    if os.path.exists(path):
        raise SystemExit(f"{path} exists: a checkpoint is worthless without its tokenizer, so choose another path")
    common, rare = word_counts(rows)
    # The letters of a rare word, without what stands before them.
    cores = sorted({c for w in rare for c in LETTERS.findall(w)})
    merges = learn_merges([list(c) for c in cores], pieces)
    tokens = SPECIALS + [BYTES[b] for b in range(256)] + [a + b for a, b in merges]
    tokens += [f"{n:0{k}}" for k in (2, 3) for n in range(10**k)]
    tokens = list(dict.fromkeys(tokens))
    # llama.cpp wants a way to each token of a word by merges, too, where it does not look it up whole.
    merges += [(f"{a}", f"{b}") for a in range(10) for b in range(10)]
    merges += [(f"{n:02}", f"{b}") for n in range(100) for b in range(10)]
    merges += [(f"{a}", f"{n:02}") for a in range(10) for n in range(100)]
    words = ["".join(BYTES[b] for b in w.encode()) for w, _ in sorted(common.items(), key=lambda x: (-x[1], x[0]))]
    words = [w for w in dict.fromkeys(words) if w not in set(tokens)]
    tokens += words[: vocab_size - len(tokens)]
    capitals = sorted({w.strip() for w in common if w.strip()[:1].isupper()})
    saved = {"tokens": tokens, "merges": [f"{a} {b}" for a, b in merges], "common_capitals": capitals}
    with open(path + ".part", "w") as f:
        json.dump(saved, f, ensure_ascii=False, indent=0)
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
        self.fast = Tokenizer(models.BPE(vocab=ids, merges=merges, ignore_merges=True))
        self.fast.pre_tokenizer = pre_tokenizers.Sequence([
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ])
        self.special = {s: ids[s] for s in SPECIALS}
        self.im_end = ids["<|im_end|>"]
        self.raw = {c: b for b, c in BYTES.items()}
        # Words that are one token after a space, and pieces after any other sign: "in staff.csv", "data/staff.csv".
        self.words = [t[1:] for t in self.tokens if regex.fullmatch("\u0120[a-z]{3,}", t)]
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
