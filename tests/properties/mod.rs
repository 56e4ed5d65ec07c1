//! What must hold whatever the numbers are.

mod batches;
mod hooks;
