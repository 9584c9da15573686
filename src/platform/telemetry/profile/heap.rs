//! Heap profiles: what holds memory now, by the stack that allocated it. Only in builds with the feature
//! `heap-profile`, which replaces the allocator by jemalloc; this file is all that knows of it.

use crate::platform::error::{Error, Kind, Result};

/// The heap as gzipped pprof protobuf.
///
/// # Errors
/// [`Kind::NotFound`] in a build without it, [`Kind::Conflict`] while there is another profile or when sampling was
/// turned off from outside, [`Kind::Internal`] when the heap can't be dumped.
#[cfg(feature = "heap-profile")]
pub async fn record() -> Result<Vec<u8>> {
    let turn = super::turn::Turn::take(std::time::Duration::ZERO)?;
    let dump = tokio::task::spawn_blocking(move || {
        let dump = jemalloc::dump();
        drop(turn);
        dump
    });
    dump.await.map_err(Error::internal)?
}

/// The answer of builds without heap profiles.
///
/// # Errors
/// [`Kind::NotFound`], always: how to build with them.
#[cfg(not(feature = "heap-profile"))]
pub async fn record() -> Result<Vec<u8>> {
    Err(Error::new(
        Kind::NotFound,
        "heap_profile_not_built",
        "This build has no heap profiles: build it with `cargo build --release --features heap-profile`. \
         Nothing needs to be set to run it; it samples from the start.",
    ))
}

#[cfg(feature = "heap-profile")]
mod jemalloc {
    use jemalloc_pprof::PROF_CTL;

    use super::{Error, Kind, Result};

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    /// What jemalloc reads at its start: sampling on, one allocation per 512 KiB, which costs about nothing. On from
    /// the start, because what was allocated before is in no profile. `MALLOC_CONF` in the environment goes before.
    #[expect(unsafe_code, reason = "jemalloc looks for a C variable of this name and type; nothing else has it")]
    #[unsafe(export_name = "malloc_conf")]
    #[used]
    static CONFIG: &u8 = &b"prof:true,prof_active:true,lg_prof_sample:19\0"[0];

    pub fn dump() -> Result<Vec<u8>> {
        let off = || {
            Error::new(
                Kind::Conflict,
                "heap_profile_off",
                "Heap sampling is off: start the service without prof:false and prof_active:false in MALLOC_CONF.",
            )
        };
        let mut control = PROF_CTL.as_ref().ok_or_else(off)?.blocking_lock();
        if !control.activated() {
            return Err(off());
        }
        let heap = control.dump_pprof().map_err(|error| Error::internal(error.into_boxed_dyn_error()))?;
        tracing::info!(bytes = heap.len(), "heap_profile_taken");
        Ok(heap)
    }
}
