//! Parsers of others, run where a panic of theirs becomes an error.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`, a parser of outside input that may panic; `None` if it did.
///
/// Nothing that `work` has touched is used again after a panic. In a browser a panic ends the program: what can be
/// checked before is checked before.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let _quiet = quiet::Quiet::begin();
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// As [`guarded`], on a thread with a stack of its own, for a parser that calls itself.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn guarded_on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    const STACK: usize = 64 << 20;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || guarded(work));
        thread.ok()?.join().ok().flatten()
    })
}

/// As [`guarded`]: there is only one stack.
#[cfg(target_arch = "wasm32")]
pub(crate) fn guarded_on_a_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
    guarded(work)
}

/// Silence about panics that become errors.
mod quiet {
    use std::{
        cell::Cell,
        panic::{set_hook, take_hook},
        sync::Once,
    };

    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }

    /// While it lives, panics of this thread are not reported.
    pub(super) struct Quiet;

    impl Quiet {
        pub(super) fn begin() -> Self {
            static ONCE: Once = Once::new();
            ONCE.call_once(|| {
                let reporting = take_hook();
                set_hook(Box::new(move |panic| {
                    if DEPTH.get() == 0 {
                        reporting(panic);
                    }
                }));
            });
            DEPTH.set(DEPTH.get() + 1);
            Self
        }
    }

    impl Drop for Quiet {
        fn drop(&mut self) {
            DEPTH.set(DEPTH.get() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recursion that a test's own stack of 2 MiB does not hold.
    fn deep(depth: usize) -> usize {
        let block = std::hint::black_box([depth; 64]);
        if depth == 0 { 0 } else { deep(depth - 1) + block[0].min(1) }
    }

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| 1), Some(1));
        assert_eq!(guarded(|| -> u8 { panic!("a parser gives up") }), None);
        assert_eq!(guarded_on_a_large_stack(|| -> u8 { panic!("a parser gives up") }), None);
        assert_eq!(guarded_on_a_large_stack(|| deep(40_000)), Some(40_000));
    }
}
