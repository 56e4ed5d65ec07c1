//! Code of other crates that panics where it should say that its input is damaged.

use std::{
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use anyhow::{Result, anyhow};

thread_local! {
    /// Whether this thread is inside [`guarded`].
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}
static QUIET: Once = Once::new();

/// What `work` makes; an error if it panics. Nothing is printed then, and what `work` was changing must not be used again.
///
/// Memory is not guarded: check sizes before.
pub(crate) fn guarded<T>(work: impl FnOnce() -> T) -> Result<T> {
    QUIET.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !INSIDE.get() {
                told(panic);
            }
        }));
    });
    let before = INSIDE.replace(true);
    let made = panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(before);
    made.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        anyhow!("its reader gave up: {}", text.unwrap_or("it does not say why"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        assert_eq!(guarded(|| 7).unwrap(), 7);
        let empty: Vec<u8> = vec![];
        let error = guarded(|| empty[3]).unwrap_err().to_string();
        assert!(error.contains("its reader gave up: index out of bounds"), "{error}");
        assert!(!INSIDE.get() && guarded(|| guarded(|| panic!("x")).is_err()).unwrap());
    }
}
