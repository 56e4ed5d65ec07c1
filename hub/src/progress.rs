//! What a download reports while it runs.

use std::time::Duration;

use super::HubError;

/// Something that happened during [`fetch`](super::Store::fetch) or [`verify`](super::Store::verify).
#[derive(Debug)]
pub enum Event<'a> {
    /// All sizes are known; the transfer of the large files begins.
    Planned {
        /// Files of the checkpoint.
        files: usize,
        /// Their size together.
        bytes: u64,
        /// How much of it the cache already holds.
        present: u64,
    },
    /// A file begins.
    Started {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes kept from an earlier, interrupted download.
        resumed: u64,
        /// Its whole size.
        size: u64,
    },
    /// A file grew. `done` falls back to 0 where a server cannot resume.
    Advanced {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes there now, resumed ones included.
        done: u64,
        /// Its whole size.
        size: u64,
    },
    /// Another process is writing the same file.
    Waiting {
        /// Its name in the repository.
        file: &'a str,
    },
    /// A request failed in a way that may pass.
    Retrying {
        /// Its name in the repository.
        file: &'a str,
        /// 1 for the first repetition.
        attempt: u32,
        /// Pause before it.
        wait: Duration,
        /// Why.
        error: &'a HubError,
    },
    /// A file is whole, checked and in its place.
    Finished {
        /// Its name in the repository.
        file: &'a str,
    },
    /// A file is being read to compute its checksum.
    Hashed {
        /// Its name in the repository.
        file: &'a str,
        /// Bytes read.
        done: u64,
        /// Its whole size.
        size: u64,
    },
}

/// Receives [`Event`]s, and may stop the work. Any `FnMut(Event)` is one.
pub trait Progress {
    /// Takes note of `event`. Called often: once per block read.
    fn report(&mut self, event: Event<'_>);

    /// Whether to stop now; asked before each block. Partial files stay, to be resumed.
    fn cancelled(&self) -> bool {
        false
    }
}

impl<F: FnMut(Event<'_>)> Progress for F {
    fn report(&mut self, event: Event<'_>) {
        self(event);
    }
}
