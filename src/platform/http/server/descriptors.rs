//! File descriptors: each connection takes one, and a process without any can't even open a log.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for pools, outbound calls, logs and the admin port.
const RESERVE: u64 = 128;
/// Below this the service would be of no use; better to run short of descriptors now and then.
const LEAST: u64 = 16;

/// Raises the soft limit on open files to the hard one, and returns how many of the wanted connections fit.
pub fn descriptors(wanted_connections: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    fitting(current, wanted_connections)
}

fn fitting(limit: Option<u64>, wanted: usize) -> usize {
    // None is no limit at all.
    let Some(limit) = limit else { return wanted };
    let room = limit.saturating_sub(RESERVE).max(LEAST);
    wanted.min(usize::try_from(room).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_of_descriptors() {
        assert_eq!(fitting(None, 10_000), 10_000);
        assert_eq!(fitting(Some(1_024), 10_000), 896);
        assert_eq!(fitting(Some(1_024), 100), 100);
        assert_eq!(fitting(Some(64), 10_000), 16);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        assert!(descriptors(1) == 1);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
