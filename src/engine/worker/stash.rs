//! Prefixes kept beside the KV, in whole chunks, so that nobody attends over them while they are idle. A chunk
//! is known by the hash of every token up to its end: prompts that begin alike share their chunks.
//!
//! Pure bookkeeping: the bytes come from and go to the context elsewhere.

use std::collections::HashMap;

/// Tokens of one chunk. What a prefix has beyond its last whole chunk is not kept.
pub const CHUNK: usize = 64;

/// blake3 of the adapter's swap count and of all tokens up to the chunk's end.
pub type Key = [u8; 32];

struct Chunk {
    state: Vec<u8>,
    /// The round it was last put or fetched in.
    used: u64,
}

pub struct Stash {
    chunks: HashMap<Key, Chunk>,
    /// Bytes held, and at most.
    held: usize,
    most: usize,
    round: u64,
}

impl Stash {
    /// Room for `most` bytes; 0 keeps nothing.
    pub fn new(most: usize) -> Stash {
        Stash { chunks: HashMap::new(), held: 0, most, round: 0 }
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// A new round: only chunks that no call of this round has touched make way for others.
    pub fn next_round(&mut self) {
        self.round += 1;
    }

    /// Mark a chunk as used; false when it is not here.
    pub fn touch(&mut self, key: &Key) -> bool {
        let round = self.round;
        self.chunks.get_mut(key).map(|chunk| chunk.used = round).is_some()
    }

    pub fn get(&mut self, key: &Key) -> Option<&[u8]> {
        let round = self.round;
        self.chunks.get_mut(key).map(|chunk| {
            chunk.used = round;
            chunk.state.as_slice()
        })
    }

    /// Keep a chunk; those unused for longest make way. Without room for it, it is let go.
    pub fn put(&mut self, key: Key, state: Vec<u8>) {
        while self.held + state.len() > self.most {
            let old = self.chunks.iter().filter(|(_, chunk)| chunk.used < self.round);
            let Some(oldest) = old.min_by_key(|(_, chunk)| chunk.used).map(|(key, _)| *key) else { return };
            self.held -= self.chunks.remove(&oldest).map_or(0, |chunk| chunk.state.len());
        }
        self.held += state.len();
        let chunk = Chunk { state, used: self.round };
        self.held -= self.chunks.insert(key, chunk).map_or(0, |chunk| chunk.state.len());
    }

    pub fn clear(&mut self) {
        self.chunks.clear();
        self.held = 0;
    }
}

/// The keys of the whole chunks of `tokens`.
pub fn keys(tokens: &[i32], adapter: u64) -> Vec<Key> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&adapter.to_le_bytes());
    tokens
        .chunks_exact(CHUNK)
        .map(|chunk| {
            for token in chunk {
                hasher.update(&token.to_le_bytes());
            }
            *hasher.finalize().as_bytes()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_everything_up_to_the_end_of_their_chunk() {
        let tokens: Vec<i32> = (0..200).collect();
        let mut other = tokens.clone();
        other[100] = -1;
        let (one, two) = (keys(&tokens, 0), keys(&other, 0));
        assert_eq!((one.len(), two.len()), (3, 3), "the last 8 tokens are no chunk");
        assert_eq!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
        assert_ne!(one[2], two[2], "what came before counts");
        assert_ne!(one[0], keys(&tokens, 1)[0], "another adapter's KV is never used");
    }

    #[test]
    fn the_chunks_unused_for_longest_make_way_and_this_round_s_stay() {
        let mut stash = Stash::new(30);
        let key = |k: u8| [k; 32];
        for k in 1..=3 {
            stash.next_round();
            stash.put(key(k), vec![0; 10]);
        }
        stash.next_round();
        assert!(stash.touch(&key(1)) && !stash.touch(&key(9)));
        stash.put(key(4), vec![0; 10]);
        assert!(stash.get(&key(2)).is_none(), "it was unused for longest");
        assert!([1, 3, 4].iter().all(|&k| stash.get(&key(k)).is_some()));
        stash.put(key(5), vec![0; 20]);
        assert!(stash.get(&key(5)).is_none() && stash.get(&key(4)).is_some(), "this round's stay");
        stash.clear();
        assert!(stash.get(&key(1)).is_none());
    }
}
