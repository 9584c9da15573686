//! Profiles of the live process, taken one at a time: [`cpu`] by sampling, [`heap`] from the allocator.
//! `admin::debug` serves them.

#[cfg(feature = "cpu-profile")]
pub mod cpu;
#[cfg(not(feature = "cpu-profile"))]
#[path = "cpu_without.rs"]
pub mod cpu;
pub mod heap;
#[cfg(any(feature = "cpu-profile", feature = "heap-profile"))]
mod turn;
