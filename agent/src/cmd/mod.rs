//! What the program does when it is called for one thing and not as a daemon.

pub mod check;
