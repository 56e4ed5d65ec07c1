//! What must hold whatever the numbers are.

mod architecture;
mod batches;
mod closures;
mod diffusion_hooks;
mod hooks;
mod means;
mod own_model;
mod published;
mod rows;
mod training;
