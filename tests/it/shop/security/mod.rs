//! What `security` shows of any route, shown of flows, bodies and calls that only the example has; the files have the
//! same names.

mod fail_closed;
mod fields;
mod flows;
mod log_lines;
mod objects;
mod random_requests;
pub mod tenants_fuzz;
mod upstream;
mod webhooks;

/// Random numbers that a seed repeats (splitmix64).
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }
}
