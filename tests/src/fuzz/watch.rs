//! What happens to a parser that does not come back: it hangs, overflows its stack, or aborts.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Checks of one input, [`PAUSE`] apart, after which it counts as hanging.
const CHECKS: u32 = 60;
const PAUSE: Duration = Duration::from_secs(2);

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Ends the process if an input hangs, and keeps the number of the current input in a file for other ends.
pub(super) struct Watch {
    current: Arc<AtomicU64>,
    file: Option<File>,
}

impl Watch {
    pub(super) fn new(parser: &'static str) -> Self {
        let current = Arc::new(AtomicU64::new(u64::MAX));
        let seen = Arc::downgrade(&current);
        std::thread::spawn(move || {
            let (mut last, mut checks) = (u64::MAX, 0);
            while let Some(number) = seen.upgrade().map(|current| current.load(Ordering::Relaxed)) {
                checks = if number == last && number != u64::MAX { checks + 1 } else { 0 };
                last = number;
                if checks >= CHECKS {
                    eprintln!("fuzz: {parser}: input {number} hangs");
                    std::process::abort();
                }
                std::thread::sleep(PAUSE);
            }
        });
        let file = File::create(super::folder().join(format!("{parser}.current"))).ok();
        Self { current, file }
    }

    /// Input `number` begins.
    pub(super) fn begin(&self, number: u64) {
        self.current.store(number, Ordering::Relaxed);
        #[cfg(unix)]
        if let Some(file) = &self.file {
            use std::os::unix::fs::FileExt;
            // Only for a debugger.
            drop(file.write_all_at(format!("{number:<20}\n").as_bytes(), 0));
        }
    }
}

/// Whether panics of this thread are kept instead of printed; gives the place of the last one.
pub(super) fn silence(silent: bool) -> String {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if SILENT.try_with(Cell::get).unwrap_or(false) {
                let place = info.location().map(|at| format!("at {at}")).unwrap_or_default();
                PLACE.with_borrow_mut(|kept| *kept = place);
            } else {
                before(info);
            }
        }));
    });
    SILENT.set(silent);
    PLACE.take()
}
