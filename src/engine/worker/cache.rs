//! Which tokens each KV sequence of a context holds, and which one a new prompt should start from.
//!
//! Pure bookkeeping: it calls no llama.cpp. A slot is one sequence id; an idle slot keeps its tokens until
//! someone needs its place.

/// One KV sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// What the KV holds, in order.
    pub tokens: Vec<i32>,
    /// Which adapter it was computed under: the swap count at that time.
    pub adapter: u64,
    pub busy: bool,
    /// When it was last let go; the smallest is evicted first.
    used: u64,
}

/// Where a new sequence goes: slot `to`, sharing the first `reuse` tokens of slot `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub to: usize,
    pub from: usize,
    pub reuse: usize,
}

pub struct Cache {
    pub slots: Vec<Slot>,
    /// A running state cannot be cut: only a whole slot can be continued.
    whole_only: bool,
    clock: u64,
}

impl Cache {
    pub fn new(slots: usize, whole_only: bool) -> Cache {
        Cache { slots: vec![Slot::default(); slots], whole_only, clock: 0 }
    }

    /// The slot with the longest usable prefix of `tokens`, and its length. At least the last token is left
    /// to decode, for its logits.
    pub fn longest(&self, tokens: &[i32], adapter: u64) -> (usize, usize) {
        let most = tokens.len().saturating_sub(1);
        let mut best = (0, 0);
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.adapter == adapter) {
            let mut common = common_prefix(&slot.tokens, tokens).min(most);
            if self.whole_only && common < slot.tokens.len() {
                common = 0;
            }
            // Equal prefixes: an idle slot can be taken over, a busy one only shared.
            if common > best.1 || (common == best.1 && common > 0 && self.slots[best.0].busy && !slot.busy) {
                best = (index, common);
            }
        }
        best
    }

    /// Choose a slot for a prompt that can start from `reuse` tokens of slot `from`; None when all are busy.
    pub fn place(&self, from: usize, reuse: usize) -> Option<Place> {
        let donor_spent = !self.slots[from].busy && reuse > 0 && self.slots[from].tokens.len() == reuse;
        if donor_spent {
            return Some(Place { to: from, from, reuse });
        }
        let idle = |(_, slot): &(usize, &Slot)| !slot.busy;
        let oldest = |(_, slot): &(usize, &Slot)| (!slot.tokens.is_empty(), slot.used);
        let other = self.slots.iter().enumerate().filter(idle).filter(|(i, _)| *i != from).min_by_key(oldest);
        let to = match other {
            Some((index, _)) => index,
            None if !self.slots[from].busy => from,
            None => return None,
        };
        Some(Place { to, from, reuse })
    }

    /// The idle slot that was let go first among those that hold something.
    pub fn oldest_idle(&self) -> Option<usize> {
        let held = self.slots.iter().enumerate().filter(|(_, slot)| !slot.busy && !slot.tokens.is_empty());
        held.min_by_key(|(_, slot)| slot.used).map(|(index, _)| index)
    }

    /// The oldest idle slot with tokens of its own, while idle slots hold more than `most` that no busy slot
    /// shares.
    pub fn beyond(&self, most: usize) -> Option<usize> {
        let busy = || self.slots.iter().filter(|slot| slot.busy);
        let own = |slot: &Slot| {
            let shared = |other: &Slot| common_prefix(&slot.tokens, &other.tokens);
            slot.tokens.len() - busy().map(shared).max().unwrap_or(0)
        };
        let idle: Vec<(usize, usize)> = (0..self.slots.len())
            .filter(|&index| !self.slots[index].busy)
            .map(|index| (index, own(&self.slots[index])))
            .filter(|(_, own)| *own > 0)
            .collect();
        if idle.iter().map(|(_, own)| own).sum::<usize>() <= most {
            return None;
        }
        idle.into_iter().map(|(index, _)| index).min_by_key(|&index| self.slots[index].used)
    }

    pub fn release(&mut self, slot: usize) {
        self.clock += 1;
        self.slots[slot].busy = false;
        self.slots[slot].used = self.clock;
    }

    pub fn forget_all(&mut self) {
        for slot in &mut self.slots {
            slot.tokens.clear();
        }
    }
}

pub fn common_prefix(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(contents: &[&[i32]]) -> Cache {
        let mut cache = Cache::new(contents.len(), false);
        for (slot, tokens) in contents.iter().enumerate() {
            cache.slots[slot].tokens = tokens.to_vec();
            cache.release(slot);
        }
        cache
    }

    #[test]
    fn the_longest_prefix_wins_and_the_last_token_is_left() {
        let cache = cache(&[&[1, 2], &[1, 2, 3, 4], &[9]]);
        assert_eq!(cache.longest(&[1, 2, 3, 7, 8], 0), (1, 3));
        assert_eq!(cache.longest(&[1, 2, 3, 4], 0), (1, 3));
        assert_eq!(cache.longest(&[5], 0), (0, 0));
        assert_eq!(cache.longest(&[1, 2, 3], 1), (0, 0), "another adapter's KV is never used");
    }

    #[test]
    fn idle_prefixes_beyond_the_allowance_go_oldest_first_and_shared_cells_do_not_count() {
        let mut cache = cache(&[&[1, 2, 3], &[4, 5], &[6, 7, 8, 9]]);
        assert_eq!(cache.beyond(9), None);
        assert_eq!(cache.beyond(8), Some(0));
        cache.slots[2].tokens = vec![1, 2, 3, 9];
        cache.slots[2].busy = true;
        assert_eq!(cache.beyond(2), None, "the first is all shared");
        assert_eq!(cache.beyond(1), Some(1));
    }

    #[test]
    fn a_running_state_is_only_continued_whole() {
        let mut cache = cache(&[&[1, 2, 3]]);
        cache.whole_only = true;
        assert_eq!(cache.longest(&[1, 2, 9], 0), (0, 0));
        assert_eq!(cache.longest(&[1, 2, 3, 9], 0), (0, 3));
    }

    #[test]
    fn places_take_over_then_empty_then_oldest() {
        let mut cache = cache(&[&[1, 2, 3], &[4], &[]]);
        assert_eq!(cache.place(0, 3), Some(Place { to: 0, from: 0, reuse: 3 }));
        assert_eq!(cache.place(0, 2), Some(Place { to: 2, from: 0, reuse: 2 }));
        cache.slots[2].busy = true;
        assert_eq!(cache.place(0, 2), Some(Place { to: 1, from: 0, reuse: 2 }));
        cache.slots[1].busy = true;
        assert_eq!(cache.place(0, 2), Some(Place { to: 0, from: 0, reuse: 2 }));
        cache.slots[0].busy = true;
        assert_eq!(cache.place(0, 2), None);
    }
}
