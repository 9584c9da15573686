//! Values out of the bytes of a fuzzer: whatever they are, and zeros when they are used up.

use std::borrow::Cow;

/// What is left of the bytes.
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let taken = self.bytes(N);
        array[..taken.len()].copy_from_slice(taken);
        array
    }

    pub fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// A number below `limit`, which is at most 256.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub fn float(&mut self) -> f64 {
        f64::from_bits(u64::from_le_bytes(self.array()))
    }

    /// Text of up to 63 bytes, whose length is the first of them.
    pub fn text(&mut self) -> Cow<'a, str> {
        let length = self.below(64);
        String::from_utf8_lossy(self.bytes(length))
    }

    /// As many letters and digits, the last of them a digit: tokens are told from words by it.
    pub fn token(&mut self, length: usize) -> String {
        const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let mut token: String = (1..length).map(|_| char::from(self.pick(ALPHABET))).collect();
        token.push(char::from(b'0' + self.byte() % 10));
        token
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rest(&mut self) -> Cow<'a, str> {
        String::from_utf8_lossy(self.bytes(usize::MAX))
    }
}
