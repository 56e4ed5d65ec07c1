//! Hooks: the tensors of a model by name, to look at and to change.
//!
//! A [`Spec`] (plain data) goes into [`Hooks`], which goes through the model: every interesting tensor passes
//! [`Hooks::at`], which returns it unchanged when nothing is asked. What was captured comes out as a [`Cache`].
//!
//! Changes are data ([`Edit`]), which is saved and replayed, or closures ([`Hooks::hook`]), which may decide from step to step.

mod block;
mod cache;
mod closure;
mod edit;
mod file;
mod model;
mod point;
mod read;
mod run;
mod site;
mod spec;

pub use block::{EditTensors, HookTensors};
pub use cache::{Cache, CaptureName, Captured};
pub use closure::{At, HookOutput, Row};
pub use edit::edit_tensor;
pub use file::EditFile;
pub use model::HookedModel;
pub use point::{HookPoint, PointError, edit_distance};
pub use read::read_floats;
pub use run::{HookError, Hooks};
pub use site::{AttnSite, Component, Dim, Inner, Network, Part, Site, Tensors, Time};
pub use spec::{Axis, Branch, Capture, Change, Edit, Reduce, Scope, Selector, Spec, Value};
