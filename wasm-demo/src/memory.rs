//! What the page hears when the tab's memory is full: how much more was wanted. By itself, Rust only stops.

#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};

use crate::bridge;

#[global_allocator]
static ALLOCATOR: Telling = Telling;

/// The system's allocator, which tells the page about every request that it cannot meet.
struct Telling;

fn told(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        // Takes no memory itself.
        bridge::full(bytes);
    }
    block
}

// SAFETY: every call is passed on to the system's allocator as it is, and its answer returned unchanged.
unsafe impl GlobalAlloc for Telling {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps what `GlobalAlloc` asks of it.
        told(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        told(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        told(unsafe { System.realloc(block, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }
}
