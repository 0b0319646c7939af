//! The keys of token objects in memory: masked until they are used, parsed while they are in use.
//!
//! A partition with thousands of keys costs memory and start time for those alone that are used. A
//! stored key stands here under a key that is made at each start and never leaves the process; its
//! first use unmasks and parses it. Parsed keys are bounded by number: beyond it a second-chance
//! clock takes out one that has not been used since the hand last passed. An operation under way
//! keeps what it has (`Arc`).
//!
//! A use costs one uncontended lock of the key's own; no lock is shared between keys except when a
//! key is parsed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use crate::failure::Failure;
use crate::keys::Key;
use crate::lc::gcm::AesGcm;
use crate::lc::{Error, Secret, random};

/// Parsed keys of one partition at once; session objects' keys are not among them.
pub const PARSED_MAX: usize = 1024;

/// The cache of one partition.
#[derive(Debug)]
pub struct KeyCache {
    /// Of this process only.
    masking: AesGcm,
    /// Numbers the maskings: each nonce comes once.
    next_nonce: AtomicU64,
    limit: usize,
    clock: Mutex<Clock>,
}

#[derive(Debug, Default)]
struct Clock {
    parsed: Vec<Weak<CachedKey>>,
    hand: usize,
}

/// A stored key: masked, and parsed while it is in use.
#[derive(Debug)]
pub struct CachedKey {
    cache: Arc<KeyCache>,
    nonce: u64,
    /// Ciphertext and tag; empty where there is nothing secret (public keys).
    masked: Box<[u8]>,
    tag: [u8; 16],
    parsed: RwLock<Option<Arc<Key>>>,
    used: AtomicBool,
}

impl KeyCache {
    /// A cache for at most `limit` parsed keys.
    pub fn new(limit: usize) -> Result<Arc<Self>, Error> {
        let mut key = Secret::zeroed(32);
        random::fill(key.expose_mut())?;
        Ok(Arc::new(Self {
            masking: AesGcm::new(key.expose())?,
            next_nonce: AtomicU64::new(1),
            limit: limit.max(1),
            clock: Mutex::default(),
        }))
    }

    /// Keeps a stored key (`Key::stored`), masked.
    pub fn keep(self: &Arc<Self>, stored: &[u8]) -> Result<Arc<CachedKey>, Error> {
        let nonce = self.next_nonce.fetch_add(1, Ordering::Relaxed);
        let (masked, tag) = if stored.is_empty() {
            (Vec::new(), [0; 16])
        } else {
            self.masking.seal(&iv(nonce), &[], stored)?
        };
        Ok(Arc::new(CachedKey {
            cache: self.clone(),
            nonce,
            masked: masked.into_boxed_slice(),
            tag,
            parsed: RwLock::new(None),
            used: AtomicBool::new(false),
        }))
    }

    /// Counts a parsed key in, and another out where there are too many.
    fn admit(&self, key: &Arc<CachedKey>) {
        let mut clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        if clock.parsed.len() < self.limit {
            clock.parsed.push(Arc::downgrade(key));
            return;
        }
        // Twice around at most: the first time clears every mark.
        for _ in 0..2 * self.limit {
            let hand = clock.hand;
            clock.hand = (hand + 1) % self.limit;
            let Some(place) = clock.parsed.get_mut(hand) else {
                continue;
            };
            let old = place.upgrade();
            if old
                .as_ref()
                .is_some_and(|old| old.used.swap(false, Ordering::Relaxed))
            {
                continue;
            }
            *place = Arc::downgrade(key);
            if let Some(old) = old {
                old.forget();
            }
            return;
        }
    }

    /// Parsed keys at this moment.
    pub fn parsed(&self) -> usize {
        let clock = self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        clock
            .parsed
            .iter()
            .filter(|key| key.strong_count() > 0)
            .count()
    }
}

impl CachedKey {
    /// The stored key in clear.
    pub fn stored(&self) -> Result<Secret, Error> {
        if self.masked.is_empty() {
            return Ok(Secret::zeroed(0));
        }
        self.cache
            .masking
            .open(&iv(self.nonce), &[], &self.masked, &self.tag)
    }

