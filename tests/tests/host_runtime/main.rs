//! Real container runtimes on hosts of the lab: containerd 1.6 (Debian's) and 2.4.2, runc and CNI plugins. What the
//! agent reads of them over CRI is held against what is really there, and what they say when a sandbox fails against
//! the classes that the agent puts it in.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod check;
mod errand;
mod failing;
mod hanging;
mod latency;
mod leftover;
mod sandboxes;
mod stage;
mod template;
