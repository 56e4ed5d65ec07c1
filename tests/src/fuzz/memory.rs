//! Memory that the current thread holds.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// One parser never needs more. An allocation beyond it fails, so that a hostile size does not fill the machine.
const HARD_LIMIT: isize = 6 << 30;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, which counts the bytes of each thread.
pub struct Counting;

fn add(bytes: usize) -> bool {
    let live = LIVE.get().saturating_add_unsigned(bytes);
    if live > HARD_LIMIT {
        PEAK.set(live);
        return false;
    }
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
    true
}

#[expect(unsafe_code, reason = "an allocator is unsafe by its trait")]
// SAFETY: every call is handed to the system's allocator unchanged, or refused with a null pointer.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !add(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !add(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.set(LIVE.get().saturating_sub_unsigned(layout.size()));
        // SAFETY: the caller's promises are the same.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !add(size) {
            return std::ptr::null_mut();
        }
        LIVE.set(LIVE.get().saturating_sub_unsigned(layout.size()));
        // SAFETY: the caller's promises are the same.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Starts a measurement.
pub(super) fn begin() -> isize {
    PEAK.set(LIVE.get());
    LIVE.get()
}

/// Largest number of bytes held since [`begin`], beyond those held then; 0 without [`Counting`].
pub(super) fn end(before: isize) -> usize {
    usize::try_from(PEAK.get() - before).unwrap_or(0)
}