    /// The key, parsed by `parse` if nobody has used it lately.
    pub fn get(
        self: &Arc<Self>,
        parse: impl FnOnce(&[u8]) -> Result<Key, Failure>,
    ) -> Result<Arc<Key>, Failure> {
        let found = self
            .parsed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(key) = found {
            self.mark_used();
            return Ok(key);
        }
        let key = Arc::new(parse(self.stored()?.expose())?);
        self.set(key.clone());
        Ok(key)
    }

    /// Gives it a second chance when the clock's hand passes.
    pub fn mark_used(&self) {
        // Most often it is marked already: reading it keeps the line shared between cores.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Gives it its parsed form, which its maker has already.
    pub fn set(self: &Arc<Self>, key: Arc<Key>) {
        let before = self
            .parsed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(key);
        self.used.store(true, Ordering::Relaxed);
        if before.is_none() {
            self.cache.admit(self);
        }
    }

    fn forget(&self) {
        self.parsed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

fn iv(nonce: u64) -> [u8; 12] {
    let mut iv = [0; 12];
    if let Some(low) = iv.first_chunk_mut() {
        *low = nonce.to_le_bytes();
    }
    iv
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lc::ec;

    fn stored() -> (Secret, Vec<u8>) {
        let key = ec::PrivateKey::generate(ec::Curve::P256).unwrap();
        (key.scalar().unwrap(), key.public_point().unwrap())
    }

    fn parse(stored: &[u8]) -> Result<Key, Failure> {
        let key = ec::PrivateKey::from_scalar(ec::Curve::P256, stored)?;
        Ok(Key::EcPrivate(key))
    }

    #[test]
    fn keys_come_back_and_stay_bounded() {
        let cache = KeyCache::new(4).unwrap();
        let keys: Vec<_> = (0..20)
            .map(|_| {
                let (secret, _) = stored();
                (cache.keep(secret.expose()).unwrap(), secret)
            })
            .collect();
        for _ in 0..3 {
            for (key, secret) in &keys {
                assert_eq!(key.stored().unwrap().expose(), secret.expose());
                assert!(!key.masked.windows(16).any(|w| w == &secret.expose()[..16]));
                let parsed = key.get(parse).unwrap();
                assert_eq!(parsed.stored().unwrap().expose(), secret.expose());
                assert!(cache.parsed() <= 4);
            }
        }
        let standing = keys
            .iter()
            .filter(|(key, _)| key.parsed.read().unwrap().is_some())
            .count();
        assert_eq!(standing, 4);
    }

    #[test]
    fn a_key_in_use_gets_its_second_chance() {
        let cache = KeyCache::new(3).unwrap();
        let keys: Vec<_> = (0..12)
            .map(|_| cache.keep(stored().0.expose()).unwrap())
            .collect();
        let favourite = &keys[0];
        let first = favourite.get(parse).unwrap();
        // The first round clears the marks of all; from then on what is used between evictions stays.
        for key in &keys[1..4] {
            key.get(parse).unwrap();
        }
        let again = favourite.get(parse).unwrap();
        for key in &keys[4..] {
            key.get(parse).unwrap();
            assert!(Arc::ptr_eq(&favourite.get(parse).unwrap(), &again));
        }
        drop(first);
    }

    #[test]
    fn destroyed_keys_leave_their_places() {
        let cache = KeyCache::new(2).unwrap();
        for _ in 0..10 {
            let key = cache.keep(stored().0.expose()).unwrap();
            key.get(parse).unwrap();
        }
        assert_eq!(cache.parsed(), 0);
        let keys: Vec<_> = (0..2)
            .map(|_| cache.keep(stored().0.expose()).unwrap())
            .collect();
        keys.iter().for_each(|key| drop(key.get(parse).unwrap()));
        assert_eq!(cache.parsed(), 2);
    }

    #[test]
    fn threads_share_a_key_while_others_push_it_out() {
        let cache = KeyCache::new(2).unwrap();
        let keys: Vec<_> = (0..6)
            .map(|_| cache.keep(stored().0.expose()).unwrap())
            .collect();
        std::thread::scope(|scope| {
            for start in 0..4 {
                let keys = &keys;
                scope.spawn(move || {
                    for step in 0..300 {
                        let key = &keys[(start + step) % keys.len()];
                        let parsed = key.get(parse).unwrap();
                        let stored = key.stored().unwrap();
                        assert_eq!(parsed.stored().unwrap().expose(), stored.expose());
                    }
                });
            }
        });
        assert!(cache.parsed() <= 2);
    }
}
