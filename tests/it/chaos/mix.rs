//! What a load asks for: several requests, each with its part of all.

/// Makes the n-th request.
type Make = Box<dyn Fn(u64) -> Vec<u8> + Send + Sync>;

/// Requests in turn, each as often as its part says.
#[derive(Default)]
pub struct Mix(Vec<Part>);

struct Part {
    name: &'static str,
    /// The answer that is right.
    status: u16,
    /// Of each round.
    count: u64,
    make: Make,
}

impl Mix {
    #[must_use]
    pub fn with(
        mut self,
        count: u64,
        name: &'static str,
        status: u16,
        make: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        self.0.push(Part { name, status, count, make: Box::new(make) });
        self
    }

    /// The answers that are right: `tenant 200`.
    pub fn answers(&self) -> Vec<String> {
        self.0.iter().map(|part| format!("{} {}", part.name, part.status)).collect()
    }

    /// Requests of a round.
    fn round(&self) -> u64 {
        self.0.iter().map(|part| part.count).sum()
    }

    fn part(&self, number: u64) -> &Part {
        let mut at = number % self.round();
        for part in &self.0 {
            if at < part.count {
                return part;
            }
            at -= part.count;
        }
        unreachable!("a round has a part at each place")
    }

    pub fn name(&self, number: u64) -> &'static str {
        self.part(number).name
    }

    pub fn request(&self, number: u64) -> Vec<u8> {
        (self.part(number).make)(number)
    }
}
