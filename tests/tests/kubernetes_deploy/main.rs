//! cidrift as people install it: images, `kubectl apply -k`, real pods on real kubelets, `kubectl cidrift`; what each
//! right of it is for; what it lives through; and that nothing is left when it is removed.
// Helpers of tests may unwrap as tests may; clippy knows only the tests themselves.
#![allow(clippy::unwrap_used)]

mod ca;
mod constraints;
mod install;
mod life;
mod moved;
mod outage;
mod overlays;
mod removal;
mod rights;
mod stage;
mod units;
mod upgrade;
mod watching;
