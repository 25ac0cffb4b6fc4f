//! The process's allocator: mimalloc, which is told when to give pages back to the system.
//!
//! A join or a run frees as much as it takes, a row group at a time. By default mimalloc keeps what is freed for a second,
//! and a second of work is hundreds of megabytes: a run over 10 M rows of 10 floats peaked at 690 MB, with 50 ms at 540 MB,
//! with 10 ms at 510 MB. Pages that come again have to be cleared by the kernel. In a run over 30 M rows that did not show:
//! with 50, 20 and 5 ms it took 6.9, 6.6 and 6.8 s.

use libmimalloc_sys::{mi_option_set, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// `mi_option_purge_delay` of mimalloc's header, which its binding leaves out.
const PURGE_DELAY: mi_option_t = 15;
const SOON_MILLISECONDS: std::ffi::c_long = 10;
const LATE_MILLISECONDS: std::ffi::c_long = 1_000;

/// Freed pages go back to the system after 10 ms.
pub(crate) fn give_back_soon() {
    purge_after(SOON_MILLISECONDS);
}

/// Freed pages go back to the system after a second, as mimalloc does it: a service needs them again at once, and
/// with 10 ms page faults took 0.7 us of each online read from Redis.
pub(crate) fn give_back_late() {
    purge_after(LATE_MILLISECONDS);
}

#[expect(
    unsafe_code,
    reason = "an option of the allocator, a number for a number, which may be set at any time"
)]
fn purge_after(milliseconds: std::ffi::c_long) {
    // SAFETY: mimalloc checks the option's number, and reads the value as a number only.
    unsafe { mi_option_set(PURGE_DELAY, milliseconds) }
}
