//! What must hold whatever the numbers are.

mod architecture;
mod batches;
mod hooks;
